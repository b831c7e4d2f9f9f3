"""Finding and choosing handlers, and their errors."""

import sys
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType

import pytest
import structlog
from structlog.testing import capture_logs

from service.deliveries import handler_finder, handler_loader
from service.deliveries.handler_api import Event, Handlers, Tools
from service.deliveries.handler_loader import (
    discover,
    handler_schedules,
    list_handlers,
    load_handlers,
    needed_settings,
    survey,
)
from service.deliveries.unused_settings import unused_settings, unused_text
from service.domain.errors import BadHandler, BadSetting

SAMPLE = """
from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on("task.completed", name="NAME", OPTIONS)
async def sample(event: Event, tools: Tools) -> None:
    pass
"""


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Return a working directory with an empty `handlers/` in it."""
    (tmp_path / "handlers").mkdir()
    return tmp_path


def _write(directory: Path, file: str, *, name: str = "sample", options: str = "") -> Path:
    path = directory / "handlers" / file
    path.write_text(SAMPLE.replace("NAME", name).replace("OPTIONS", options))
    return path


def test_log_and_webhook_are_the_default(directory: Path) -> None:
    """Without settings the handlers are log, and webhook for what `notify` requests."""
    loaded = load_handlers(None, {}, directory=directory)
    assert sorted(loaded) == ["log", "webhook"]
    assert (loaded["log"].by_request, loaded["webhook"].by_request) == (False, True)


def test_webhook_gets_every_event_with_its_url(directory: Path) -> None:
    """With WEBHOOK_URL the webhook handler is not limited to requests."""
    assert not load_handlers(None, {"WEBHOOK_URL": "https://x.example/"}, directory=directory)["webhook"].by_request


def test_handler_is_loaded_when_its_settings_are_present(directory: Path) -> None:
    """Archive is loaded with ARCHIVE_URL, and not before; an empty value does not count."""
    assert "archive" not in load_handlers(None, {"ARCHIVE_URL": ""}, directory=directory)
    assert "archive" in load_handlers(None, {"ARCHIVE_URL": "file:///srv/videos"}, directory=directory)


def test_only_named_handlers_are_loaded(directory: Path) -> None:
    """HANDLERS chooses, and nothing else is loaded; an empty choice loads nothing."""
    _write(directory, "mine.py")
    assert list(load_handlers(["sample"], {}, directory=directory)) == ["sample"]
    assert load_handlers([], {}, directory=directory) == {}


GIVEN = {"WEBHOOK_URL": "https://x.example/", "ARCHIVE_URL": "file:///srv/videos", "TELEGRAM_TOKEN": "1:" + "x" * 35}


@pytest.mark.parametrize(
    ("names", "unnamed"),
    [(None, {}), (["webhook", "archive", "telegram"], {}), (["log", "archive"], {"webhook", "telegram"})],
)
def test_settings_of_a_handler_that_is_not_named_are_warned_of(names: list[str] | None, unnamed: set[str]) -> None:
    """WEBHOOK_URL posts nothing where HANDLERS lacks webhook, and so on: the warning has no value."""
    found = unused_settings(survey().handlers.values(), names, GIVEN)
    assert found.keys() == set(unnamed)
    for handler, settings in found.items():
        assert settings == [f"BOOMERANG_{name}" for name in GIVEN if name.startswith(handler.upper())]
        assert unused_text(handler, settings).endswith("has no effect")


def test_start_warns_of_settings_without_an_effect(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each handler."""
    with capture_logs() as lines:
        monkeypatch.setattr(handler_loader, "log", structlog.get_logger())
        load_handlers(["log"], GIVEN, directory=directory)
    warned = {line["handler"]: line["reason"] for line in lines if line["log_level"] == "warning"}
    assert warned.keys() == {"webhook", "archive", "telegram"}
    assert "BOOMERANG_WEBHOOK_URL has no effect" in warned["webhook"]


def test_unknown_name_stops_the_start(directory: Path) -> None:
    """A misspelt name is refused, with the nearest known one."""
    with pytest.raises(BadSetting, match=r"BOOMERANG_HANDLERS names 'webhok'.*did you mean webhook\?"):
        load_handlers(["webhok"], {}, directory=directory)
    with pytest.raises(BadSetting, match="known are archive, broker, discord, log, slack, telegram, webhook"):
        load_handlers(["zzz"], {}, directory=directory)


