"""Find handlers: built-in ones, those in the operator's directory, and installed packages; import their modules.

Modules of the operator's directory run as `local_handlers.NAME`, so that they do not shadow the built-in package.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from importlib.metadata import EntryPoint, entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

import service
from service.deliveries.handler_api import Handler, Handlers
from service.deliveries.handler_modules import INIT, find_modules, registers_handlers
from service.domain.errors import BadHandler

GROUP = "boomerang.handlers"
PACKAGE = "handlers"
LOCAL = "local_handlers"
"""The package name of the operator's directory."""

WRITE = "write `handlers = Handlers()` and register with `@handlers.on(...)`"
FIX = "repair it, let its name begin with '_', or name another directory with BOOMERANG_HANDLERS_DIR"


@dataclass(frozen=True, kw_only=True)
class PassedOver:
    """The reason why a file is not a module of handlers; `misplaced` if it is one and is in the wrong place."""

    reason: str
    misplaced: bool = False


Finding = tuple[str, Handler | BadHandler | PassedOver]
"""The origin of what was found, and what it is."""


def find_handlers(working: Path, own: str | None) -> Iterator[Finding]:
    """Yield each handler, the error of each broken module, and each file that is passed over, with its origin.

    `own` names the operator's directory, relative to the directory `working`: every module in it is imported. None
    means `handlers/` in `working`, which may belong to another application: only modules that register handlers are
    imported.
    """
    seen: set[int] = set()
    for origin, registered in (*_in_directories(working, own), *_installed()):
        if not isinstance(registered, Handlers):
            yield origin, registered
        elif id(registered) not in seen:
            seen.add(id(registered))
            try:
                handlers = [replace(handler, origin=origin) for handler in registered]
            except BadHandler as error:
                yield origin, BadHandler(f"{origin}: {error}")
            else:
                yield from ((origin, handler) for handler in handlers)


Registered = tuple[str, Handlers | BadHandler | PassedOver]


def _in_directories(working: Path, own: str | None) -> Iterator[Registered]:
    built_in = Path(service.__file__).resolve().parent.with_name(PACKAGE)
    local = (working / (own or PACKAGE)).resolve()
    yield from _in_package(PACKAGE, built_in, every=True)
    if local != built_in and local.is_dir():
        yield from _in_package(LOCAL, local, every=own is not None)
    file = working / f"{PACKAGE}.py"
    if own is None and file.is_file():
        misplaced = registers_handlers(file)
        yield str(file), PassedOver(reason=f"it is not in the directory {PACKAGE}/; move it there", misplaced=misplaced)


def _in_package(name: str, path: Path, *, every: bool = False) -> Iterator[Registered]:
    found = find_modules(path, every=every)
    yield from ((str(file), PassedOver(reason=reason)) for file, reason in found.passed_over.items())
    if not found.modules:
        return
    try:
        package = _package(name, path)
    except BadHandler as error:
        yield str(path), error
        return
    for module, file in found.modules.items():
        load = partial(importlib.import_module, f"{name}.{module}") if module != INIT else partial(_same, package)
        yield from _loaded(str(file), load)


def import_handlers(file: Path) -> Handlers:
    """Import one module of a directory of handlers, and return its `Handlers` object; raises BadHandler."""
    file = file.resolve()
    built_in = Path(service.__file__).resolve().parent.with_name(PACKAGE)
    name = PACKAGE if file.parent == built_in else LOCAL
    with _importing(str(file), fix=FIX):
        _package(name, file.parent)
        module = importlib.import_module(f"{name}.{file.stem}")
    found = [member for member in vars(module).values() if isinstance(member, Handlers)]
    if not found:
        raise BadHandler(f"{file} has no handlers; {WRITE}")
    return found[0]


def _same(package: ModuleType) -> ModuleType:
    return package


def _package(name: str, path: Path) -> ModuleType:
    """Return the package in directory `path` under `name`; import it again if that name was another directory's."""
    known = sys.modules.get(name)
    if known and [Path(entry).resolve() for entry in getattr(known, "__path__", ())] == [path]:
        return known
    for stale in [module for module in sys.modules if module == name or module.startswith(f"{name}.")]:
        del sys.modules[stale]
    importlib.invalidate_caches()
    init = path / "__init__.py"
    spec = spec_from_file_location(name, init, submodule_search_locations=[str(path)]) if init.is_file() else None
    package = module_from_spec(spec) if spec else ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package
    if spec and spec.loader:
        try:
            with _importing(str(init), fix=FIX):
                spec.loader.exec_module(package)
        except BadHandler:
            del sys.modules[name]
            raise
    return package


@lru_cache(maxsize=1)
def installed_entry_points(path: tuple[str, ...]) -> tuple[EntryPoint, ...]:  # noqa: ARG001 - what is installed depends on it
    """Return the entry points of handlers, by name, of the packages that are installed in the directories of `path`.

    A start needs them several times, and each search reads a file of every installed package.
    """
    return tuple(sorted(entry_points(group=GROUP), key=lambda point: point.name))


def _installed() -> Iterator[Registered]:
    for point in installed_entry_points(tuple(sys.path)):
        origin = f"{point.value} ({point.dist.name if point.dist else GROUP})"
        for _, found in _loaded(origin, point.load, fix="repair the package, or uninstall it"):
            named = BadHandler(f"{origin} has no handlers: {WRITE}") if isinstance(found, PassedOver) else found
            yield origin, named


def _loaded(origin: str, load: Callable[[], object], *, fix: str = FIX) -> Iterator[Registered]:
    """Yield the `Handlers` objects of what `load` returns, a module or one such object, or its error."""
    try:
        with _importing(origin, fix=fix):
            loaded = load()
    except BadHandler as error:
        yield origin, error
        return
    members = vars(loaded).values() if isinstance(loaded, ModuleType) else [loaded]
    registered = [member for member in members if isinstance(member, Handlers)]
    yield from ((origin, handlers) for handlers in registered)
    if not registered:
        yield origin, PassedOver(reason=f"it has no handlers; {WRITE}")


@contextmanager
def _importing(origin: str, *, fix: str) -> Iterator[None]:
    """Raise BadHandler with `origin` and how to `fix` it for any error while user code is imported."""
    try:
        yield
    except BadHandler as error:
        raise BadHandler(f"{_with_line(origin, error)}: {error}") from error
    except (Exception, SystemExit) as error:
        text = f"{_with_line(origin, error)} cannot be imported: {type(error).__name__}: {error}; {fix}"
        raise BadHandler(text) from error


def _with_line(origin: str, error: BaseException) -> str:
    """Return `origin`, with the last line of it that was executed when `error` was raised."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == origin]
    return f"{origin}:{lines[-1]}" if lines else origin
