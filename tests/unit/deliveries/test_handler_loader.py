"""Finding handlers, choosing them, and saying what is wrong with them."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest

from service.deliveries import handler_loader as plugins
from service.deliveries.handler_api import Event, Handlers, Tools
from service.deliveries.handler_loader import discover, list_handlers, load_handlers, needed_settings
from service.domain.errors import BadHandler, BadSetting

GUEST = """
from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on("task.completed", name="NAME", OPTIONS)
async def guest(event: Event, tools: Tools) -> None:
    pass
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a working directory with an empty `handlers/` in it."""
    (tmp_path / "handlers").mkdir()
    return tmp_path


def _write(place: Path, file: str, *, name: str = "guest", options: str = "") -> Path:
    path = place / "handlers" / file
    path.write_text(GUEST.replace("NAME", name).replace("OPTIONS", options))
    return path


def test_log_and_webhook_are_the_default(place: Path) -> None:
    """Without settings the handlers are log, and webhook for what `notify` asks for."""
    loaded = load_handlers(None, {}, directory=place)
    assert sorted(loaded) == ["log", "webhook"]
    assert (loaded["log"].by_request, loaded["webhook"].by_request) == (False, True)


def test_webhook_gets_every_event_with_its_address(place: Path) -> None:
    """With WEBHOOK_URL the webhook handler no longer waits to be asked for."""
    assert not load_handlers(None, {"WEBHOOK_URL": "https://x.example/"}, directory=place)["webhook"].by_request


def test_a_handler_is_loaded_once_its_settings_are_there(place: Path) -> None:
    """Archive appears with ARCHIVE_URL, and not before; an empty value is none."""
    assert "archive" not in load_handlers(None, {"ARCHIVE_URL": ""}, directory=place)
    assert "archive" in load_handlers(None, {"ARCHIVE_URL": "file:///srv/videos"}, directory=place)


def test_only_named_handlers_are_loaded(place: Path) -> None:
    """HANDLERS chooses, and nothing else is loaded; an empty choice loads nothing."""
    _write(place, "mine.py")
    assert list(load_handlers(["guest"], {}, directory=place)) == ["guest"]
    assert load_handlers([], {}, directory=place) == {}


def test_an_unknown_name_stops_the_start(place: Path) -> None:
    """A misspelt name is refused, with the nearest known one."""
    with pytest.raises(BadSetting, match=r"BOOMERANG_HANDLERS names 'webhok'.*did you mean webhook\?"):
        load_handlers(["webhok"], {}, directory=place)
    with pytest.raises(BadSetting, match="known are archive, log, webhook"):
        load_handlers(["zzz"], {}, directory=place)


def test_a_named_handler_needs_its_settings(place: Path) -> None:
    """A handler that was asked for and lacks a setting stops the start, and the message names the setting."""
    with pytest.raises(BadSetting, match="'archive' needs BOOMERANG_ARCHIVE_URL"):
        load_handlers(["archive"], {}, directory=place)


@pytest.mark.parametrize("address", ["s3://bucket/videos", "file://host/videos", "file:videos", "/srv/videos"])
def test_a_wrong_archive_address_stops_the_start(place: Path, address: str) -> None:
    """Archive takes only a local directory for now, and says so at the start."""
    with pytest.raises(BadSetting, match="BOOMERANG_ARCHIVE_URL must name a local directory, like file:///srv/videos"):
        load_handlers(None, {"ARCHIVE_URL": address}, directory=place)


def test_wrong_webhook_secrets_stop_the_start(place: Path) -> None:
    """A secret that cannot sign is refused at the start, and not shown."""
    with pytest.raises(BadSetting, match="BOOMERANG_WEBHOOK_SECRETS must be whsec_") as refusal:
        load_handlers(None, {"WEBHOOK_SECRETS": "whsec_x"}, directory=place)
    assert "whsec_x" not in str(refusal.value)


def test_a_local_directory_adds_to_the_built_in_ones(place: Path) -> None:
    """A module under `handlers/` in the working directory is found beside ours, and shadows none of them."""
    path = _write(place, "log.py")
    loaded = load_handlers(None, {}, directory=place)
    assert sorted(loaded) == ["guest", "log", "webhook"]
    assert (loaded["guest"].origin, loaded["guest"].handle.__module__) == (str(path), "local_handlers.log")
    assert loaded["log"].handle.__module__ == "handlers.log"


def test_another_directory_is_not_mistaken_for_the_first(tmp_path: Path) -> None:
    """Two working directories with modules of the same name are kept apart."""
    for name in ("one", "two"):
        (tmp_path / name / "handlers").mkdir(parents=True)
        _write(tmp_path / name, "mine.py", name=name)
    assert "one" in discover(tmp_path / "one")
    found = discover(tmp_path / "two")
    assert ("one" in found, "two" in found) == (False, True)


def test_local_modules_may_share_helpers(place: Path) -> None:
    """Modules may import each other relatively; one that begins with '_' is no handler, and `__init__` is run."""
    (place / "handlers" / "__init__.py").write_text("WORD = 'word'\n")
    (place / "handlers" / "_shared.py").write_text("from . import WORD\nNAME = WORD + '-guest'\n")
    path = _write(place, "mine.py")
    path.write_text("from ._shared import NAME\n" + path.read_text().replace('name="guest"', "name=NAME"))
    assert "word-guest" in discover(place)


def test_the_service_runs_without_a_local_directory(tmp_path: Path) -> None:
    """A working directory without `handlers/` is nothing unusual."""
    assert sorted(discover(tmp_path)) == ["archive", "log", "webhook"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("x = 1", "has no handlers: write `handlers = Handlers"),
    ],
)
def test_a_broken_module_stops_the_start(place: Path, text: str, message: str) -> None:
    """A module that cannot be imported, or registers nothing, is named with what is wrong."""
    path = place / "handlers" / "mine.py"
    path.write_text(text)
    with pytest.raises(BadHandler, match=message) as refusal:
        discover(place)
    assert str(path) in str(refusal.value)


def test_a_broken_module_is_named_with_the_line_that_broke(place: Path) -> None:
    """The last line of the file itself, even where what it calls raises."""
    path = place / "handlers" / "mine.py"
    path.write_text("import json\n\njson.loads('{')\n")
    with pytest.raises(BadHandler) as refusal:
        discover(place)
    assert str(refusal.value).startswith(f"{path}:3 cannot be imported: JSONDecodeError")


def test_a_broken_registration_names_its_file(place: Path) -> None:
    """What the decorator refuses is told with the file it stands in."""
    path = _write(place, "mine.py", options="attempts=0")
    with pytest.raises(BadHandler, match="needs attempts >= 1") as refusal:
        discover(place)
    assert str(refusal.value).startswith(str(path))


@pytest.mark.parametrize("options", [{"name": "webhook"}, {"options": 'aliases=("webhook",)'}])
def test_a_name_taken_twice_names_both_places(place: Path, options: dict[str, str]) -> None:
    """Two modules with one name, or with one's name as the other's alias, are both named."""
    path = _write(place, "mine.py", **options)
    with pytest.raises(BadHandler, match="'webhook' is taken twice") as refusal:
        discover(place)
    assert str(path) in str(refusal.value)
    assert str(Path("handlers", "webhook.py")) in str(refusal.value)


async def _handle(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Handlers:
    """Install the module `guest_package`, whose `handlers` object is returned, with two entry points for it."""
    handlers = Handlers()
    handlers.on("task.completed", name="packaged")(_handle)
    module = ModuleType("guest_package")
    vars(module)["mine"] = handlers
    monkeypatch.setitem(sys.modules, "guest_package", module)
    _point_at(monkeypatch, "guest_package", "guest_package:mine")
    return handlers


def _point_at(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    points = [EntryPoint(name=f"p{place}", value=value, group=plugins.GROUP) for place, value in enumerate(values)]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "boomerang.handlers" else [])


def test_an_entry_point_brings_handlers(installed: Handlers, place: Path) -> None:
    """A package's entry point names a module or its `Handlers` object; both at once are one and the same."""
    (handler,) = installed
    found = discover(place)["packaged"]
    assert found.handle is handler.handle
    assert found.origin == "guest_package (boomerang.handlers)"


