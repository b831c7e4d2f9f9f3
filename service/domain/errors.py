"""Everything that can go wrong, as one tree, split by who must act.

BoomerangError
├── SenderError             whoever sent us the request or the callback
│   ├── InvalidParams       a task's parameters break documented limits; carries every fault
│   ├── BadToken            a correlation token that is forged, out of date or meant for something else
│   ├── BadSignature        a provider's signature that does not fit, or is stale, or whose nonce was used
│   ├── UnreadableBody      a body that no known shape fits
│   ├── NotFound            no such task or delivery, or another client's
│   └── Conflict            the task is where this cannot be done; says why
├── UpstreamError           the provider
│   ├── NeverLeft           the request surely never had an effect: it may be sent again
│   ├── Throttled           too many requests: later, and slower
│   │   └── Paused          not sent at all: the pause that the provider asked for is not over
│   ├── Refused             the provider's final no, in its own code and words
│   ├── ReplyLost           sent, and no answer that says what became of it: in doubt
│   ├── UnknownTask         the provider does not know that id
│   └── Unwell              an answer that says nothing about the task, only about the provider's health
├── HandlerError            the handler's author
│   ├── Retry               raised by a handler: try again later
│   ├── Reject              raised by a handler: dead letter now
│   └── BadHandler          a registration that cannot work; the mend is in the message
└── OperatorError           whoever runs the service
    ├── BadSetting          a setting that is missing, misspelt or out of range
    ├── SchemaBehind        the database is older than this code; run `boomerang migrate`
    └── StoreUnavailable    the database cannot take a write now
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


class BoomerangError(Exception):
    """The root of every error that this project raises on purpose."""


class SenderError(BoomerangError):
    """Whoever sent it must act."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One thing that is wrong with a request: where it stands, and how to mend it."""

    loc: tuple[str | int, ...]
    msg: str


class InvalidParams(SenderError):
    """A request breaks documented limits; `faults` holds every one of them."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in self.faults))


class BadToken(SenderError):
    """A correlation token is of no use; `reason` is `forged`, `expired` or `another_task`. Never carries the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the correlation token is no good: {reason}")
        self.reason = reason


class BadSignature(SenderError):
    """A provider's signature does not fit the callback, is stale, or its nonce was used for something else."""


class UnreadableBody(SenderError):
    """A body fits none of the known shapes."""


class NotFound(SenderError):
    """There is no such thing, or it belongs to another client."""


class Conflict(SenderError):
    """The thing is where this cannot be done to it; the message says why. For `outcome` see UpstreamError."""

    outcome: ClassVar[str] = "conflict"


class UpstreamError(BoomerangError):
    """The provider must act, or time must pass.

    `outcome` is the error's word in the metrics of requests and in the stored outcomes of polls. It is data: it stays
    as it is when the class is renamed.
    """

    outcome: ClassVar[str] = "upstream_error"


class NotSent(UpstreamError):
    """The request surely had no effect, so that sending it again cannot cost twice."""

    outcome: ClassVar[str] = "never_left"


class Throttled(UpstreamError):
    """The provider asks for fewer requests; nothing was done."""

    outcome: ClassVar[str] = "throttled"

    def __init__(self, message: str, *, retry_after: timedelta | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Paused(Throttled):
    """The pause that the provider asked for is not over; nothing was sent."""


class Refused(UpstreamError):
    """The provider's final no, with its own code and words: `code` is the provider's, `outcome` ours."""

    outcome: ClassVar[str] = "refused"

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class ReplyLost(UpstreamError):
    """The request may have been carried out; no answer says so."""

    outcome: ClassVar[str] = "reply_lost"


class UnknownTask(UpstreamError):
    """The provider does not know the id that it was asked for."""

    outcome: ClassVar[str] = "unknown_task"


class ProviderUnavailable(UpstreamError):
    """An answer that tells of the provider's health, not of the task: HTML, half a body, an unknown status, a 5xx."""

    outcome: ClassVar[str] = "unwell"


class HandlerError(BoomerangError):
    """The handler's author decides or must act."""


class Retry(HandlerError):
    """Raised by a handler: not now; `after` is the pause, in seconds or as timedelta, otherwise the schedule's.

    Raises TypeError for any other `after`, as a header's text is.
    """

    def __init__(self, reason: str = "", *, after: timedelta | float | None = None) -> None:
        super().__init__(reason)
        if after is not None and not isinstance(after, timedelta | int | float):
            raise TypeError(f"Retry(after=...) takes seconds or a timedelta, not {type(after).__name__}")
        self.after = timedelta(seconds=after) if isinstance(after, int | float) else after


class Reject(HandlerError):
    """Raised by a handler: this delivery can never succeed; it becomes a dead letter at once."""


class BadHandler(HandlerError):
    """A handler cannot be registered; the message says how to mend it."""


class OperatorError(BoomerangError):
    """Whoever runs the service must act."""


class BadSetting(OperatorError):
    """A setting is missing, misspelt or out of range; the message names it and what is allowed."""


class SchemaBehind(OperatorError):
    """The database's schema is not the one this code needs."""


class StoreUnavailable(OperatorError):
    """The database cannot take the write now: locked, full, read-only or gone."""
