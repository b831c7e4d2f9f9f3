"""Finds and loads handlers: built-in ones, those in a local `handlers/` directory, and installed packages."""

import difflib
import importlib
import pkgutil
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
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
"""The package name of a local `handlers/` directory, so that it does not shadow the built-in package."""


@dataclass(frozen=True, kw_only=True)
class HandlerRow:
    """A handler that was found, and `why` it is not loaded; no service starts with a `broken` one.

    The command `boomerang handlers --json` prints these fields.
    """

    name: str
    origin: str
    events: tuple[str, ...]
    loaded: bool
    why: str = ""
    broken: bool = False


@dataclass(frozen=True, kw_only=True)
class FoundHandlers:
    """The valid handlers by name, and the errors of the others by their origin."""

    handlers: dict[str, Handler]
    broken: dict[str, BadHandler]


def load_handlers(
    names: Sequence[str] | None,
    settings: Mapping[str, str],
    *,
    notify: Sequence[str] = (),
    directory: Path | None = None,
) -> dict[str, Handler]:
    """Return the handlers to run by name, ready for these `settings` (those present, without the prefix).

    `names` None means all whose required settings are present. `notify` are the names in NOTIFY_HANDLERS. `directory`
    is where a `handlers/` directory is searched, by default the working directory. Raises BadHandler for an
    invalid handler, BadSetting for an unknown name, for a missing required setting, and for a setting that the handler
    rejects.
    """
    found = discover(directory)
    _require_known("HANDLERS", names or (), found)
    _require_known("NOTIFY_HANDLERS", notify, [name for handler in found.values() for name in handler.names])
    chosen = [handler for handler in found.values() if _reason_not_loaded(handler, names, settings) is None]
    return {handler.name: _configured(handler, settings) for handler in chosen}