@pytest.mark.parametrize(
    ("notify", "near"), [("webhok", "webhook"), ("sampel", "sample"), ("former-sampel", "former-sample")]
)
def test_unknown_name_in_notify_handlers_stops_the_start(directory: Path, notify: str, near: str) -> None:
    """A misspelt name would forbid what the operator meant to allow; former names count too."""
    _write(directory, "sample.py", options="aliases=('former-sample',)")
    with pytest.raises(BadSetting, match=rf"BOOMERANG_NOTIFY_HANDLERS names '{notify}'.*did you mean {near}\?"):
        load_handlers(None, {}, notify=["webhook", notify], directory=directory)
    load_handlers(["log"], {}, notify=["webhook", "sample", "former-sample"], directory=directory)


def test_named_handler_needs_its_settings(directory: Path) -> None:
    """A named handler that lacks a setting stops the start, and the message names the setting."""
    with pytest.raises(BadSetting, match="'archive' needs BOOMERANG_ARCHIVE_URL"):
        load_handlers(["archive"], {}, directory=directory)


@pytest.mark.parametrize("address", ["ftp://bucket/videos", "file://host/videos", "file:videos", "/srv/videos"])
def test_wrong_archive_url_stops_the_start(directory: Path, address: str) -> None:
    """Archive accepts only a local directory or a bucket, and checks it at the start."""
    with pytest.raises(BadSetting, match="BOOMERANG_ARCHIVE_URL must name a local directory, like file:///srv/videos"):
        load_handlers(None, {"ARCHIVE_URL": address}, directory=directory)


def test_wrong_webhook_secrets_stop_the_start(directory: Path) -> None:
    """A secret that cannot sign is refused at the start, and not shown."""
    with pytest.raises(BadSetting, match="BOOMERANG_WEBHOOK_SECRETS must be whsec_") as refusal:
        load_handlers(None, {"WEBHOOK_SECRETS": "whsec_x"}, directory=directory)
    assert "whsec_x" not in str(refusal.value)


def test_local_directory_adds_to_the_built_in_handlers(directory: Path) -> None:
    """A module under `handlers/` in the working directory is found and shadows no built-in one."""
    path = _write(directory, "log.py")
    loaded = load_handlers(None, {}, directory=directory)
    assert sorted(loaded) == ["log", "sample", "webhook"]
    assert (loaded["sample"].origin, loaded["sample"].handle.__module__) == (str(path), "local_handlers.log")
    assert loaded["log"].handle.__module__ == "handlers.log"


def test_directories_are_not_confused(tmp_path: Path) -> None:
    """Two working directories with modules of the same name are separate."""
    for name in ("one", "two"):
        (tmp_path / name / "handlers").mkdir(parents=True)
        _write(tmp_path / name, "mine.py", name=name)
    assert "one" in discover(tmp_path / "one")
    found = discover(tmp_path / "two")
    assert ("one" in found, "two" in found) == (False, True)


def test_local_modules_may_share_helpers(directory: Path) -> None:
    """Modules may import each other relatively; one named with '_' is not a handler, and `__init__` is executed."""
    (directory / "handlers" / "__init__.py").write_text("WORD = 'word'\n")
    (directory / "handlers" / "_shared.py").write_text("from . import WORD\nNAME = WORD + '-sample'\n")
    path = _write(directory, "mine.py")
    path.write_text("from ._shared import NAME\n" + path.read_text().replace('name="sample"', "name=NAME"))
    assert "word-sample" in discover(directory)


def test_service_runs_without_a_local_directory(tmp_path: Path) -> None:
    """A working directory without `handlers/` is normal."""
    assert sorted(discover(tmp_path)) == ["archive", "broker", "discord", "log", "slack", "telegram", "webhook"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'.*BOOMERANG_HANDLERS_DIR"),
        ("def broken(:", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
    ],
)
def test_broken_module_stops_the_start(directory: Path, text: str, message: str) -> None:
    """The message names a module of handlers that cannot be imported, the reason and the fix."""
    path = directory / "handlers" / "mine.py"
    path.write_text(f"from service import Handlers\n{text}")
    with pytest.raises(BadHandler, match=message) as refusal:
        discover(directory)
    assert str(path) in str(refusal.value)


