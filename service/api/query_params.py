"""Read the query, the path and the headers of a request, and report every fault of the query at once."""

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import Counter
from collections.abc import Collection
from datetime import date, datetime
from difflib import get_close_matches
from itertools import islice
from operator import itemgetter

from starlette.requests import Request

from service.api.problems import Problem, ProblemError
from service.domain.errors import Fault, InvalidParams, NotFound
from service.domain.history_position import HistoryPosition, parse_position
from service.domain.search import MAX_TEXT as MAX_SEARCH
from service.domain.search import search_text
from service.domain.task import TaskId
from service.domain.task_view import parse_time

MAX_ROWS = 200
MAX_TEXT = 200  # characters
MAX_KEY = 255  # characters
KEY_FORM = f"1 to {MAX_KEY} printable ASCII characters"
MAX_FAULTS = 100
MAX_INTEGER = 999_999
MAX_NUMBER = 2**53 - 1  # every client reads it exactly
WRONG_CURSOR = "is not a next_cursor of this list: start without it"

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBER = re.compile(r"[0-9]{1,16}")
_INTEGER = re.compile(r"[0-9]{1,6}")
_WAIT = re.compile(r"wait\s*=\s*(?:([0-9]{1,18})|\"([0-9]{1,18})\")")
_PREFERENCE = re.compile(r'(?:[^",;]|"(?:[^"\\]|\\.)*+(?:"|\\?\Z))++', re.DOTALL)
"""A preference; a quoted value may contain the separators.

A quote without an end matches to the end of the text, so that no part of it is read again from its next quote.
"""


class QueryParams:
    """The query parameters of a request; read each one, then call `reject_errors`.

    With `lenient` unknown ones are ignored, as other APIs do.
    """

    def __init__(self, request: Request, *known: str, repeatable: Collection[str] = (), lenient: bool = False) -> None:
        self._values = request.query_params
        self._faults: list[Fault] = []
        counts = Counter(map(itemgetter(0), self._values.multi_items()))
        for name in islice(counts, MAX_FAULTS):
            if name not in known and not lenient:
                self._faults.append(unknown_key_fault(("query",), name, known, "query parameter"))
        for name, count in counts.items():
            if count > 1 and name in known and name not in repeatable:
                self._add_fault(name, "is given more than once: give it once")

    def integer(self, name: str, default: int, *, minimum: int, maximum: int) -> int:
        """Return an integer from `minimum` to `maximum`, or `default`."""
        text = self._values.get(name)
        if text is None:
            return default
        if _INTEGER.fullmatch(text) and minimum <= int(text) <= maximum:
            return int(text)
        self._add_fault(name, f"must be a whole number from {minimum} to {maximum}")
        return default

    def text(self, name: str) -> str | None:
        """Return a short printable text, None without the parameter."""
        text = self._values.get(name)
        return None if text is None else self._printable(name, text, MAX_TEXT)

    def search(self, name: str) -> str | None:
        """Return a text to search for, None without the parameter; it is longer, and may have line breaks."""
        text = self._values.get(name)
        return None if text is None else self._printable(name, search_text(text), MAX_SEARCH)

    def choice(self, name: str, choices: Collection[str]) -> str | None:
        """Return one of `choices`, None without the parameter."""
        text = self._values.get(name)
        if text is not None and text not in choices:
            self._add_fault(name, f"must be one of {', '.join(choices)}{_suggestion(text, choices)}")
        return text

    def choices(self, name: str, choices: Collection[str]) -> list[str]:
        """Return those of `choices` that a repeatable parameter names, also several with commas; none without it."""
        found = self._several(name)
        for text in found:
            if text not in choices:
                self._add_fault(name, f"must be one of {', '.join(choices)}{_suggestion(text, choices)}")
        return [text for text in found if text in choices]

    def ids(self, name: str, *, maximum: int) -> list[str]:
        """Return the ids in a repeatable parameter, also several with commas; none without it."""
        found = self._several(name)
        if len(found) > maximum:
            self._add_fault(name, f"names more than {maximum}: give fewer, or leave it out for all")
        elif not all(_ID.fullmatch(text) for text in found):
            self._add_fault(name, "must be an id: 1 to 64 letters, digits, - or _")
            return []
        return found[:maximum]

    def number(self, name: str) -> int | None:
        """Return a whole number from 0 up to MAX_NUMBER, None without the parameter."""
        text = self._values.get(name)
        number = None if text is None else number_of(text)
        if text is not None and number is None:
            self._add_fault(name, f"must be a whole number from 0 to {MAX_NUMBER}")
        return number

    def words(self, name: str, choices: Collection[str]) -> frozenset[str]:
        """Return those of `choices` that a parameter names, several with commas; none without it."""
        return frozenset(self.choices(name, choices))

    def time(self, name: str) -> datetime | None:
        """Return a time with its offset, None without the parameter."""
        text = self._values.get(name)
        try:
            return parse_time(text)
        except (ValueError, OverflowError):
            self._add_fault(name, "must be a time with its offset, like 2026-05-06T12:09:42Z (RFC 3339)")
            return None

    def fault(self, name: str, msg: str) -> None:
        """Add a fault of a parameter."""
        self._add_fault(name, msg)

    def date(self, name: str) -> date | None:
        """Return a day like 2026-05-06, None without the parameter."""
        text = self._values.get(name)
        try:
            if text is None or _DAY.fullmatch(text):
                return None if text is None else date.fromisoformat(text)
        except ValueError:
            pass
        self._add_fault(name, "must be a day like 2026-05-06, in UTC")
        return None

    def cursor(self, kind: str) -> str | None:
        """Return the row id in the `cursor` of a list of `kind`, None without the parameter."""
        text = self._values.get("cursor")
        if text is None:
            return None
        row_id = row_id_of(kind, text)
        if row_id is None:
            self._add_fault("cursor", WRONG_CURSOR)
        return row_id

    def position(self) -> HistoryPosition | None:
        """Return the position in the `cursor` of a history, None without the parameter."""
        text = self._values.get("cursor")
        if text is None:
            return None
        position = parse_position(_text_of("history", text) or "")
        if position is None:
            self._add_fault("cursor", WRONG_CURSOR)
        return position

    def includes(self, name: str) -> bool:
        """Return whether `include` asks for `name`, the only thing that a list leaves out."""
        return self.choice("include", [name]) == name

    def reject_errors(self) -> None:
        """Raise InvalidParams when there are faults."""
        if self._faults:
            raise InvalidParams(self._faults)

    def _printable(self, name: str, text: str, maximum: int) -> str | None:
        if text.isprintable() and 0 < len(text) <= maximum:
            return text
        self._add_fault(name, f"must be printable text of 1 to {maximum} characters")
        return None

    def _several(self, name: str) -> list[str]:
        return list(dict.fromkeys(part for text in self._values.getlist(name) for part in text.split(",")))

    def _add_fault(self, name: str, msg: str) -> None:
        self._faults.append(Fault(loc=("query", name), msg=msg))


