"""What variables say before they are typed: names that are no settings, schedules of handlers, checks of several."""

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from service.runtime.config import setting_types as parse
from service.runtime.config.dotenv import PREFIX, read_dotenv

if TYPE_CHECKING:
    from service.runtime.config.settings import Settings

FREE_PREFIXES = ("HANDLER_", "TEST_")
SCHEDULE_PREFIX = "RETRY_SCHEDULE_"
"""Begins the names of the schedules of single handlers."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of settings that are valid each by itself: `faults` returns a line for each fault.

    It is left out while one of the settings `of`, by field, is invalid.
    """

    of: frozenset[str]
    faults: "Callable[[Settings], list[str]]"


def read_variables(environ: Mapping[str, str], dotenv: Path | None) -> dict[str, str]:
    """Return the variables of the file `dotenv` and of `environ`, which takes precedence. Raises BadSetting."""
    return {**(read_dotenv(dotenv) if dotenv else {}), **environ}


def once_for_each(faults: Sequence[str]) -> list[str]:
    """Leave out a fault whose setting has one already: handlers check some of our settings too."""
    first: dict[str, str] = {}
    for fault in faults:
        name = fault.partition(" ")[0]
        first.setdefault(name if name.startswith(PREFIX) else fault, fault)
    return list(first.values())


def retry_schedules(given: Mapping[str, str]) -> tuple[dict[str, tuple[timedelta, ...]], list[str]]:
    """Return the schedule of each handler that has its own, and a line for each that is invalid."""
    found: dict[str, tuple[timedelta, ...]] = {}
    faults: list[str] = []
    for variable in sorted(name for name in given if name.startswith(PREFIX + SCHEDULE_PREFIX)):
        try:
            found[variable.removeprefix(PREFIX + SCHEDULE_PREFIX)] = parse.durations(given[variable])
        except ValueError as error:
            faults.append(f"{variable} {error}")
    return found, faults


def unknown_names(variables: Collection[str], known: Collection[str]) -> list[str]:
    """Return a line for each name with our prefix that is not a setting, with the nearest known name."""
    faults = []
    for name in sorted(each.removeprefix(PREFIX) for each in variables if each.startswith(PREFIX)):
        if name not in known and not name.startswith((*FREE_PREFIXES, SCHEDULE_PREFIX)):
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
            hint = (
                f"did you mean {PREFIX}{near[0]}?" if near else f"a handler's own settings begin with {PREFIX}HANDLER_"
            )
            faults.append(f"{PREFIX}{name} is not a setting; {hint}")
    return faults
