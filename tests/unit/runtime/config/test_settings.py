"""Which settings are accepted and refused, and with which messages."""

import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import ValidationError

from service.deliveries.egress_policy import Egress
from service.domain.api_key import ApiKey
from service.domain.errors import BadSetting
from service.runtime.config.settings import Settings, load_settings

KEY = "k" * 32
WEBHOOK = "whsec_" + "A" * 32
OPTIONAL = (
    "upstream_key",
    "public_url",
    "handlers",
    "poll_first",
    "max_in_flight",
    "budget",
    "credit_price",
    "client_budget",
    "client_max_in_flight",
    "client_rate",
    "webhook_url",
    "archive_url",
)
ROOT = Path(__file__).resolve().parents[4]


def load(**given: str) -> Settings:
    """Load settings whose names have no prefix."""
    return load_settings({f"BOOMERANG_{name}": value for name, value in given.items()})


def faults(environ: dict[str, str]) -> list[str]:
    """Return the lines of the refusal of `environ`."""
    with pytest.raises(BadSetting) as refusal:
        load_settings(environ)
    return str(refusal.value).splitlines()


def test_empty_environment_gives_the_documented_defaults() -> None:
    """An empty environment gives the defaults of the table of settings."""
    settings = load_settings({})
    assert settings.provider == "vtrix"
    assert settings.upstream_url == "https://cloud.vtrix.ai"
    assert settings.database_url == "sqlite:///boomerang.db"
    assert (settings.confirm, settings.on_in_doubt) == ("always", "fail")
    assert (settings.task_deadline, settings.off_peak_deadline) == (timedelta(hours=2), timedelta(hours=49))
    assert (settings.in_doubt_for, settings.poll_max) == (timedelta(minutes=15), timedelta(minutes=5))
    assert (settings.upstream_rate, settings.upstream_concurrency) == (10.0, 16)
    assert settings.retry_schedule[:3] == (timedelta(0), timedelta(seconds=5), timedelta(seconds=30))
    assert len(settings.retry_schedule) == 9
    assert (settings.lease, settings.retention) == (timedelta(seconds=60), timedelta(days=30))
    assert (settings.port, settings.log_level, settings.allow_off_peak) == (8080, "info", False)
    assert {getattr(settings, name) for name in OPTIONAL} == {None}


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("PROVIDER", "vidu", "vidu"),
        ("PROVIDER", "Vidu", "vidu"),
        ("UPSTREAM_URL", "http://127.0.0.1:9/", "http://127.0.0.1:9"),
        ("UPSTREAM_KEY", " key ", "key"),
        ("PUBLIC_URL", "https://example.org/prefix/", "https://example.org/prefix"),
        ("DATABASE_URL", "postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("DATABASE_URL", "postgresql+psycopg://u:p@h/d?sslmode=require", "postgresql://u:p@h/d?sslmode=require"),
        ("DATABASE_URL", "sqlite+aiosqlite:////srv/b.db", "sqlite:////srv/b.db"),
        ("SECRET_KEYS", f"{KEY}1, {KEY}2", (f"{KEY}1", f"{KEY}2")),
        ("HANDLERS", "log, archive", ("log", "archive")),
        ("CONFIRM", "never", "never"),
        ("TASK_DEADLINE", "90m", timedelta(minutes=90)),
        ("IN_DOUBT_FOR", "30s", timedelta(seconds=30)),
        ("ON_IN_DOUBT", "resubmit", "resubmit"),
        ("POLL_FIRST", "500ms", timedelta(milliseconds=500)),
        ("POLL_MAX", "1h", timedelta(hours=1)),
        ("UPSTREAM_RATE", "600/m", 10.0),
        ("UPSTREAM_RATE", "0.5/s", 0.5),
        ("UPSTREAM_CONCURRENCY", "1", 1),
        ("MAX_IN_FLIGHT", "5", 5),
        ("RETRY_SCHEDULE", "0s, 1m", (timedelta(0), timedelta(minutes=1))),
        ("LEASE", "1s", timedelta(seconds=1)),
        ("RETENTION", "1d", timedelta(days=1)),
        ("BUDGET", "12.50", Decimal("12.50")),
        ("BUDGET", "0", Decimal(0)),
        ("WEBHOOK_URL", "https://example.org/hook?team=1", "https://example.org/hook?team=1"),
        ("WEBHOOK_SECRETS", WEBHOOK, (WEBHOOK,)),
        ("ARCHIVE_URL", "file:///srv/videos", "file:///srv/videos"),
        ("EGRESS_ALLOW", "127.0.0.0/8,::1,media.internal", ("127.0.0.0/8", "::1", "media.internal")),
        ("LOG_FORMAT", "console", "console"),
        ("LOG_LEVEL", "DEBUG", "debug"),
        ("ALLOW_OFF_PEAK", "true", True),
        ("PORT", "0", 0),
        ("WEB_CONCURRENCY", "2", 2),
    ],
)
def test_valid_setting_becomes_its_value(name: str, text: str, expected: object) -> None:
    """Each setting is parsed into its type."""
    assert getattr(load(**{name: text}), name.lower()) == expected


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("PROVIDER", "openai"),
        ("UPSTREAM_URL", "cloud.vtrix.ai"),
        ("PUBLIC_URL", "https://example.org/?a=1"),
        ("PUBLIC_URL", "https://example.org/#top"),
        ("PUBLIC_URL", "https://user@example.org"),
        ("PUBLIC_URL", "ftp://example.org"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://example.org:99999"),
        ("PUBLIC_URL", "https://exa mple.org"),
        ("DATABASE_URL", "mysql://h/d"),
        ("DATABASE_URL", "sqlite://"),
        ("DATABASE_URL", "sqlite:///:memory:"),
        ("SECRET_KEYS", "short"),
        ("SECRET_KEYS", f"{KEY},,"),
        ("API_KEYS", "alice"),
        ("API_KEYS", "alice=12345678:administrator"),
        ("API_KEYS", "alice=short"),
        ("API_KEYS", "alice=12345678,bob=12345678"),
        ("HANDLERS", "log,,archive"),
        ("CONFIRM", "sometimes"),
        ("TASK_DEADLINE", "0s"),
        ("TASK_DEADLINE", "2 h"),
        ("TASK_DEADLINE", "99999999999d"),
        ("POLL_FIRST", "1.5s"),
        ("UPSTREAM_RATE", "10"),
        ("UPSTREAM_RATE", "0/s"),
        ("UPSTREAM_CONCURRENCY", "0"),
        ("MAX_IN_FLIGHT", "-1"),
        ("RETRY_SCHEDULE", "0s,soon"),
        ("LEASE", "500ms"),
        ("BUDGET", "-1"),
        ("BUDGET", "NaN"),
        ("BUDGET", "lots"),
        ("WEBHOOK_URL", "https://example.org/#here"),
        ("WEBHOOK_SECRETS", "whsec_short"),
        ("WEBHOOK_SECRETS", "A" * 32),
        ("ARCHIVE_URL", "/srv/videos"),
        ("ARCHIVE_URL", "file://server/videos"),
        ("EGRESS_ALLOW", "10.0.0.0/99"),
        ("EGRESS_ALLOW", "http://media.internal"),
        ("EGRESS_ALLOW", "media.internal:0"),
        ("EGRESS_ALLOW", "10.0.0.999"),
        ("EGRESS_ALLOW", "127.1"),
        ("EGRESS_ALLOW", "a" * 64),
        ("LOG_FORMAT", "xml"),
        ("LOG_LEVEL", "loud"),
        ("ALLOW_OFF_PEAK", "perhaps"),
        ("PORT", "65536"),
        ("WEB_CONCURRENCY", "many"),
    ],
)
def test_invalid_setting_gives_one_line_with_its_name(name: str, text: str) -> None:
    """An invalid value stops the start with one line: the name of the setting and what is allowed."""
    (line,) = faults({f"BOOMERANG_{name}": text})
    assert line.startswith(f"BOOMERANG_{name} must ")