def cursor_of(kind: str, row_id: str) -> str:
    """Return the opaque cursor of the position after the row `row_id` in the list of `kind`."""
    return urlsafe_b64encode(f"{kind}:{row_id}".encode()).decode().rstrip("=")


def number_of(text: str) -> int | None:
    """Return the whole number from 0 to MAX_NUMBER that `text` is, None for any other text."""
    return int(text) if _NUMBER.fullmatch(text) and int(text) <= MAX_NUMBER else None


def path_id(request: Request) -> TaskId:
    """Return the id in the path; raises NotFound for text that cannot be an id."""
    text = str(request.path_params["id"])
    if not _ID.fullmatch(text):
        raise NotFound("there is nothing with this id")
    return TaskId(text)


def preferred_wait(request: Request) -> int | None:
    """Return the seconds of the first `wait=N` in the header Prefer (RFC 7240); None without it."""
    for preference in _PREFERENCE.findall(",".join(request.headers.getlist("prefer"))):
        if match := _WAIT.fullmatch(preference.strip().lower()):
            return int(match[1] or match[2])
    return None


def idempotency_key(request: Request) -> str | None:
    """Return the header Idempotency-Key; raises a 400 problem for an empty, long, repeated or unprintable one."""
    values = request.headers.getlist("idempotency-key")
    if not values:
        return None
    if len(values) == 1 and is_idempotency_key(values[0]):
        return values[0]
    detail = f"Idempotency-Key must be given once, with {KEY_FORM}"
    raise ProblemError(Problem(status=400, kind="bad-idempotency-key", detail=detail))


def is_idempotency_key(text: str) -> bool:
    """Return whether `text` has the form of a key, see KEY_FORM."""
    return 0 < len(text) <= MAX_KEY and text.isascii() and text.isprintable()


def unknown_key_fault(loc: tuple[str | int, ...], name: str, known: Collection[str], what: str) -> Fault:
    """Return the fault of an unknown `name`, with the most similar of `known` as a suggestion."""
    hint = _suggestion(name, known) or f"; known are {', '.join(known)}" if known else ""
    printable = "".join(each if each.isprintable() else "?" for each in name[:MAX_TEXT])
    return Fault(loc=(*loc, printable), msg=f"unknown {what}{hint}")


def _suggestion(text: str, choices: Collection[str]) -> str:
    similar = get_close_matches(text[:MAX_TEXT], choices, n=1)
    return f"; did you mean {similar[0]}?" if similar else ""


def row_id_of(kind: str, text: str) -> str | None:
    """Return the row id in a cursor of the list of `kind`, None for any other text."""
    row_id = _text_of(kind, text)
    return row_id if row_id and _ID.fullmatch(row_id) else None


def _text_of(kind: str, cursor: str) -> str | None:
    """Return what a cursor of the list of `kind` contains, None for any other text."""
    try:
        plain = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except ValueError:
        return None
    found_kind, _, text = plain.partition(":")
    return text if found_kind == kind and cursor_of(kind, text) == cursor else None
