"""The directory of handlers may belong to another application: its modules are not run, local ones are found."""

import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.deliveries import handler_loader
from service.deliveries.handler_loader import discover, list_handlers, load_handlers
from service.domain.errors import BadHandler, BadSetting

REGISTER = """
@handlers.on("task.completed", name="sample")
async def sample(event, tools) -> None:
    pass
"""
MODULE = f"from service import Handlers\n\nhandlers = Handlers()\n{REGISTER}"
EFFECT = "from pathlib import Path\nPath(__file__).with_suffix('.ran').touch()\n"
FOREIGN: dict[str, str | bytes] = {
    "__init__.py": EFFECT + "from missing_flask import app\n",
    "users.py": EFFECT + "import missing_django\nfrom .orders import Order\n",
    "orders.py": EFFECT + "from service import OrderService\nraise SystemExit(3)\n",
    "own_class.py": EFFECT + "class Handlers: ...\nhandlers = Handlers()\n",
    "other_class.py": EFFECT + "from absent_package import Handlers\nhandlers = Handlers()\n",
    "python_two.py": "print 'hello'\n",
    "latin.py": b"# caf\xe9\nx = 1\n",
    "null.py": b"x = 1\0",
    "my-view.py": EFFECT,
    "a.b.py": EFFECT,
}
BUILT_IN = ["archive", "broker", "discord", "log", "slack", "telegram", "webhook"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the `handlers/` of another application in an empty working directory."""
    folder = tmp_path / "handlers"
    folder.mkdir()
    for name, code in FOREIGN.items():
        (folder / name).write_bytes(code if isinstance(code, bytes) else code.encode())
    return folder


def write(folder: Path, **modules: str) -> None:
    """Write modules into a directory."""
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)


def test_modules_of_another_application_do_not_run(folder: Path) -> None:
    """They neither stop the start nor have effects, and each is listed with the reason."""
    assert sorted(load_handlers(None, {}, directory=folder.parent)) == ["log", "webhook"]
    assert list(folder.glob("*.ran")) == []
    rows = [row for row in list_handlers(None, {}, directory=folder.parent) if row.name not in BUILT_IN]
    assert sorted(Path(row.origin).name for row in rows) == sorted(set(FOREIGN) - {"__init__.py"})
    assert not any(row.broken or row.loaded for row in rows)
    assert {row.why for row in rows} == {"passed over: it does not import `Handlers` from `service`"}


def test_files_that_are_passed_over_are_logged_for_debugging(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line for each file, below the usual level."""
    import structlog  # noqa: PLC0415 - a logger of the captured configuration

    with capture_logs() as lines:
        monkeypatch.setattr(handler_loader, "log", structlog.get_logger())
        load_handlers(None, {}, directory=folder.parent)
    assert len(lines) == len(FOREIGN) - 1
    assert {line["log_level"] for line in lines} == {"debug"}


def test_own_module_beside_them_is_loaded(folder: Path) -> None:
    """The package of another application that cannot run is named, because our module needs it."""
    write(folder, mine=MODULE)
    with pytest.raises(BadHandler, match="missing_flask"):
        discover(folder.parent)
    (folder / "__init__.py").unlink()
    assert "sample" in discover(folder.parent)


@pytest.mark.parametrize(
    "modules",
    [
        {"mine": MODULE},
        {"my-handler": MODULE},
        {"__init__": MODULE},
        {"mine": f"import service\n\nhandlers = service.Handlers()\n{REGISTER}"},
        {"mine": f"import service as s\n\nhandlers = s.Handlers()\n{REGISTER}"},
        {"mine": f"from service import *\n\nhandlers = Handlers()\n{REGISTER}"},
        {"mine": f"from service.deliveries.handler_api import Handlers as H\n\nhandlers = H()\n{REGISTER}"},
        {
            "_shared": "from service import Handlers\nhandlers = Handlers()\n",
            "mine": f"from ._shared import handlers\n{REGISTER}",
        },
        {
            "__init__": "from service import Handlers\nhandlers = Handlers()\n",
            "mine": f"from . import handlers\n{REGISTER}",
        },
        {
            "_a": "from service import Handlers\nhandlers = Handlers()\n",
            "_b": "from ._a import handlers\n",
            "mine": f"from ._b import handlers\n{REGISTER}",
        },
    ],
)
def test_modules_that_register_handlers_are_found(tmp_path: Path, modules: dict[str, str]) -> None:
    """In every spelling of the import, through a neighbour, in the package itself and under a name with a dash."""
    (tmp_path / "handlers").mkdir()
    write(tmp_path / "handlers", **modules)
    assert "sample" in discover(tmp_path)


@pytest.mark.parametrize(
    "code", ["handlers = Handlers()\n" + REGISTER, MODULE + "def broken(:\n", MODULE + "import no_such_thing\n"]
)
def test_broken_module_of_handlers_is_not_passed_over(folder: Path, code: str) -> None:
    """An import that is left out, a slip of syntax and a missing library stop the start with the file and the fix."""
    (folder / "__init__.py").unlink()
    write(folder, mine=code)
    with pytest.raises(BadHandler, match=r"mine\.py.*cannot be imported: .*; repair it, .*BOOMERANG_HANDLERS_DIR"):
        discover(folder.parent)


def test_file_instead_of_the_directory_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`handlers.py` is not loaded; if it registers handlers a warning says where it belongs."""
    import structlog  # noqa: PLC0415 - a logger of the captured configuration

    for code, level in (("x = 1", "debug"), (MODULE, "warning")):
        (tmp_path / "handlers.py").write_text(code)
        with capture_logs() as lines:
            monkeypatch.setattr(handler_loader, "log", structlog.get_logger())
            assert sorted(load_handlers(None, {}, directory=tmp_path)) == ["log", "webhook"]
        (line,) = lines
        assert (line["log_level"], line["reason"]) == (level, "it is not in the directory handlers/; move it there")


# ── HANDLERS_DIR ─────────────────────────────────────────────────────────────


def test_directory_of_the_operator_is_used_instead(folder: Path) -> None:
    """The default directory is not looked at, and a relative address begins at the working directory."""
    write(folder, mine=MODULE.replace("sample", "not-this"))
    own = folder.parent / "deploy" / "boomerang"
    own.mkdir(parents=True)
    write(own, mine=MODULE, helper="WORD = 1\n", test_mine="import missing_pytest\n", conftest="import absent")
    for text in ("deploy/boomerang", str(own)):
        settings = {"HANDLERS_DIR": text}
        assert sorted(load_handlers(None, settings, directory=folder.parent)) == ["log", "sample", "webhook"]
        rows = {row.name: row.why for row in list_handlers(None, settings, directory=folder.parent)}
        assert rows["helper"].startswith("passed over: it has no handlers; write `handlers = Handlers()`")
        assert rows["test_mine"] == rows["conftest"] == "passed over: it is a test"


def test_every_module_of_the_operator_must_be_importable(tmp_path: Path) -> None:
    """In a directory that is named nothing is passed over because it cannot be read."""
    (tmp_path / "own").mkdir()
    write(tmp_path / "own", mine="import no_such_thing\n")
    with pytest.raises(BadHandler, match=r"mine\.py:1 cannot be imported: ModuleNotFoundError"):
        load_handlers(None, {"HANDLERS_DIR": "own"}, directory=tmp_path)


@pytest.mark.parametrize("text", ["nowhere", "a-file"])
def test_directory_must_exist(tmp_path: Path, text: str) -> None:
    """A misspelt directory would leave every handler of the operator out."""
    (tmp_path / "a-file").touch()
    with pytest.raises(BadSetting, match="BOOMERANG_HANDLERS_DIR must name a directory that exists"):
        load_handlers(None, {"HANDLERS_DIR": text}, directory=tmp_path)


def test_service_of_another_application_is_not_imported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package `service` in the working directory is not imported in its place."""
    (folder.parent / "service").mkdir()
    (folder.parent / "service" / "__init__.py").write_text("raise SystemExit(4)\n")
    (folder / "__init__.py").unlink()
    write(folder, mine=MODULE)
    monkeypatch.chdir(folder.parent)
    assert "sample" in discover()
    assert Path(str(sys.modules["service"].__file__)).parent != folder.parent / "service"