@pytest.mark.parametrize("text", ["10.0.0.1/8", "media.internal,::1/64", "10.0.0.1/8:80"])
def test_network_with_host_bits_is_refused_with_the_fix(text: str) -> None:
    """The line shows the network without the host bits."""
    (line,) = faults({"BOOMERANG_EGRESS_ALLOW": text})
    assert line.endswith("nothing set behind their mask, like 10.0.0.0/8, not 10.0.0.1/8")


@pytest.mark.parametrize(
    "text", ["10.0.0.0/8", "::/64", "[::1]:8080", "[::1]", "10.0.0.0/8:80", "10.0.0.7:80", "a_b.c", "media.internal."]
)
def test_egress_guard_accepts_every_valid_entry(text: str) -> None:
    """No entry is accepted by the setting and refused by the guard."""
    assert load_settings({"BOOMERANG_EGRESS_ALLOW": text}).egress_allow == (text,)
    Egress([text])


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        ("SECRET_KEYS", "hunter2"),
        ("API_KEYS", "alice=hunter2"),
        ("WEBHOOK_SECRETS", "whsec_hunter2"),
        ("DATABASE_URL", "mysql://u:hunter2@h/d"),
    ],
)
def test_refused_secret_is_not_repeated(name: str, secret: str) -> None:
    """The message about an invalid secret does not contain it."""
    assert "hunter2" not in "".join(faults({f"BOOMERANG_{name}": secret}))


