"""The command `boomerang handlers`."""

import json
import os
from pathlib import Path

import pytest

from tests.unit.cli.fake_service import run


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory without BOOMERANG_* variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOMERANG_")]:
        monkeypatch.delenv(name)


def test_handlers_lists_loaded_and_missing_handlers() -> None:
    """Each handler is listed; one that is not loaded has the reason."""
    rows = {row["name"]: row for row in json.loads(run("handlers", "--json").stdout)}
    assert rows["log"]["loaded"]
    assert not rows["archive"]["loaded"]
    assert "BOOMERANG_ARCHIVE_URL" in rows["archive"]["why"]
    shown = run("handlers").stderr
    assert "archive\n  is    not loaded: needs BOOMERANG_ARCHIVE_URL" in shown
    assert "log\n  is    loaded" in shown
    assert "every event" in shown


def test_rate_in_force_is_shown() -> None:
    """The list has the rate of a setting; a wrong one is named."""
    result = run("handlers", env={"BOOMERANG_RATE_LOG": "30/s"})
    assert result.exit_code == 0
    assert "\n  rate  30/s\n" in result.stderr
    wrong = run("handlers", env={"BOOMERANG_RATE_LOG": "often"})
    assert (wrong.exit_code, "BOOMERANG_RATE_LOG must be deliveries for a time" in wrong.stderr) == (2, True)


def test_broken_handler_is_listed_with_its_error(tmp_path: Path) -> None:
    """A handler that cannot be imported is listed with the error, and the exit code is 1."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "publish.py").write_text("import nowhere_at_all, service; service.Handlers()")
    result = run("handlers")
    assert result.exit_code == 1
    assert "log\n  is    loaded" in result.stderr
    assert "publish\n  is    broken: " in result.stderr
    assert "publish.py:1 cannot be imported: ModuleNotFoundError" in " ".join(result.stderr.split())
    result = run("handlers", "--json")
    assert (result.exit_code, [row["broken"] for row in json.loads(result.stdout)].count(True)) == (1, 1)


def test_setting_of_a_broken_handler_is_not_reported(tmp_path: Path) -> None:
    """The settings of a broken handler are unknown, so that only the handler is reported."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "publish.py").write_text("import nowhere_at_all, service; service.Handlers()")
    result = run("handlers", env={"BOOMERANG_PUBLISH_TO": "there"})
    assert (result.exit_code, "publish.py:1 cannot be imported" in result.stderr) == (2, True)
    assert "BOOMERANG_PUBLISH_TO" not in result.stderr


def test_modules_that_are_passed_over_are_listed_with_the_reason(tmp_path: Path) -> None:
    """The modules of another application are shown, and the exit code is that of a valid configuration."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "users.py").write_text("import nowhere_at_all")
    result = run("handlers")
    assert result.exit_code == 0
    assert "users\n  is    passed over: it does not import `Handlers` from `service`" in result.stderr
    assert f"from  {tmp_path / 'handlers' / 'users.py'}" in result.stderr
