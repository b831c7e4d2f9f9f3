"""One attempt of a delivery: what its handler is given, and what its end means. Only computes."""

import asyncio
import re
import socket
import ssl
import sysconfig
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from traceback import walk_tb

import httpx

from service.deliveries.handler_api import Event
from service.domain.artifact import Artifact
from service.domain.errors import Reject, Retry, UpstreamError
from service.domain.ports.queues import Outcome, ResponsibleParty
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.retry_schedule import next_attempt
from service.domain.task_view import TaskView

MOST_TEXT = 500
"""Characters of an error's text that are kept."""

MOST_READ = 8_000
"""Characters of it that are searched for credentials."""

LONGEST_DELAY = timedelta(days=30)
"""A handler that asks for a longer delay gets this one."""

LEAST_ATTEMPTS = 8
"""An abandoned attempt gives its delivery up from this one on, however short the schedule: whose fault is not known."""

NOT_HANDLER_CODE = (Path(__file__).parents[1], Path(sysconfig.get_path("stdlib")))
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Where code lies that is no handler's: our own, Python's, and what is installed."""

DESTINATION_ERRORS = (
    Reject,
    Retry,
    UpstreamError,
    httpx.HTTPError,
    httpx.InvalidURL,
    TimeoutError,
    ConnectionError,
    socket.gaierror,
    ssl.SSLError,
    asyncio.IncompleteReadError,
)
"""What the other end is to blame for; everything else is a fault of ours."""


class Abandoned(Exception):
    """Nobody told how an attempt ended: its process ended, perhaps by the handler's doing, or lost its lease.

    It is an attempt that has failed, on the schedule, so that a handler that ends its process becomes a dead letter.
    Since it may as well have been killed for a reason of its own, a handler's own limit does not apply: the delivery is
    given up for it only once the whole schedule is used up, and after LEAST_ATTEMPTS of them.
    """

    def __init__(self) -> None:
        super().__init__("the process ended during the attempt, or lost its lease")


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    """What an attempt's end means, and the error; a `retry` comes with `due_at`, a `dead` letter with `fault`.

    `where` is the line of the handler that the error came from.
    """

    outcome: Outcome
    error: str | None = None
    fault: ResponsibleParty | None = None
    due_at: datetime | None = None
    where: str | None = None


@dataclass(frozen=True, kw_only=True)
class AttemptContext:
    """Which attempt ended (from 1), after how many the delivery is given up, and when; `jitter` is from 0 to 1."""

    attempt: int
    limit: int
    schedule: Sequence[timedelta]
    now: datetime
    jitter: float
    secrets: Collection[str] = field(default=(), repr=False)


def event_of(claim: DeliveryClaim) -> Event:
    """Return what the handler of `claim` is given; fields that only a newer version knows are left out."""
    artifact = claim.event.data.get("artifact")
    task = TaskView.from_json(claim.event.data)
    return Event(
        id=claim.event.id,
        type=claim.event.type.value,
        at=claim.event.at,
        task=task,
        payload=claim.payload,
        metadata=task.metadata,
        artifact=Artifact(**artifact) if artifact else None,
        client=claim.event.client,
    )


def classify_attempt(error: BaseException | None, trial: AttemptContext) -> AttemptOutcome:
    """Return what becomes of a delivery whose attempt ended with `error`, or without one."""
    if error is None:
        return AttemptOutcome(outcome="delivered")
    cause = _root(error)
    text, where = describe_error(cause, trial.secrets), where_raised(cause)
    due_at = _due_at(cause, trial)
    if due_at is None:
        return AttemptOutcome(outcome="dead", error=text, fault=responsible_party(cause), where=where)
    return AttemptOutcome(outcome="retry", error=text, due_at=due_at, where=where)


def responsible_party(error: BaseException) -> ResponsibleParty:
    """Return who is to blame."""
    return "destination" if isinstance(error, DESTINATION_ERRORS) else "ours"


def where_raised(error: BaseException) -> str | None:
    """Return file and line of the innermost frame that is neither ours nor a library's, such as `handlers/mine.py:17`.

    Only that, as an error's frames hold whatever the handler worked with.
    """
    lines = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    theirs = [(path, line) for path, line in lines if path.is_absolute() and not _foreign(path)]
    return f"{'/'.join(theirs[-1][0].parts[-2:])}:{theirs[-1][1]}" if theirs else None


def _foreign(path: Path) -> bool:
    return any(path.is_relative_to(place) for place in NOT_HANDLER_CODE) or not INSTALLED.isdisjoint(path.parts)


def cancelled_from_outside() -> bool:
    """Whether the running attempt is being cancelled from outside, and did not merely raise what looks like it."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def describe_error(error: BaseException, secrets: Collection[str] = ()) -> str:
    """Return class and message on one line, at most 500 characters, without credentials and query strings."""
    text = ": ".join(filter(None, (type(error).__name__, _words(error))))
    for secret in filter(None, secrets):
        text = text.replace(secret, "…")
    text = re.sub(r"://[^/\s]*@", "://", text)
    text = re.sub(r"(://[^\s?'\"<>]*)\?[^\s'\"<>]*", r"\1?…", text)
    text = re.sub(r"whsec_\S+", "whsec_…", text)
    text = re.sub(r"(?i)\b(bearer|basic)\s+\S+", r"\1 …", text)
    return " ".join("".join(one if one.isprintable() else " " for one in text).split())[:MOST_TEXT]


def _words(error: BaseException) -> str:
    try:
        return str(error)[:MOST_READ]
    except Exception:  # noqa: BLE001 - a handler's own error class may fail to describe itself
        return "(it cannot be told)"


def _due_at(error: BaseException, trial: AttemptContext) -> datetime | None:
    if isinstance(error, Reject):
        return None
    limit = trial.limit
    if isinstance(error, Abandoned):
        limit = max(limit, len(trial.schedule), LEAST_ATTEMPTS)
    at = next_attempt(trial.schedule, trial.attempt, limit, trial.now, trial.jitter)
    if at is None or not isinstance(error, Retry) or error.after is None:
        return at
    return trial.now + max(timedelta(), min(error.after, LONGEST_DELAY))


def _root(error: BaseException) -> BaseException:
    """Return the error that decides: of a group, a Reject before all others, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    roots = [_root(one) for one in error.exceptions]
    return next((one for one in roots if isinstance(one, Reject)), roots[0])
