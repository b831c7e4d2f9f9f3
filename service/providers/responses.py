"""What an answer of the provider says, whichever provider it is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime

import httpx

from service.domain.errors import ProviderUnavailable, ReplyLost, Throttled, UnreadableBody
from service.domain.strict_json import parse_json
from service.domain.task import Fact

MAX_PAUSE = timedelta(hours=1)
THROTTLES = frozenset({"QuotaExceeded", "TooManyRequests", "SystemThrottling", "OperationInProcess"})
"""Reasons that ask for fewer requests, whatever the HTTP status."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """A whole answer: what HTTP says, and the body as it came."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def fine(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own class of statuses


def created(answer: Answer, read: Callable[[object], Fact]) -> Fact:
    """Return what the reply to a submission says; raises ReplyLost when it cannot be read or names no task."""
    try:
        fact = understood(answer, read)
    except ProviderUnavailable as error:
        raise ReplyLost(f"HTTP {answer.status}: {error}") from error
    if fact.upstream_id is None and not fact.settles:
        raise ReplyLost("the reply names no task")
    return fact


def understood(answer: Answer, read: Callable[[object], Fact]) -> Fact:
    """Return what an answer about a task says; raises Unwell when it cannot be read."""
    return read(parsed(answer))


def parsed(answer: Answer) -> object:
    """Return the JSON value in an answer; raises Unwell when there is none."""
    try:
        return parse_json(answer.body)
    except UnreadableBody as error:
        raise ProviderUnavailable(str(error)) from error


def is_throttle(answer: Answer, code: str) -> bool:
    """Return whether an answer asks for fewer requests, by its status or by its reason `code`."""
    return answer.status == httpx.codes.TOO_MANY_REQUESTS or code in THROTTLES


def throttled(answer: Answer, message: str) -> Throttled:
    """Return the error for an answer that asks for fewer requests, with the pause that it names."""
    return Throttled(message, retry_after=retry_after(answer.headers))


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return the pause that `Retry-After` asks for, in seconds or as a date, from 0 to 1 hour; None without one.

    A date is measured against the answer's own `Date`, so that no clock of ours has to agree with the provider's.
    """
    written = headers.get("Retry-After", "").strip()
    if written.isascii() and written.isdigit():
        return min(timedelta(seconds=int(written[:9])), MAX_PAUSE)
    try:
        pause = parsedate_to_datetime(written) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):  # no date at all, or only one of the two with a time zone
        return None
    return min(max(pause, timedelta()), MAX_PAUSE)