@pytest.mark.parametrize("value", ["nowhere_at_all", "sys:path", "json"])
def test_a_broken_entry_point_stops_the_start(monkeypatch: pytest.MonkeyPatch, place: Path, value: str) -> None:
    """An entry point that leads nowhere, or to something without handlers, is named."""
    _point_at(monkeypatch, value)
    with pytest.raises(BadHandler, match=value):
        discover(place)


def test_describe_tells_why_not(place: Path) -> None:
    """Every handler that is found has a row: where from, for which events, loaded or why not."""
    rows = {row.name: row for row in list_handlers(None, {}, directory=place)}
    assert (rows["log"].loaded, rows["log"].why, len(rows["log"].events)) == (True, "", 8)
    assert (rows["archive"].loaded, rows["archive"].why) == (False, "needs BOOMERANG_ARCHIVE_URL")
    assert rows["archive"].events == ("task.completed",)
    named = {row.name: row.why for row in list_handlers(["archive"], {}, directory=place)}
    assert named == {
        "archive": "needs BOOMERANG_ARCHIVE_URL",
        "log": "not named by BOOMERANG_HANDLERS",
        "webhook": "not named by BOOMERANG_HANDLERS",
    }


def test_describe_shows_the_good_ones_beside_the_broken(place: Path) -> None:
    """Whoever looks for the reason sees every broken one, each with its own, and what is in order."""
    _write(place, "good.py")
    _write(place, "twice.py", name="webhook")
    (place / "handlers" / "mine.py").write_text("import nowhere_at_all")
    rows = {row.name: row for row in list_handlers(None, {}, directory=place)}
    assert [name for name, row in rows.items() if row.loaded] == ["log", "webhook", "guest"]
    assert {name: row.origin for name, row in rows.items() if row.broken} == {
        name: str(place / "handlers" / f"{name}.py") for name in ("mine", "twice")
    }
    assert "mine.py:1 cannot be imported: ModuleNotFoundError" in rows["mine"].why
    assert "'webhook' is taken twice" in rows["twice"].why


def test_a_broken_package_of_handlers_is_one_row(place: Path) -> None:
    """What its `__init__.py` raises concerns all of it."""
    (place / "handlers" / "__init__.py").write_text("raise ValueError('words')")
    (row,) = [row for row in list_handlers(None, {}, directory=place) if row.broken]
    assert (row.name, "ValueError: words" in row.why) == ("handlers", True)


def test_the_settings_of_the_good_handlers_are_known_beside_a_broken_one(place: Path) -> None:
    """Only whoever is to start needs them all."""
    _write(place, "mine.py", options='needs=("GUEST_URL",)')
    (place / "handlers" / "broken.py").write_text("import nowhere_at_all")
    assert "GUEST_URL" in needed_settings(directory=place, strict=False)
    with pytest.raises(BadHandler):
        needed_settings(directory=place)


def test_the_settings_of_handlers_are_known(place: Path) -> None:
    """What handlers need counts as a known setting, a user's handler's too."""
    _write(place, "mine.py", options='needs=("GUEST_URL",)')
    assert needed_settings(directory=place) == {"ARCHIVE_URL", "WEBHOOK_URL", "GUEST_URL"}