def _require_known(setting: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            raise BadSetting(f"BOOMERANG_{setting} names {name!r}, and there is no such handler; {hint}")


def list_handlers(
    names: Sequence[str] | None, settings: Mapping[str, str], *, directory: Path | None = None
) -> list[HandlerRow]:
    """Return a row for every handler that is found: loaded, not loaded or broken."""
    found = survey(directory)
    rows = []
    for handler in found.handlers.values():
        reason = _reason_not_loaded(handler, names, settings, strict=False)
        events = tuple(sorted(handler.events))
        row = HandlerRow(name=handler.name, origin=handler.origin, events=events, loaded=not reason, why=reason or "")
        rows.append(row)
    for origin, error in found.broken.items():
        name = Path(origin.partition(" ")[0]).stem
        rows.append(HandlerRow(name=name, origin=origin, events=(), loaded=False, why=str(error), broken=True))
    listed = {name for handler in found.handlers.values() for name in handler.names} | {row.name for row in rows}
    for name in names or ():
        if name not in listed:
            why = "BOOMERANG_HANDLERS names it, and no handler has this name"
            rows.append(HandlerRow(name=name, origin="", events=(), loaded=False, why=why, broken=True))
    return rows


def needed_settings(*, directory: Path | None = None, strict: bool = True) -> frozenset[str]:
    """Return the names, without the prefix, of all settings that handlers use.

    Raises BadHandler for a broken handler; with `strict` False its settings are left out instead.
    """
    found = discover(directory) if strict else survey(directory).handlers
    return frozenset(name for handler in found.values() for name in (*handler.needs, handler.always_with) if name)


def discover(directory: Path | None = None) -> dict[str, Handler]:
    """Return all handlers by name; raises BadHandler for a broken one and for a name that two of them have."""
    found = survey(directory)
    for error in found.broken.values():
        raise error
    return found.handlers


def survey(directory: Path | None = None) -> FoundHandlers:
    """Return all handlers, and the errors of those that are broken or whose name is taken."""
    found = FoundHandlers(handlers={}, broken={})
    owners: dict[str, Handler] = {}
    for origin, handler in _all(directory or Path.cwd()):
        if isinstance(handler, BadHandler):
            found.broken.setdefault(origin, handler)
        elif taken := [name for name in handler.names if name in owners]:
            error = BadHandler(
                f"handler name {taken[0]!r} is taken twice, in {owners[taken[0]].origin} and in {handler.origin}; "
                "give one of them another name"
            )
            found.broken.setdefault(origin, error)
        else:
            owners.update(dict.fromkeys(handler.names, handler))
            found.handlers[handler.name] = handler
    return found


# ── choosing ─────────────────────────────────────────────────────────────────


def _reason_not_loaded(
    handler: Handler, names: Sequence[str] | None, settings: Mapping[str, str], *, strict: bool = True
) -> str | None:
    """Return why the handler is not loaded, or None.

    Raises BadSetting for a handler that is named and lacks a setting, unless `strict` is False.
    """
    if names is not None and handler.name not in names:
        return "not named by BOOMERANG_HANDLERS"
    missing = [f"BOOMERANG_{name}" for name in handler.needs if not settings.get(name)]
    if missing and names is not None and strict:
        raise BadSetting(f"handler {handler.name!r} needs {', '.join(missing)}; set it, or leave the handler out")
    return f"needs {', '.join(missing)}" if missing else None


def _configured(handler: Handler, settings: Mapping[str, str]) -> Handler:
    """Return the handler for these settings; raises BadSetting for settings that it rejects."""
    if handler.check and (problem := handler.check(settings)):
        raise BadSetting(problem)
    if handler.always_with and settings.get(handler.always_with):
        return replace(handler, by_request=False)
    return handler


# ── finding ──────────────────────────────────────────────────────────────────


def _all(directory: Path) -> Iterator[tuple[str, Handler | BadHandler]]:
    """Yield each handler, or its error, with its origin."""
    seen: set[int] = set()
    for origin, registered in (*_in_directories(directory), *_installed()):
        if isinstance(registered, BadHandler):
            yield origin, registered
        elif id(registered) not in seen:
            seen.add(id(registered))
            yield from ((origin, replace(handler, origin=origin)) for handler in registered)


def _in_directories(directory: Path) -> Iterator[tuple[str, Handlers | BadHandler]]:
    built_in = Path(service.__file__).resolve().parent.with_name(PACKAGE)
    local = (directory / PACKAGE).resolve()
    yield from _in_package(PACKAGE, built_in)
    if local != built_in and local.is_dir():
        yield from _in_package(LOCAL, local)


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


def _installed() -> Iterator[tuple[str, Handlers | BadHandler]]:
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        yield from _loaded(f"{point.value} ({point.dist.name if point.dist else GROUP})", point.load)


def _loaded(origin: str, load: Callable[[], object]) -> Iterator[tuple[str, Handlers | BadHandler]]:
    """Yield the `Handlers` objects of what `load` returns, a module or one such object, or its error."""
    try:
        with _importing(origin):
            loaded = load()
    except BadHandler as error:
        yield origin, error
        return
    members = vars(loaded).values() if isinstance(loaded, ModuleType) else [loaded]
    registered = [member for member in members if isinstance(member, Handlers)]
    yield from ((origin, handlers) for handlers in registered)
    if not registered:
        yield (
            origin,
            BadHandler(
                f"{origin} has no handlers: write `handlers = Handlers()` and register with `@handlers.on(...)`, "
                "or let the file's name begin with '_'"
            ),
        )


@contextmanager
def _importing(origin: str) -> Iterator[None]:
    """Raise BadHandler with `origin` for any error while user code is imported."""
    try:
        yield
    except BadHandler as error:
        raise BadHandler(f"{_with_line(origin, error)}: {error}") from error
    except (Exception, SystemExit) as error:
        text = f"{_with_line(origin, error)} cannot be imported: {type(error).__name__}: {error}"
        raise BadHandler(text) from error


def _with_line(origin: str, error: BaseException) -> str:
    """Return `origin`, with the last line of it that was executed when `error` was raised."""
    lines = [frame.lineno for frame in extract_tb(error.__traceback__) if frame.filename == origin]
    return f"{origin}:{lines[-1]}" if lines else origin
