"""The command `circuits`."""

import json
from collections.abc import Iterator

import click
import pytest

from service.cli import completion
from service.cli.circuits import circuits
from tests.unit.cli.fake_service import FakeService, fake_service, problem, run

CIRCUIT = {
    "key": "5f0c",
    "handler": "webhook",
    "host": "hooks.example",
    "client": "ann",
    "state": "open",
    "failures": 7,
    "retry_at": "2026-05-06T12:09:42.000Z",
    "last_error": "Retry: the receiver answered 503",
}
OF_HANDLER = CIRCUIT | {"key": "77aa", "host": None, "client": None, "handler": "log", "state": "busy"}


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service with two circuits."""
    with fake_service() as fake:
        fake.respond_to("GET /v1/circuits", (200, {"data": [CIRCUIT, OF_HANDLER], "next_cursor": None}))
        yield fake


def test_list(service: FakeService) -> None:
    """A table for a person, JSON on standard output."""
    result = run("circuits", url=service.url)
    assert result.exit_code == 0
    assert all(text in result.stderr for text in ("5f0c", "hooks.example", "handler log", "circuits close KEY"))
    assert json.loads(run("circuits", "list", "--json", url=service.url).stdout)["data"][1]["key"] == "77aa"
    assert run("circuits", "--json", "close", "x", url=service.url).exit_code == 2


def test_close(service: FakeService) -> None:
    """It prints what was closed; an unknown key fails the command."""
    service.respond_to("POST /v1/circuits/5f0c/close", (200, CIRCUIT | {"state": "closed"}))
    result = run("circuits", "close", "5f0c", url=service.url)
    assert (result.exit_code, "hooks.example of ann" in result.stderr, "closed" in result.stderr) == (0, True, True)
    service.respond_to("POST /v1/circuits/5f0c/close", (200, CIRCUIT | {"state": "closed"}))
    found = json.loads(run("circuits", "close", "5f0c", "--json", url=service.url).stdout)
    assert found["state"] == "closed"
    service.respond_to("POST /v1/circuits/none/close", (404, problem("there is no such circuit")))
    assert run("circuits", "close", "none", url=service.url).exit_code == 1


def test_keys_are_completed(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell completes the keys of the running service, and nothing without one."""
    monkeypatch.setenv("BOOMERANG_URL", service.url)
    assert [each.value for each in completion.circuits(click.Context(circuits), None, "5")] == ["5f0c"]
    monkeypatch.setenv("BOOMERANG_URL", "http://127.0.0.1:9")
    assert completion.circuits(click.Context(circuits), None, "") == []
