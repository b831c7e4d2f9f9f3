"""Choose the handlers to run among those that are found, and check the settings that concern them."""

import difflib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import structlog

from service.deliveries.declared_settings import SettingRow, config_faults, setting_rows
from service.deliveries.handler_api import Handler
from service.deliveries.handler_finder import PassedOver, find_handlers
from service.deliveries.handler_rates import own_rates, unknown_rates, with_own_rate
from service.deliveries.unused_settings import unused_settings, unused_text
from service.domain.errors import BadHandler, BadSetting
from service.domain.retry_schedule import OWN_SCHEDULE, schedule_name
from service.domain.task import EventType

DIRECTORY_SETTING = "HANDLERS_DIR"

ARCHIVE = "archive"
"""The handler that stores results."""

log = structlog.get_logger("boomerang.deliveries")


@dataclass(frozen=True, kw_only=True)
class HandlerRow:
    """A handler that was found, and `why` it is not loaded; no service starts with a `broken` one.

    A file that is `passed_over` is no module of handlers. `settings` are those that the handler declares.

    The command `boomerang handlers --json` prints these fields.
    """

    name: str
    origin: str
    events: tuple[str, ...]
    loaded: bool
    why: str = ""
    broken: bool = False
    passed_over: bool = False
    settings: tuple[SettingRow, ...] = ()
    routes: tuple[str, ...] = ()
    rate: str | None = None


@dataclass(frozen=True, kw_only=True)
class FoundHandlers:
    """The valid handlers by name; by origin the errors of others, and the files that are passed over."""

    handlers: dict[str, Handler] = field(default_factory=dict)
    broken: dict[str, BadHandler] = field(default_factory=dict)
    passed_over: dict[str, PassedOver] = field(default_factory=dict)


def load_handlers(
    names: Sequence[str] | None,
    settings: Mapping[str, str],
    *,
    notify: Sequence[str] = (),
    schedules: Collection[str] = (),
    directory: Path | None = None,
) -> dict[str, Handler]:
    """Return the handlers to run by name, ready for these `settings` (those present, without the prefix).

    `names` None means all whose required settings are present. `notify` are the names in NOTIFY_HANDLERS, `schedules`
    what follows RETRY_SCHEDULE_ in the names of settings. HANDLERS_DIR, or `handlers/` if it is not set, is searched in
    `directory`, by default the working directory. Raises BadHandler for an invalid handler, BadSetting with a line for
    each fault of the settings.
    """
    if faults := handler_faults(names, settings, notify=notify, schedules=schedules, directory=directory):
        raise BadSetting("\n".join(faults))
    found = survey(directory, own=settings.get(DIRECTORY_SETTING))
    for origin, file in found.passed_over.items():
        (log.warning if file.misplaced else log.debug)("file is no module of handlers", file=origin, reason=file.reason)
    for name, given in unused_settings(found.handlers.values(), names, settings).items():
        log.warning("settings of a handler have no effect", handler=name, reason=unused_text(name, given))
    rates = own_rates(found.handlers.values(), settings)
    chosen = [with_own_rate(handler, rates) for handler in _chosen(found.handlers, names, settings)]
    return _configured(chosen, settings)


def handler_faults(
    names: Sequence[str] | None,
    settings: Mapping[str, str],
    *,
    notify: Sequence[str] = (),
    schedules: Collection[str] = (),
    directory: Path | None = None,
) -> list[str]:
    """Return a line for each fault of the settings of handlers: unknown names, missing settings, rejected values.

    The parameters are those of `load_handlers`. Raises BadHandler for an invalid handler.
    """
    own = settings.get(DIRECTORY_SETTING)
    if own and not ((directory or Path.cwd()) / own).is_dir():
        return [f"BOOMERANG_{DIRECTORY_SETTING} must name a directory that exists; make it, or leave the setting out"]
    found = discover(directory, own=own)
    chosen = _chosen(found, names, settings)
    return [
        *_unknown("HANDLERS", names or (), found),
        *_unknown("NOTIFY_HANDLERS", notify, [name for handler in found.values() for name in handler.names]),
        *_unknown_schedules(schedules, chosen),
        *unknown_rates(own_rates(found.values(), settings), chosen),
        *_missing(found, names, settings),
        *_rejected_values(chosen, settings),
    ]