def test_broken_module_is_named_with_its_line(directory: Path) -> None:
    """The last executed line of the file itself, even if code that it calls raises."""
    path = directory / "handlers" / "mine.py"
    path.write_text("import json; from service import Handlers\n\njson.loads('{')\n")
    with pytest.raises(BadHandler) as refusal:
        discover(directory)
    assert str(refusal.value).startswith(f"{path}:3 cannot be imported: JSONDecodeError")


def test_broken_registration_names_its_file(directory: Path) -> None:
    """An error of the decorator is reported with its file."""
    path = _write(directory, "mine.py", options="attempts=0")
    with pytest.raises(BadHandler, match="needs attempts >= 1") as refusal:
        discover(directory)
    assert str(refusal.value).startswith(str(path))


@pytest.mark.parametrize("options", [{"name": "webhook"}, {"options": 'aliases=("webhook",)'}])
def test_name_taken_twice_names_both_files(directory: Path, options: dict[str, str]) -> None:
    """Two modules with one name, or with one's name as the other's alias, are both named."""
    path = _write(directory, "mine.py", **options)
    with pytest.raises(BadHandler, match="'webhook' is taken twice") as refusal:
        discover(directory)
    assert str(path) in str(refusal.value)
    assert str(Path("handlers", "webhook.py")) in str(refusal.value)


