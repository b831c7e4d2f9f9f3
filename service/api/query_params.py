"""What stands in a request's query and headers, taken out with care and with every fault at once."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Collection
from difflib import get_close_matches
from itertools import islice

from starlette.requests import Request

from service.api.problems import Problem, ProblemError
from service.domain.errors import Fault, InvalidParams, NotFound
from service.domain.task import TaskId

MAX_WAIT = 60  # seconds
MAX_ROWS = 200
MAX_TEXT = 200  # characters
MAX_KEY = 255  # characters
MAX_FAULTS = 100

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_WHOLE = re.compile(r"[0-9]{1,6}")
_WAIT = re.compile(r"wait\s*=\s*\"?([0-9]{1,9})\"?")


class QueryParams:
    """The query parameters of a request; ask for each, then call `done`."""

    def __init__(self, request: Request, *known: str) -> None:
        self._given = request.query_params
        counts = Counter(name for name, _ in self._given.multi_items())
        self._faults = [_unknown(name, known) for name in islice(counts, MAX_FAULTS) if name not in known]
        repeated = [name for name, count in counts.items() if name in known and count > 1]
        self._faults += [_fault(name, "is given more than once: give it once") for name in repeated]

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        """Return a whole number within its bounds."""
        text = self._given.get(name)
        if text is None:
            return default
        if _WHOLE.fullmatch(text) and minimum <= int(text) <= maximum:
            return int(text)
        self._faults.append(_fault(name, f"must be a whole number from {minimum} to {maximum}"))
        return default

    def text(self, name: str) -> str | None:
        """Return a short printable text, None when it is not given."""
        text = self._given.get(name)
        if text is not None and not (text.isprintable() and 0 < len(text) <= MAX_TEXT):
            self._faults.append(_fault(name, f"must be printable text of 1 to {MAX_TEXT} characters"))
            return None
        return text

    def choice(self, name: str, among: Collection[str]) -> str | None:
        """Return one of `among`, None when it is not given."""
        text = self._given.get(name)
        if text is not None and text not in among:
            self._faults.append(_fault(name, f"must be one of {', '.join(among)}{_guess(text, among)}"))
        return text

    def cursor(self, kind: str) -> str | None:
        """Return the id that a `next_cursor` of `kind` stands for, None when there is none."""
        text = self._given.get("cursor")
        if text is None:
            return None
        found = _read_cursor(kind, text)
        if found is None:
            self._faults.append(_fault("cursor", "is no next_cursor of this list: start without it"))
        return found

    def reject_errors(self) -> None:
        """Raise InvalidParams when anything was wrong."""
        if self._faults:
            raise InvalidParams(self._faults)


def cursor_of(kind: str, row_id: str) -> str:
    """Return the opaque cursor that stands after the row `row_id` of the list `kind`."""
    return urlsafe_b64encode(f"{kind}:{row_id}".encode()).decode().rstrip("=")


def path_id(request: Request) -> TaskId:
    """Return the id in the path; raises NotFound for what can be no id at all."""
    text = str(request.path_params["id"])
    if not _ID.fullmatch(text):
        raise NotFound("there is no such thing")
    return TaskId(text)


def preferred_wait(request: Request) -> int | None:
    """Return the seconds of `Prefer: wait=N`, at most 60; None without that preference."""
    preferences = ",".join(request.headers.getlist("prefer")).replace(";", ",").split(",")
    found = [match for each in preferences if (match := _WAIT.fullmatch(each.strip().lower()))]
    return min(int(found[0][1]), MAX_WAIT) if found else None


def idempotency_key(request: Request) -> str | None:
    """Return the request's Idempotency-Key; refuses an empty, overlong, repeated or unprintable one with 400."""
    given = request.headers.getlist("idempotency-key")
    if not given:
        return None
    key = given[0]
    if len(given) == 1 and 0 < len(key) <= MAX_KEY and key.isascii() and key.isprintable():
        return key
    detail = f"Idempotency-Key must be given once, with 1 to {MAX_KEY} printable ASCII characters"
    raise ProblemError(Problem(status=400, kind="bad-idempotency-key", detail=detail))


def unknown_key_fault(loc: tuple[str | int, ...], name: str, known: Collection[str], what: str) -> Fault:
    """Return the fault of an unknown `name`, with the nearest of `known` suggested."""
    guess = _guess(name, known) or f"; known are {', '.join(known)}" if known else ""
    return Fault(loc=(*loc, _printable(name)), msg=f"unknown {what}{guess}")


def _unknown(name: str, known: Collection[str]) -> Fault:
    return unknown_key_fault(("query",), name, known, "query parameter")


def _fault(name: str, msg: str) -> Fault:
    return Fault(loc=("query", name), msg=msg)


def _guess(text: str, among: Collection[str]) -> str:
    near = get_close_matches(text[:MAX_TEXT], among, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _printable(name: str) -> str:
    return "".join(each if each.isprintable() else "?" for each in name[:MAX_TEXT])


def _read_cursor(kind: str, text: str) -> str | None:
    try:
        plain = urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
    except ValueError:
        return None
    found_kind, _, row_id = plain.partition(":")
    fits = found_kind == kind and _ID.fullmatch(row_id) and cursor_of(kind, row_id) == text
    return row_id if fits else None
