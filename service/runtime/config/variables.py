"""What variables say before they are typed: unknown names, schedules and rates of handlers, checks of several."""

import difflib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from service.domain.delivery_rate import OWN_RATE, rate_of
from service.domain.retry_schedule import OWN_SCHEDULE
from service.runtime.config import setting_parsers as parse
from service.runtime.config.dotenv import PREFIX, read_dotenv

if TYPE_CHECKING:
    from service.runtime.config.settings import Settings

FREE_PREFIXES = ("HANDLER_", "TEST_")
"""Begins the names of the schedules of single handlers."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check of settings that are valid each by itself: `faults` returns a line for each fault.

    It is left out while one of the settings `of`, by field, is invalid.
    """

    of: frozenset[str]
    faults: "Callable[[Settings], list[str]]"


SERVICE_LINK = re.compile(r"(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")
SERVICE_ADDRESS = re.compile(r"(tcp|udp|sctp)://\S+")
"""Variables that Kubernetes gives each container for every service: one named `boomerang` would give BOOMERANG_PORT.

See https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
"""


def read_variables(environ: Mapping[str, str], dotenv: Path | None) -> dict[str, str]:
    """Return the variables of the file `dotenv` and of `environ`, which takes precedence. Raises BadSetting.

    What Kubernetes adds for services named `boomerang` or `boomerang-...` is left out. Quotes around a value of our own
    settings are removed: `docker run --env-file` keeps them (docker/cli issue 3630), and no setting has them.
    """
    own = {name: text for name, text in environ.items() if not _is_service_link(name, text)}
    found = {**(read_dotenv(dotenv) if dotenv else {}), **own}
    return {name: _without_quotes(text) if name.startswith(PREFIX) else text for name, text in found.items()}


def _is_service_link(name: str, text: str) -> bool:
    if not name.startswith(PREFIX):
        return False
    rest = name.removeprefix(PREFIX)
    return bool(SERVICE_LINK.fullmatch(rest) or (rest.endswith("PORT") and SERVICE_ADDRESS.fullmatch(text)))


def _without_quotes(text: str) -> str:
    quoted = re.fullmatch(r"""\s*(["'])(.*)\1\s*""", text, re.DOTALL)
    return quoted[2] if quoted and quoted[1] not in quoted[2] else text


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
    for variable in sorted(name for name in given if name.startswith(PREFIX + OWN_SCHEDULE)):
        try:
            found[variable.removeprefix(PREFIX + OWN_SCHEDULE)] = parse.durations(given[variable])
        except ValueError as error:
            faults.append(f"{variable} {error}")
    return found, faults


def rate_faults(given: Mapping[str, str], needed: Collection[str]) -> list[str]:
    """Return a line for each rate of a handler that is invalid; `needed` are settings that handlers declare."""
    faults: list[str] = []
    for variable in sorted(name for name in given if name.startswith(PREFIX + OWN_RATE)):
        if variable.removeprefix(PREFIX) not in needed:
            try:
                rate_of(given[variable])
            except ValueError as error:
                faults.append(f"{variable} {error}")
    return faults


def unknown_names(variables: Collection[str], known: Collection[str]) -> list[str]:
    """Return a line for each name with our prefix that is not a setting, with the nearest known name."""
    faults = []
    for name in sorted(each.removeprefix(PREFIX) for each in variables if each.startswith(PREFIX)):
        if name not in known and not name.startswith((*FREE_PREFIXES, OWN_SCHEDULE, OWN_RATE)):
            near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
            hint = (
                f"did you mean {PREFIX}{near[0]}?" if near else f"a handler's own settings begin with {PREFIX}HANDLER_"
            )
            faults.append(f"{PREFIX}{name} is not a setting; {hint}")
    return faults


def private_names(needed: Collection[str], private: Collection[str]) -> list[str]:
    """Return a line for each name that a handler needs and that no handler may see."""
    return [
        f"{PREFIX}{name} is declared by a handler, and no handler sees it" for name in sorted({*needed} & {*private})
    ]