async def _handle(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> Handlers:
    """Install the module `sample_package`, whose `handlers` object is returned, with two entry points for it."""
    handlers = Handlers()
    handlers.on("task.completed", name="packaged")(_handle)
    module = ModuleType("sample_package")
    vars(module)["mine"] = handlers
    monkeypatch.setitem(sys.modules, "sample_package", module)
    _install_entry_points(monkeypatch, "sample_package", "sample_package:mine")
    return handlers


def _install_entry_points(monkeypatch: pytest.MonkeyPatch, *values: str) -> None:
    points = [
        EntryPoint(name=f"p{number}", value=value, group=handler_finder.GROUP) for number, value in enumerate(values)
    ]
    monkeypatch.setattr(handler_finder, "installed_entry_points", lambda _: points)


def test_entry_point_adds_handlers(installed: Handlers, directory: Path) -> None:
    """A package's entry point names a module or its `Handlers` object; both at once count once."""
    (handler,) = installed
    found = discover(directory)["packaged"]
    assert found.handle is handler.handle
    assert found.origin == "sample_package (boomerang.handlers)"


@pytest.mark.parametrize("value", ["nowhere_at_all", "sys:path", "json"])
def test_broken_entry_point_stops_the_start(monkeypatch: pytest.MonkeyPatch, directory: Path, value: str) -> None:
    """The message names an entry point that does not exist, or that has no handlers."""
    _install_entry_points(monkeypatch, value)
    with pytest.raises(BadHandler, match=value):
        discover(directory)


def test_list_contains_reasons(directory: Path) -> None:
    """Every handler that is found has a row: its origin, its events, and why it is not loaded."""
    rows = {row.name: row for row in list_handlers(None, {}, directory=directory)}
    assert (rows["log"].loaded, rows["log"].why, len(rows["log"].events)) == (True, "", 8)
    assert (rows["archive"].loaded, rows["archive"].why) == (False, "needs BOOMERANG_ARCHIVE_URL")
    assert rows["archive"].events == ("task.completed",)
    named = {row.name: row.why for row in list_handlers(["archive"], {}, directory=directory)}
    assert named == {
        "archive": "needs BOOMERANG_ARCHIVE_URL",
        "log": "not named by BOOMERANG_HANDLERS",
        "broker": "not named by BOOMERANG_HANDLERS",
        "discord": "not named by BOOMERANG_HANDLERS",
        "slack": "not named by BOOMERANG_HANDLERS",
        "telegram": "not named by BOOMERANG_HANDLERS",
        "webhook": "not named by BOOMERANG_HANDLERS",
    }


def test_list_contains_valid_and_broken_handlers(directory: Path) -> None:
    """Every broken handler is listed with its own error, beside the valid ones."""
    _write(directory, "good.py")
    _write(directory, "twice.py", name="webhook")
    (directory / "handlers" / "mine.py").write_text("import nowhere_at_all, service; service.Handlers()")
    rows = {row.name: row for row in list_handlers(None, {}, directory=directory)}
    assert [name for name, row in rows.items() if row.loaded] == ["log", "webhook", "sample"]
    assert {name: row.origin for name, row in rows.items() if row.broken} == {
        name: str(directory / "handlers" / f"{name}.py") for name in ("mine", "twice")
    }
    assert "mine.py:1 cannot be imported: ModuleNotFoundError" in rows["mine"].why
    assert "'webhook' is taken twice" in rows["twice"].why


def test_broken_package_of_handlers_is_one_row(directory: Path) -> None:
    """An error in its `__init__.py` concerns the whole package."""
    _write(directory, "mine.py")
    (directory / "handlers" / "__init__.py").write_text("raise ValueError('message')")
    for _ in range(2):
        assert [row.name for row in list_handlers(None, {}, directory=directory) if row.broken] == ["handlers"]
    (row,) = [row for row in list_handlers(None, {}, directory=directory) if row.broken]
    assert (row.name, "ValueError: message" in row.why) == ("handlers", True)


def test_settings_of_valid_handlers_are_known_beside_a_broken_one(directory: Path) -> None:
    """Only the start of the service needs all of them."""
    _write(directory, "mine.py", options='needs=("SAMPLE_URL",)')
    (directory / "handlers" / "broken.py").write_text("import nowhere_at_all, service; service.Handlers()")
    assert "SAMPLE_URL" in needed_settings(directory=directory, strict=False)
    with pytest.raises(BadHandler):
        needed_settings(directory=directory)


def test_settings_of_handlers_are_known(directory: Path) -> None:
    """The settings of handlers are known settings, those of local handlers too."""
    _write(directory, "mine.py", options='needs=("SAMPLE_URL",)')
    found = {
        name
        for name in needed_settings(directory=directory)
        if not name.startswith(("BROKER_", "DISCORD_", "SLACK_", "TELEGRAM_"))
    }
    assert found - {"CA_FILE", "PUBLIC_URL"} == {"ARCHIVE_URL", "WEBHOOK_URL", "SAMPLE_URL"}
    assert "TELEGRAM_TOKEN" in needed_settings(directory=directory)


def test_list_names_a_handler_that_is_not_found(tmp_path: Path) -> None:
    """An unknown name in HANDLERS is a broken row, since the service would not start with it."""
    [row] = [row for row in list_handlers(["log", "nope"], {}, directory=tmp_path) if row.name == "nope"]
    assert (row.loaded, row.broken) == (False, True)
    assert row.why is not None
    assert "BOOMERANG_HANDLERS" in row.why


@pytest.mark.parametrize(
    ("setting", "handlers"),
    [("MY_HANDLER", {"my-handler"}), ("FORMER_NAME", {"my-handler"}), ("WEBHOOK", {"webhook"})],
)
def test_schedule_belongs_to_the_handler_that_its_name_fits(directory: Path, setting: str, handlers: set[str]) -> None:
    """In capitals and with `_` for `-`; the former name of a handler counts too."""
    _write(directory, "mine.py", name="my-handler", options="aliases=('former-name',)")
    loaded = load_handlers(None, {}, schedules=[setting], directory=directory)
    assert handler_schedules(loaded, {setting: (timedelta(1),)}) == dict.fromkeys(handlers, (timedelta(1),))


def test_two_handlers_of_one_name_in_capitals_share_the_schedule(directory: Path) -> None:
    """`my-handler` and `my_handler` differ in no setting."""
    _write(directory, "one.py", name="my-handler")
    _write(directory, "two.py", name="my_handler")
    loaded = load_handlers(None, {}, schedules=["MY_HANDLER"], directory=directory)
    assert set(handler_schedules(loaded, {"MY_HANDLER": (timedelta(1),)})) == {"my-handler", "my_handler"}


@pytest.mark.parametrize("name", ["", "ARCHIVE", "WEBHOK", "webhook", "LOG_"])
def test_schedule_of_no_loaded_handler_stops_the_start(directory: Path, name: str) -> None:
    """It would have no effect; the line lists what is loaded. `archive` is not, without its settings."""
    with pytest.raises(BadSetting, match=rf"BOOMERANG_RETRY_SCHEDULE_{name} must .*; loaded are log, webhook"):
        load_handlers(None, {}, schedules=[name], directory=directory)
