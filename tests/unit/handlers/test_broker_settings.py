"""BROKER_URL and its companions: what the start refuses, and what it says."""

from pathlib import Path

import pytest

from handlers import _broker_settings
from handlers._broker_settings import Settings, address_of
from handlers.broker import handlers
from service.deliveries.declared_settings import config_faults
from service.deliveries.handler_loader import list_handlers, ready_handlers
from service.domain.errors import BadSetting


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every library look installed: these tests connect to nothing."""
    monkeypatch.setattr(_broker_settings, "find_spec", lambda name: name)


def faults(**given: str) -> list[str]:
    """Return the faults of these settings."""
    return config_faults(Settings, {name.upper(): text for name, text in given.items()})


@pytest.mark.parametrize(
    "url",
    [
        "nats://localhost",
        "nats://me:p%40ss@one:4222,nats://me:p%40ss@two:4222",
        "tls://token@nats.example",
        "redis://localhost:6379/0",
        "rediss://:secret@cache.example:6380",
        "amqp://me:secret@localhost/",
        "amqps://me:secret@mq.example/%2Fvideos?heartbeat=30",
        "NATS://localhost",
    ],
)
def test_addresses(url: str) -> None:
    """Each broker has its schemes; several NATS servers have commas between."""
    assert faults(broker_url=url) == []


@pytest.mark.parametrize(
    "url",
    [
        "kafka://localhost",
        "localhost:4222",
        "nats:///stream",
        "nats://localhost:0",
        "nats://localhost:99999",
        "nats://one,redis://two",
        "redis://one,redis://two",
        "amqp://me:p#ss@mq.example/",
        "amqp://me:p@ss@mq.example/",
        "amqp://me:p/ss@mq.example/",
        "nats://[::1",
    ],
)
def test_wrong_addresses(url: str) -> None:
    """An unknown scheme, no host, a wrong port, or a password whose # @ / are not encoded; the value is not shown."""
    (fault,) = faults(broker_url=url)
    assert fault.startswith("BOOMERANG_BROKER_URL must be nats://HOST")
    assert "ss@" not in fault
    assert "%40" in fault


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [
        ("nats://localhost", "nats", "nats"),
        ("rediss://localhost", "redis", "redis"),
        ("amqp://localhost", "aio_pika", "rabbitmq"),
        ("sqs://eu-west-1", "aiobotocore", "sqs"),
        ("redis://localhost", "cloudevents", "redis"),
    ],
)
def test_missing_extra(url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that is not installed stops the start, with the command that installs it."""
    monkeypatch.setattr(_broker_settings, "find_spec", lambda name: None if name == package else name)
    with pytest.raises(BadSetting) as raised:
        ready_handlers({each.name: each for each in handlers}, None, {"BROKER_URL": url, "BROKER_QUEUE": "q"})
    assert "BOOMERANG_BROKER_URL is an address of" in str(raised.value)
    assert f"pip install 'boomerang-service[{extra}]'" in str(raised.value)


def test_every_extra_is_declared() -> None:
    """The package installs what the message names."""
    from importlib.metadata import metadata  # noqa: PLC0415 - only here

    declared = set(metadata("boomerang-service").get_all("Provides-Extra") or ())
    if "nats" not in declared:
        pytest.skip("the package was installed before it had these extras")
    assert {kind.extra for kind in _broker_settings.KINDS.values()} <= declared


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("broker_subject", "videos.>", "must be letters, digits, - and _, with dots between, without wildcards"),
        ("broker_subject", "a b", "must be letters, digits, - and _, with dots between, without wildcards"),
        ("broker_type_prefix", "Videos!", "must be a reversed domain name like com.example"),
        ("broker_events", "task.done", "must be names of events with commas between; known are artifact.stored, "),
        ("broker_max_length", "0", "must be greater than or equal to 1"),
    ],
)
def test_other_faults(name: str, text: str, fault: str) -> None:
    """Each names the setting and what is allowed."""
    (found,) = faults(broker_url="nats://localhost", **{name: text})
    assert found.startswith(f"BOOMERANG_{name.upper()} {fault}")


def test_queue_of_sqs() -> None:
    """SQS needs the name of a queue."""
    (fault,) = faults(broker_url="sqs://eu-west-1")
    assert "BOOMERANG_BROKER_QUEUE must name the queue" in fault
    assert faults(broker_url="sqs://eu-west-1", broker_queue="videos.fifo") == []


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({}, "urn:boomerang"),
        ({"public_url": "https://videos.example"}, "https://videos.example"),
        ({"public_url": "https://videos.example", "broker_source": "/videos"}, "/videos"),
    ],
)
def test_source(given: dict[str, str], source: str) -> None:
    """Events name the public address, or what the operator chose."""
    assert Settings.model_validate({"broker_url": "nats://localhost", **given}).source == source


def test_events_are_those_of_the_service() -> None:
    """The list of events in the handler is complete."""
    (handler,) = handlers
    assert handler.events == _broker_settings.EVENTS


def test_user_and_password_are_decoded() -> None:
    """What is written percent-encoded is sent as it is meant, and is no part of the address."""
    found = address_of("nats://na%3Ame:p%40s%23s@h.example:4222")
    assert (found.user, found.password, found.url) == ("na:me", "p@s#s", "nats://h.example:4222")
    assert "p@s#s" not in repr(Settings.model_validate({"broker_url": "nats://na:p%40s%23s@h"}))


def test_broker_is_loaded_only_with_an_address(tmp_path: Path) -> None:
    """Without BROKER_URL the handler is there and not loaded, whether or not any library is installed."""
    (row,) = [row for row in list_handlers(None, {}, directory=tmp_path) if row.name == "broker"]
    assert (row.loaded, vars(row)["why"]) == (False, "needs BOOMERANG_BROKER_URL")
