"""Every error of this project, as one tree, split by who must act.

BoomerangError
├── SenderError             the sender of a request or of a callback
│   ├── InvalidParams       a task's parameters exceed documented limits; carries every fault
│   ├── BadToken            a correlation token that is forged, expired or for another task
│   ├── BadSignature        a provider's signature that is wrong or stale, or whose nonce was used before
│   ├── UnreadableBody      a body of no known shape
│   │   └── BodyTooLarge    a body over the size limit
│   ├── NotFound            no such task or delivery, or another client's
│   ├── QueueFull           the unfinished tasks of one client hold too many bytes
│   └── Conflict            not possible in the current status of the task or delivery
├── UpstreamError           the provider
│   ├── NotSent             the request had no effect: it may be sent again
│   ├── Throttled           too many requests: send later and more slowly
│   │   └── Paused          not sent: the pause that the provider asked for is not over
│   ├── Refused             the provider's final refusal, with its code and message
│   ├── ReplyLost           sent, without a response that shows the result: in doubt
│   ├── UnknownTask         the provider does not know the id
│   └── ProviderUnavailable a response about the provider's health, not about the task
├── HandlerError            the handler's author
│   ├── Retry               raised by a handler: try again later
│   ├── Reject              raised by a handler: dead letter now
│   └── BadHandler          a registration that cannot work; the message contains the fix
└── OperatorError           the operator of the service
    ├── BadSetting          a setting that is missing, misspelt or out of range
    ├── KeyMissing          a token that may be genuine: another process may know its key
    ├── SchemaBehind        the database is older than this code; run `boomerang migrate`
    ├── ArchiveRefused      the archive refuses a request until the operator acts: no such bucket, no access
    ├── ArchiveUnavailable  the archive gives no usable answer now
    └── StoreUnavailable    the database cannot take a write now
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import ClassVar


class BoomerangError(Exception):
    """The base class of every error that this project raises on purpose."""


class SenderError(BoomerangError):
    """The sender must act."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault of a request: its location, and a message with the fix."""

    loc: tuple[str | int, ...]
    msg: str


class InvalidParams(SenderError):
    """A request exceeds documented limits; `faults` holds every fault."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in self.faults))


class BadToken(SenderError):
    """A correlation token is invalid; `reason` is `forged`, `expired` or `another_task`. Never carries the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the correlation token is not valid: {reason}")
        self.reason = reason


class BadSignature(SenderError):
    """A provider's signature is wrong or stale, or its nonce was used for another callback."""


class UnreadableBody(SenderError):
    """A body has no known shape."""


class BodyTooLarge(UnreadableBody):
    """A body is over the size limit, as it is sent or decompressed."""


class NotFound(SenderError):
    """There is no such task or delivery, or it belongs to another client."""


class QueueFull(SenderError):
    """The unfinished tasks of one client hold as many bytes as one client may keep; later there may be fewer."""


class Conflict(SenderError):
    """Not possible in the current status; the message contains the reason. For `outcome` see UpstreamError."""

    outcome: ClassVar[str] = "conflict"


class KeyReused(Conflict):
    """An idempotency key was used for another request."""


class UpstreamError(BoomerangError):
    """The provider must act, or time must pass.

    `outcome` identifies the error in the metrics of requests and in the stored outcomes of polls. It is data and does
    not change when the class is renamed.
    """

    outcome: ClassVar[str] = "upstream_error"


class NotSent(UpstreamError):
    """The request had no effect, so that sending it again cannot be charged twice."""

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
    """The provider's final refusal; `code` and `message` are the provider's, `outcome` is ours.

    `names_task` is true if the refusal of a submission has a field that may be the id of a task; `of_key` if it is
    because of our API key, whatever was asked for.
    """

    outcome: ClassVar[str] = "refused"

    def __init__(self, code: str, message: str, *, names_task: bool = False, of_key: bool = False) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.names_task = names_task
        self.of_key = of_key


class ReplyLost(UpstreamError):
    """The request may have been executed; no response confirms it."""

    outcome: ClassVar[str] = "reply_lost"


class UnknownTask(UpstreamError):
    """The provider does not know the requested id."""

    outcome: ClassVar[str] = "unknown_task"


class ProviderUnavailable(UpstreamError):
    """A response about the provider's health, not about the task: HTML, half a body, an unknown status, a 5xx."""

    outcome: ClassVar[str] = "unwell"


class HandlerError(BoomerangError):
    """The handler's author decides or must act."""


class Retry(HandlerError):
    """Raised by a handler: try again after the pause `after`, in seconds or as timedelta; by default the schedule's.

    Raises TypeError for any other `after`, such as the text of a header.
    """

    def __init__(self, reason: str = "", *, after: timedelta | float | None = None) -> None:
        super().__init__(reason)
        if after is not None and not isinstance(after, timedelta | int | float):
            raise TypeError(f"Retry(after=...) takes seconds or a timedelta, not {type(after).__name__}")
        self.after = timedelta(seconds=after) if isinstance(after, int | float) else after


class Reject(HandlerError):
    """Raised by a handler: this delivery can never succeed; it becomes a dead letter at once."""


class BadHandler(HandlerError):
    """A handler cannot be registered; the message contains the fix."""


class OperatorError(BoomerangError):
    """The operator of the service must act."""


class BadSetting(OperatorError):
    """A setting is missing, misspelt or out of range; the message names it and what is allowed."""


class KeyMissing(OperatorError):
    """A token that no key of this process verifies, while another process may know its key."""


class SchemaBehind(OperatorError):
    """The database's schema is not the one that this code needs."""


class StoreUnavailable(OperatorError):
    """The database cannot take the write now: locked, full, read-only or unreachable."""


class ArchiveRefused(OperatorError):
    """The archive refuses a request until the operator acts; the message has the fix, and no credentials."""


class ArchiveUnavailable(OperatorError):
    """The archive gives no usable answer now: it cannot be reached, is too slow or answers 5xx."""
