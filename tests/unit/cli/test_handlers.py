"""The command `boomerang handlers`."""

import json
import os
from pathlib import Path

import pytest

from tests.unit.cli.fake_service import run


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory, with no setting of the tester's."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOMERANG_")]:
        monkeypatch.delenv(name)


def test_handlers_shows_what_is_loaded_and_why_not() -> None:
    """Every handler that is found is listed, with its origin."""
    rows = {row["name"]: row for row in json.loads(run("handlers", "--json").stdout)}
    assert rows["log"]["loaded"]
    assert not rows["archive"]["loaded"]
    assert "BOOMERANG_ARCHIVE_URL" in rows["archive"]["why"]
    shown = run("handlers").stderr
    assert "archive\n  is    not loaded: needs BOOMERANG_ARCHIVE_URL" in shown
    assert "log\n  is    loaded" in shown
    assert "every event" in shown


def test_handlers_shows_a_broken_one_beside_the_others(tmp_path: Path) -> None:
    """Whoever looks for a handler that does not run reads why, and the exit code says that something is wrong."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "publish.py").write_text("import nowhere_at_all")
    result = run("handlers")
    assert result.exit_code == 1
    assert "log\n  is    loaded" in result.stderr
    assert "publish\n  is    broken: " in result.stderr
    assert "publish.py:1 cannot be imported: ModuleNotFoundError" in " ".join(result.stderr.split())
    told = run("handlers", "--json")
    assert (told.exit_code, [row["broken"] for row in json.loads(told.stdout)].count(True)) == (1, 1)


def test_a_setting_of_a_broken_handler_is_no_misspelling(tmp_path: Path) -> None:
    """What it needs cannot be known: the handler is told, not the setting."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "publish.py").write_text("import nowhere_at_all")
    told = run("handlers", env={"BOOMERANG_PUBLISH_TO": "there"})
    assert (told.exit_code, "publish.py:1 cannot be imported" in told.stderr) == (2, True)
    assert "BOOMERANG_PUBLISH_TO" not in told.stderr
