"""Names that users import, register and configure."""

import inspect
import json
from dataclasses import fields
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import service
import service.sandbox
from service.cli import main
from service.sandbox import Sandbox, Switches
from tests.unit.frozen.snapshots import assert_frozen, assert_words

HANDLER_API = [
    *["Artifact", "Conflict", "Content", "Event", "Fault", "HandlerSettings", "HandlerState", "Handlers"],
    *[
        "InvalidTask",
        "Job",
        "NotFound",
        "NotifyOptions",
        "ObjectArchive",
        "OperatorEvent",
        "QueueIsFull",
        "Reject",
        "Retry",
    ],
    *["StoreUnavailable", "TaskView", "Tools", "UpstreamError", "data_uri"],
]
SANDBOX_API = ["Bill", "ConnectionCut", "First", "MediaExtraMissing", "Sandbox", "SwitchError", "Switches"]


def test_exports() -> None:
    """`from service import ...` and `from service.sandbox import ...`."""
    assert_words("exports of service", service.__all__, HANDLER_API)
    assert_words("exports of service.sandbox", service.sandbox.__all__, SANDBOX_API)
    for module in (service, service.sandbox):
        assert [name for name in module.__all__ if not hasattr(module, name)] == []


def parameters(what: object) -> list[str]:
    """Return the names of the parameters of a class or a function."""
    assert callable(what)
    return list(inspect.signature(what).parameters)


def test_handler_api() -> None:
    """Fields and parameters of the handler API."""
    assert_frozen("handler_api.json", handler_api())
    assert str(service.Reject("why")) == "why"


def handler_api() -> dict[str, object]:
    """Return the fields and parameters of the handler API."""
    now: dict[str, object] = {
        name: [field.name for field in fields(getattr(service, name))]
        for name in ("Artifact", "Content", "Event", "Job", "Tools")
    }
    for owner in (service.Handlers, service.Tools, service.HandlerState):
        methods = {name: each for name, each in vars(owner).items() if inspect.isfunction(each) and name[0] != "_"}
        now |= {f"{owner.__name__}.{name}": parameters(each) for name, each in methods.items()}
    methods_of_sandbox = [name for name in vars(Sandbox) if not name.startswith("_")]
    now |= {"Retry": parameters(service.Retry), "data_uri": parameters(service.data_uri)}
    return now | {"Sandbox": parameters(Sandbox), "Sandbox's own": sorted(methods_of_sandbox)}


def test_switches() -> None:
    """Every switch of the sandbox, with its default."""
    assert_frozen("switches.json", Switches().to_json())


def test_entry_points() -> None:
    """The command, and the group under which packages offer handlers."""
    (command,) = entry_points(group="console_scripts", name="boomerang")
    assert command.value == "service.cli:main"
    assert command.load() is main
    project = (Path(service.__file__).parents[1] / "pyproject.toml").read_text()
    assert '[project.entry-points."boomerang.handlers"]' in project


def test_handlers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of handlers, which deliveries and `notify` entries store, and every event type."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit):
        main(["handlers", "--json"])
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert_words("handlers", rows, {"archive", "broker", "discord", "log", "slack", "telegram", "webhook"})
    statuses = ("submitted", "progressed", "in_doubt", "completed", "failed", "canceled", "expired")
    assert_words("events of handlers", rows["log"]["events"], {f"task.{one}" for one in statuses} | {"artifact.stored"})
    assert_words(
        "fields of a handler",
        rows["log"],
        {
            "name",
            "origin",
            "events",
            "loaded",
            "why",
            "broken",
            "passed_over",
            "settings",
            "routes",
            "paused_at",
            "rate",
        },
    )
