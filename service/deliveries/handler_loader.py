"""Finding handlers: those that come with the service, a `handlers/` directory where it runs, and installed packages."""

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import entry_points
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import extract_tb
from types import ModuleType

import service
from service.deliveries.handler_api import Handler, Handlers
from service.domain.errors import BadHandler, BadSetting

GROUP = "boomerang.handlers"
PACKAGE = "handlers"
LOCAL = "local_handlers"
"""The package name of a `handlers/` directory that is not the installed one, so that neither shadows the other."""


@dataclass(frozen=True, kw_only=True)
class HandlerRow:
    """A handler that was found: whether it is loaded, and if not, why; with a `broken` one no service starts."""

    name: str
    origin: str
    events: tuple[str, ...]
    loaded: bool
    why: str = ""
    broken: bool = False


@dataclass(frozen=True, kw_only=True)
class Found:
    """Every handler that was found, by name, and by where it stands why another one cannot be had."""

    handlers: dict[str, Handler]
    broken: dict[str, BadHandler]


def load_handlers(
    names: Sequence[str] | None, settings: Mapping[str, str], *, directory: Path | None = None
) -> dict[str, Handler]:
    """Return the handlers to run by name, ready for these `settings` (those present, without the prefix).

    `names` None means all whose needed settings are present. `directory` is where a `handlers/` directory is looked
    for, the working directory by default. Raises BadHandler for what cannot be registered, BadSetting for an unknown
    name, a needed setting that is missing, and a setting that the handler refuses.
    """
    found = discover(directory)
    _refuse_unknown_names(names, found)
    chosen = [handler for name, handler in found.items() if _why_not(handler, names, settings) is None]
    return {handler.name: _ready(handler, settings) for handler in chosen}


def list_handlers(
    names: Sequence[str] | None, settings: Mapping[str, str], *, directory: Path | None = None
) -> list[HandlerRow]:
    """Return a row for every handler that is found, loaded or not or broken."""
    found = survey(directory)
    rows = []
    for handler in found.handlers.values():
        why = _why_not(handler, names, settings, strict=False)
        events = tuple(sorted(handler.events))
        row = HandlerRow(name=handler.name, origin=handler.origin, events=events, loaded=not why, why=why or "")
        rows.append(row)
    for origin, error in found.broken.items():
        name = Path(origin.partition(" ")[0]).stem
        rows.append(HandlerRow(name=name, origin=origin, events=(), loaded=False, why=str(error), broken=True))
    return rows


def needed_settings(*, directory: Path | None = None, strict: bool = True) -> frozenset[str]:
    """Return the names, without the prefix, of every setting that some handler knows.

    Raises BadHandler for a broken one, unless it is not to be `strict`: then what that one knows is not among them.
    """
    found = discover(directory) if strict else survey(directory).handlers
    return frozenset(name for one in found.values() for name in (*one.needs, one.always_with) if name)


def discover(directory: Path | None = None) -> dict[str, Handler]:
    """Return every handler that can be found, by name; raises BadHandler for a broken one and a name taken twice."""
    found = survey(directory)
    for error in found.broken.values():
        raise error
    return found.handlers


def survey(directory: Path | None = None) -> Found:
    """Look for every handler, and past those that are broken or whose name is taken."""
    found = Found(handlers={}, broken={})
    owners: dict[str, Handler] = {}
    for origin, one in _all(directory or Path.cwd()):
        if isinstance(one, BadHandler):
            found.broken.setdefault(origin, one)
        elif taken := _taken(one, owners):
            found.broken.setdefault(origin, taken)
        else:
            owners.update(dict.fromkeys(one.names, one))
            found.handlers[one.name] = one
    return found


def _taken(handler: Handler, owners: Mapping[str, Handler]) -> BadHandler | None:
    """Return what is wrong with a handler whose name another one has, None for any other."""
    for name in handler.names:
        if name in owners:
            return BadHandler(
                f"handler name {name!r} is taken twice, in {owners[name].origin} and in {handler.origin}; "
                "give one of them another name"
            )
    return None


# ── choosing ─────────────────────────────────────────────────────────────────


def _refuse_unknown_names(names: Sequence[str] | None, found: Mapping[str, Handler]) -> None:
    for name in names or ():
        if name not in found:
            near = difflib.get_close_matches(name, found, n=1)
            mend = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(found))}"
            raise BadSetting(f"BOOMERANG_HANDLERS names {name!r}, and there is no such handler; {mend}")


