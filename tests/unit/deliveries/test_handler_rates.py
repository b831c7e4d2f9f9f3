"""The rate that a setting gives one handler."""

from pathlib import Path

import pytest

from service.deliveries.handler_loader import list_handlers, load_handlers
from service.domain.errors import BadSetting

MODULE = """
from service import Event, Handlers, HandlerSettings, Tools

handlers = Handlers()


class Settings(HandlerSettings):
    rate_limit: int = 5


@handlers.on("task.completed", name="my-handler", aliases=("former-name",), rate="6/m", settings=Settings)
async def sample(event: Event, tools: Tools[Settings]) -> None:
    pass
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a working directory with one handler, of 6 deliveries a minute."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "mine.py").write_text(MODULE)
    return tmp_path


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, 0.1),
        ({"RATE_MY_HANDLER": "30/s"}, 30.0),
        ({"RATE_FORMER_NAME": "120/m"}, 2.0),
        ({"RATE_FORMER_NAME": "120/m", "RATE_MY_HANDLER": "3600/h"}, 1.0),
        ({"RATE_WEBHOOK": "30/s", "RATE_LIMIT": "7"}, 0.1),
    ],
)
def test_setting_overrules_the_rate_of_the_module(directory: Path, settings: dict[str, str], expected: float) -> None:
    """By the handler's name in capitals with `_` for `-`, or by a former one; a setting that it declares is no rate."""
    loaded = load_handlers(None, settings, directory=directory)
    assert loaded["my-handler"].per_second == expected
    assert loaded["webhook"].per_second == (30.0 if "RATE_WEBHOOK" in settings else None)
    shown = {row.name: row.rate for row in list_handlers(None, settings, directory=directory)}
    assert {name: shown[name] for name in loaded} == {name: each.rate for name, each in loaded.items()}


@pytest.mark.parametrize("name", ["", "ARCHIVE", "WEBHOK", "webhook", "LOG_"])
def test_rate_of_no_loaded_handler_stops_the_start(directory: Path, name: str) -> None:
    """It would have no effect; the line lists what is loaded. `archive` is not, without its settings."""
    with pytest.raises(BadSetting, match=rf"BOOMERANG_RATE_{name} must .*; loaded are log, my-handler, webhook"):
        load_handlers(None, {f"RATE_{name}": "30/s"}, directory=directory)