def test_all_invalid_settings_are_reported_together() -> None:
    """Each invalid setting gives one line."""
    lines = faults({"BOOMERANG_LEASE": "x", "BOOMERANG_BUDGET": "x", "BOOMERANG_LEESE": "1s"})
    assert [line.split()[0] for line in lines] == ["BOOMERANG_LEESE", "BOOMERANG_LEASE", "BOOMERANG_BUDGET"]


def test_unknown_name_is_refused_with_the_nearest_one() -> None:
    """A misspelt name cannot leave a default in force unnoticed."""
    assert faults({"BOOMERANG_CONFRIM": "never"}) == [
        "BOOMERANG_CONFRIM is not a setting; did you mean BOOMERANG_CONFIRM?"
    ]


@pytest.mark.parametrize("name", ["URL", "API_KEY", "TEST_POSTGRES_URL", "HANDLER_PUBLISH_TOKEN"])
def test_names_of_clients_tests_and_handlers_are_accepted(name: str) -> None:
    """The settings of client commands, tests and handlers are not unknown names."""
    assert load(**{name: "anything"}).provider == "vtrix"


def test_name_that_a_handler_needs_is_accepted_and_present() -> None:
    """Names that installed handlers need are not unknown names, and handlers see them."""
    settings = load_settings({"BOOMERANG_PUBLISH_TO": "there"}, needed={"PUBLISH_TO"})
    assert settings.present == {"PUBLISH_TO": "there"}


def test_handlers_see_given_settings_without_keys() -> None:
    """`present` has the given settings without their prefix, but no keys and no database address."""
    settings = load_settings(
        {
            "BOOMERANG_ARCHIVE_URL": "file:///srv",
            "BOOMERANG_HANDLER_X": "1",
            "BOOMERANG_LEASE": "",
            "BOOMERANG_SECRET_KEYS": KEY,
            "BOOMERANG_API_KEYS": "alice=12345678",
            "BOOMERANG_UPSTREAM_KEY": "key",
            "BOOMERANG_API_KEY": "12345678",
            "DATABASE_URL": "postgres://u:p@h/d",
            "PORT": "9",
            "HOME": "/root",
        }
    )
    assert settings.present == {"ARCHIVE_URL": "file:///srv", "HANDLER_X": "1", "PORT": "9"}


def test_repr_contains_no_secret() -> None:
    """The repr of the settings contains no key, no password and no secret."""
    settings = load_settings(
        {
            "BOOMERANG_SECRET_KEYS": "hunter2" * 8,
            "BOOMERANG_API_KEYS": "alice=hunter2-hunter2",
            "BOOMERANG_UPSTREAM_KEY": "hunter2",
            "BOOMERANG_DATABASE_URL": "postgresql://u:hunter2@h/d",
            "BOOMERANG_WEBHOOK_SECRETS": WEBHOOK,
            "BOOMERANG_HANDLER_TOKEN": "hunter2",
        }
    )
    assert "hunter2" not in repr(settings)
    assert WEBHOOK not in repr(settings)


def test_api_keys_name_their_clients_and_admins() -> None:
    """`name=key` is a client, `name=key:admin` an admin; one client may have two keys."""
    settings = load(API_KEYS="alice=alice-key, alice=alice-key-2, root=root-key:admin")
    assert settings.api_keys == (
        ApiKey(name="alice", key="alice-key"),
        ApiKey(name="alice", key="alice-key-2"),
        ApiKey(name="root", key="root-key", admin=True),
    )


def test_error_of_the_model_does_not_contain_the_value() -> None:
    """A settings object that is created directly hides invalid values too."""
    with pytest.raises(ValidationError) as refusal:
        Settings(secret_keys="hunter2", confirm="hunter2")  # type: ignore[arg-type]
    assert "hunter2" not in str(refusal.value)
    assert "hunter2" not in repr(refusal.value)


@pytest.mark.parametrize("command", ["--help", "secret"])
def test_command_without_settings_does_not_import_pydantic(command: str) -> None:
    """Commands that read no settings start without the cost of pydantic, some 65 ms."""
    program = (
        "import sys; from contextlib import suppress; from service.cli import main\n"
        f"sys.argv[1:] = [{command!r}]\n"
        "with suppress(SystemExit): main()\n"
        "sys.exit('pydantic' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, capture_output=True)  # noqa: S603 - constant