def _why_not(
    handler: Handler, names: Sequence[str] | None, settings: Mapping[str, str], *, strict: bool = True
) -> str | None:
    """Return why the handler is not loaded, None when it is; raises BadSetting when it was asked for and cannot be."""
    if names is not None and handler.name not in names:
        return "not named by BOOMERANG_HANDLERS"
    missing = [f"BOOMERANG_{name}" for name in handler.needs if not settings.get(name)]
    if missing and names is not None and strict:
        raise BadSetting(f"handler {handler.name!r} needs {', '.join(missing)}; set it, or leave the handler out")
    return f"needs {', '.join(missing)}" if missing else None


def _ready(handler: Handler, settings: Mapping[str, str]) -> Handler:
    fault = handler.check(settings) if handler.check else None
    if fault:
        raise BadSetting(fault)
    if handler.always_with and settings.get(handler.always_with):
        return replace(handler, by_request=False)
    return handler


# ── finding ──────────────────────────────────────────────────────────────────


def _all(directory: Path) -> Iterator[tuple[str, Handler | BadHandler]]:
    """Yield each handler, or why it cannot be had, with where it stands."""
    seen: set[int] = set()
    for origin, registered in (*_in_directories(directory), *_installed()):
        if isinstance(registered, BadHandler):
            yield origin, registered
        elif id(registered) not in seen:
            seen.add(id(registered))
            yield from ((origin, replace(handler, origin=origin)) for handler in registered)


def _in_directories(directory: Path) -> Iterator[tuple[str, Handlers | BadHandler]]:
    ours = Path(service.__file__).resolve().parent.with_name(PACKAGE)
    local = (directory / PACKAGE).resolve()
    yield from _in_package(PACKAGE, ours)
    if local != ours and local.is_dir():
        yield from _in_package(LOCAL, local)


def _package(name: str, path: Path) -> ModuleType:
    """Return the package in directory `path` under `name`, made anew when that name was another directory's."""
    known = sys.modules.get(name)
    if known and [Path(one).resolve() for one in getattr(known, "__path__", ())] == [path]:
        return known
    for stale in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        del sys.modules[stale]
    importlib.invalidate_caches()
    return _begun(name, path)


def _begun(name: str, path: Path) -> ModuleType:
    init = path / "__init__.py"
    spec = spec_from_file_location(name, init, submodule_search_locations=[str(path)]) if init.is_file() else None
    package = module_from_spec(spec) if spec else ModuleType(name)
    package.__path__ = [str(path)]
    sys.modules[name] = package
    if spec and spec.loader:
        with _importing(str(init)):
            spec.loader.exec_module(package)
    return package


def _in_package(name: str, path: Path) -> Iterator[tuple[str, Handlers | BadHandler]]:
    try:
        package = _package(name, path)
    except BadHandler as error:
        yield str(path), error
        return
    for module in pkgutil.iter_modules(package.__path__):
        if not module.name.startswith("_"):
            origin = str(path / (module.name if module.ispkg else f"{module.name}.py"))
            yield from _loaded(origin, partial(importlib.import_module, f"{name}.{module.name}"))


def _loaded(origin: str, load: Callable[[], object]) -> Iterator[tuple[str, Handlers | BadHandler]]:
    """Yield what is registered in what `load` returns, or why it cannot be had, with its `origin`."""
    try:
        with _importing(origin):
            loaded = load()
        registered = _registered(loaded, origin)
    except BadHandler as error:
        yield origin, error
        return
    yield from ((origin, one) for one in registered)


@contextmanager
def _importing(origin: str) -> Iterator[None]:
    """Name `origin` in whatever goes wrong when user code is imported."""
    try:
        yield
    except BadHandler as error:
        raise BadHandler(f"{_place(error, origin)}: {error}") from error
    except (Exception, SystemExit) as error:
        raise BadHandler(f"{_place(error, origin)} cannot be imported: {type(error).__name__}: {error}") from error


def _place(error: BaseException, origin: str) -> str:
    """Return `origin`, with the line of it that was running when `error` was raised."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == origin]
    return f"{origin}:{lines[-1]}" if lines else origin


def _installed() -> Iterator[tuple[str, Handlers | BadHandler]]:
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        yield from _loaded(f"{point.value} ({point.dist.name if point.dist else GROUP})", point.load)


def _registered(module: object, origin: str) -> list[Handlers]:
    """Return the module's own `Handlers` objects, or the one that it is."""
    if isinstance(module, Handlers):
        return [module]
    members = vars(module).values() if isinstance(module, ModuleType) else ()
    found = [one for one in members if isinstance(one, Handlers)]
    if not found:
        raise BadHandler(
            f"{origin} has no handlers: write `handlers = Handlers()` and register with `@handlers.on(...)`, "
            "or let the file's name begin with '_'"
        )
    return found