def _rejected_values(chosen: Sequence[Handler], settings: Mapping[str, str]) -> Iterator[str]:
    for handler in chosen:
        yield from config_faults(handler.settings, settings)
        if handler.check and (problem := handler.check(settings)):
            yield problem


def ready_handlers(
    found: Mapping[str, Handler], names: Sequence[str] | None, settings: Mapping[str, str]
) -> dict[str, Handler]:
    """Return the handlers among `found` that are to run, by name, ready for these settings.

    Without `names` every one is to run. Raises BadSetting with a line for each fault.
    """
    wanted = list(found) if names is None else names
    chosen = _chosen(found, wanted, settings)
    faults = [*_unknown("HANDLERS", wanted, found), *_missing(found, wanted, settings)]
    if faults := [*faults, *_rejected_values(chosen, settings)]:
        raise BadSetting("\n".join(faults))
    return _configured(chosen, settings)


def _unknown(setting: str, names: Sequence[str], known: Collection[str]) -> Iterator[str]:
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(sorted(known))}"
            yield f"BOOMERANG_{setting} names {name!r}, and there is no such handler; {hint}"


def _unknown_schedules(schedules: Collection[str], chosen: Sequence[Handler]) -> Iterator[str]:
    known = {schedule_name(name) for handler in chosen for name in handler.names}
    loaded = ", ".join(sorted(handler.name for handler in chosen)) or "none"
    for name in sorted(set(schedules) - known):
        yield (
            f"BOOMERANG_{OWN_SCHEDULE}{name} must end with the name of a loaded handler, in capitals and with _ "
            f"for -; loaded are {loaded}"
        )


def handler_schedules(
    handlers: Mapping[str, Handler], schedules: Mapping[str, Sequence[timedelta]]
) -> dict[str, Sequence[timedelta]]:
    """Return the own schedule of each handler that has one, by its name; the settings may use a former name."""
    found = {}
    for handler in handlers.values():
        for name in map(schedule_name, handler.names):
            if name in schedules and handler.name not in found:
                found[handler.name] = schedules[name]
    return found


def list_handlers(
    names: Sequence[str] | None, settings: Mapping[str, str], *, directory: Path | None = None
) -> list[HandlerRow]:
    """Return a row for every handler that is found: loaded, not loaded or broken."""
    found = survey(directory, own=settings.get(DIRECTORY_SETTING))
    rates = own_rates(found.handlers.values(), settings)
    rows = []
    for handler in found.handlers.values():
        reason = _reason_not_loaded(handler, names, settings)
        events = tuple(sorted(handler.events))
        rows.append(
            HandlerRow(
                name=handler.name,
                origin=handler.origin,
                events=events,
                loaded=not reason,
                why=reason or "",
                settings=tuple(setting_rows(handler.settings, settings)),
                routes=tuple(f"{each.method} {each.full_path}" for each in handler.routes),
                rate=with_own_rate(handler, rates).rate,
            )
        )
    for origin, error in found.broken.items():
        rows.append(HandlerRow(**_file(origin), why=str(error), broken=True))
    for origin, file in found.passed_over.items():
        rows.append(HandlerRow(**_file(origin), why=f"passed over: {file.reason}", passed_over=True))
    listed = {name for handler in found.handlers.values() for name in handler.names} | {row.name for row in rows}
    for name in names or ():
        if name not in listed:
            why = "BOOMERANG_HANDLERS names it, and no handler has this name"
            rows.append(HandlerRow(name=name, origin="", events=(), loaded=False, why=why, broken=True))
    return rows


def _file(origin: str) -> dict[str, Any]:
    return {"name": Path(origin.partition(" ")[0]).stem, "origin": origin, "events": (), "loaded": False}


