"""The commands `boomerang handlers new` and `boomerang handlers test`."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.cli.fake_service import run

FAILING = """
from service import Event, Handlers, NotifyOptions, Reject, Tools

handlers = Handlers()


class Target(NotifyOptions):
    chat: int


@handlers.on(name="failing", attempts=3)
async def failing(event: Event, tools: Tools) -> None:
    assert event.task.note == "test event of Boomerang"
    raise ValueError(f"{event.type} {event.metadata}")


@handlers.on(name="chat", by_request=True, options=Target)
async def chat(event: Event, tools: Tools[None, Target]) -> None:
    raise Reject(f"chat {tools.options.chat} is closed")
"""


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory without BOOMERANG_* variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOMERANG_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("BOOMERANG_LOG_LEVEL", "critical")


def test_new_handler_is_listed_with_its_settings_and_its_test_passes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are a working start; nothing is overwritten."""
    written = run("handlers", "new", "publish-video", "--json")
    files = ["handlers/publish_video.py", "handlers/test_publish_video.py"]
    assert json.loads(written.stdout) == {"name": "publish-video", "files": files}
    module, test = tmp_path / "handlers" / "publish_video.py", tmp_path / "handlers" / "test_publish_video.py"
    assert module.is_file()
    rows = {row["name"]: row for row in json.loads(run("handlers", "--json").stdout)}
    assert rows["publish-video"]["why"] == "needs BOOMERANG_PUBLISH_VIDEO_URL"
    assert [setting["name"] for setting in rows["publish-video"]["settings"]] == [
        "BOOMERANG_PUBLISH_VIDEO_URL",
        "BOOMERANG_PUBLISH_VIDEO_TOKEN",
    ]
    module.write_text(module.read_text() + "# changed\n")
    assert run("handlers", "new", "publish-video").exit_code == 2
    assert module.read_text().endswith("# changed\n")
    monkeypatch.setattr("service.cli.handlers.find_spec", lambda _: None)
    assert "Try `pytest handlers/test_other.py`, after `pip install pytest`." in run("handlers", "new", "other").stderr
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(test)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)  # noqa: S603 - our own
    assert result.returncode == 0, result.stdout
    assert "4 passed" in result.stdout


@pytest.mark.parametrize("name", ["webhook", "1st", "../x", "", "public", "a b"])
def test_unusable_name_writes_nothing(tmp_path: Path, name: str) -> None:
    """A name of another handler, of the service's own settings, or that is no name of a module."""
    assert run("handlers", "new", name).exit_code == 2
    assert list(tmp_path.iterdir()) == []


def test_values_of_settings_are_never_listed() -> None:
    """The list says only that they are set."""
    run("handlers", "new", "publish")
    env = {"BOOMERANG_PUBLISH_URL": "https://example.org/hidden-path", "BOOMERANG_PUBLISH_TOKEN": "hidden-token"}
    shown, data = run("handlers", env=env), run("handlers", "--json", env=env)
    assert "BOOMERANG_PUBLISH_TOKEN  set: token of the address" in shown.stderr
    assert "hidden" not in shown.stderr + data.stdout


def test_every_fault_of_declared_settings_is_reported_at_once() -> None:
    """Unknown names, missing and wrong values, each in one line, without any value."""
    run("handlers", "new", "publish")
    env = {"BOOMERANG_PUBLISH_URLS": "x", "BOOMERANG_LEASE": "soon", "BOOMERANG_HANDLERS": "publish"}
    lines = run("worker", env=env).stderr.splitlines()
    assert [
        line for line in lines if "BOOMERANG_PUBLISH_URLS is not a setting; did you mean BOOMERANG_PUBLISH_URL?" in line
    ]
    assert [line for line in lines if "handler 'publish' needs BOOMERANG_PUBLISH_URL" in line]
    assert [line for line in lines if "BOOMERANG_LEASE must be" in line]


def test_test_event_is_delivered() -> None:
    """The outcome is printed, and the exit code is 0."""
    result = run("handlers", "test", "log", "--json")
    assert (result.exit_code, json.loads(result.stdout)["outcome"]) == (0, "delivered")


def test_outcome_of_a_failing_handler(tmp_path: Path) -> None:
    """The exit code is 1 for an event that would be tried again, and for one that is rejected."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "own.py").write_text(FAILING)
    result = run("handlers", "test", "failing", "--event", "task.failed", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["outcome"], found["event"]) == (1, "retry", "task.failed")
    assert found["error"] == "ValueError: task.failed {'sample': True}"
    result = run("handlers", "test", "chat", "--target", '{"chat": 7}')
    assert result.exit_code == 1
    assert "Reject: chat 7 is closed" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nobody",), "there is no handler 'nobody'; loaded are"),
        (("archive",), "handler 'archive' is not configured here: it needs BOOMERANG_ARCHIVE_URL"),
        (("chat",), "give the entry with --target"),
        (("chat", "--target", "{"), "--target is no JSON"),
        (("chat", "--target", "[]"), "--target must be a JSON object"),
        (("chat", "--target", '{"chat": "x", "more": 1}'), "chat must be a whole number"),
    ],
)
def test_wrong_use_is_explained(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    """The exit code is 2, and nothing is delivered."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "own.py").write_text(FAILING)
    result = run("handlers", "test", *arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