def needed_settings(*, directory: Path | None = None, own: str | None = None, strict: bool = True) -> frozenset[str]:
    """Return the names, without the prefix, of all settings that handlers use; `own` is the value of HANDLERS_DIR.

    Raises BadHandler for a broken handler; with `strict` False its settings are left out instead.
    """
    found = discover(directory, own=own) if strict else survey(directory, own=own).handlers
    return frozenset(name for handler in found.values() for name in handler.uses)


def discover(directory: Path | None = None, *, own: str | None = None) -> dict[str, Handler]:
    """Return all handlers by name; raises BadHandler for a broken one and for a name that two of them have."""
    found = survey(directory, own=own)
    for error in found.broken.values():
        raise error
    return found.handlers


def survey(directory: Path | None = None, *, own: str | None = None) -> FoundHandlers:
    """Return all handlers, the errors of those that are broken or whose name is taken, and files that are none."""
    found = FoundHandlers()
    owners: dict[str, Handler] = {}
    for origin, handler in find_handlers(directory or Path.cwd(), own):
        if isinstance(handler, BadHandler):
            found.broken.setdefault(origin, handler)
        elif isinstance(handler, PassedOver):
            found.passed_over[origin] = handler
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


def _chosen(found: Mapping[str, Handler], names: Sequence[str] | None, settings: Mapping[str, str]) -> list[Handler]:
    return [handler for handler in found.values() if _reason_not_loaded(handler, names, settings) is None]


def _reason_not_loaded(handler: Handler, names: Sequence[str] | None, settings: Mapping[str, str]) -> str | None:
    """Return why the handler is not loaded, or None."""
    if names is not None and handler.name not in names:
        return "not named by BOOMERANG_HANDLERS"
    missing = missing_settings(handler, settings)
    return f"needs {missing}" if missing else None


def missing_settings(handler: Handler, settings: Mapping[str, str]) -> str:
    """Return the settings that the handler needs and that are not given, as a text; empty if there are none."""
    missing = [f"BOOMERANG_{name}" for name in handler.required if not settings.get(name)]
    if handler.needs_any and not any(map(settings.get, handler.needs_any)):
        missing.append(" or ".join(f"BOOMERANG_{name}" for name in handler.needs_any))
    return ", ".join(missing)


def not_loaded(names: Sequence[str] | None, settings: Mapping[str, str]) -> dict[str, str]:
    """Return for each known handler that is not loaded with these settings what is missing, by each of its names."""
    found = survey(own=settings.get(DIRECTORY_SETTING)).handlers
    reasons: dict[str, str] = {}
    for handler in found.values():
        if names is not None and handler.name not in names:
            reason = f"is not loaded here: BOOMERANG_HANDLERS must name {handler.name}"
        elif missing := missing_settings(handler, settings):
            reason = f"is not configured here: it needs {missing}"
        else:
            continue
        reasons |= dict.fromkeys(handler.names, reason)
    return reasons


def _missing(found: Mapping[str, Handler], names: Sequence[str] | None, settings: Mapping[str, str]) -> Iterator[str]:
    """Yield a line for each handler that is named and lacks a setting."""
    for name in names or ():
        if name in found and (missing := missing_settings(found[name], settings)):
            yield f"handler {name!r} needs {missing}; set it, or leave the handler out"


def _configured(chosen: Sequence[Handler], settings: Mapping[str, str]) -> dict[str, Handler]:
    """Return the chosen handlers for these settings, by name: a result is used once it is stored, where it will be."""
    result = EventType.ARTIFACT_STORED if any(handler.name == ARCHIVE for handler in chosen) else EventType.COMPLETED
    found = {}
    for handler in chosen:
        if handler.on_result:
            found[handler.name] = replace(handler, events=frozenset({result}))
        elif handler.always_with and settings.get(handler.always_with):
            found[handler.name] = replace(handler, by_request=False)
        else:
            found[handler.name] = handler
    return found
