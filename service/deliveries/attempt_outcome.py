"""Builds the event of an attempt, and classifies how the attempt ended. Only computes."""

import asyncio
import socket
import ssl
import sysconfig
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from traceback import walk_tb

import httpx

from service.deliveries.error_text import SecretMask, describe_error, is_unreachable, unreachable_text
from service.deliveries.handler_api import Event
from service.domain.artifact import ARTIFACT_FIELDS, Artifact
from service.domain.errors import ArchiveUnavailable, Reject, Retry, UpstreamError
from service.domain.ports.queues import Outcome, ResponsibleParty
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.retry_schedule import next_attempt
from service.domain.task import Json
from service.domain.task_view import TaskView

MAX_DELAY = timedelta(days=30)
"""Upper limit for the delay that a handler asks for."""

MIN_ATTEMPTS = 8
"""An abandoned attempt makes a dead letter from this attempt on, however short the schedule: its cause is unknown."""

NOT_HANDLER_CODE = (Path(__file__).parents[1], Path(sysconfig.get_path("stdlib")))
INSTALLED = frozenset({"site-packages", "dist-packages"})
"""Locations of code that is not a handler's: the service, the standard library, installed packages."""

DESTINATION_ERRORS = (
    Reject,
    Retry,
    UpstreamError,
    ArchiveUnavailable,
    httpx.HTTPError,
    httpx.InvalidURL,
    TimeoutError,
    ConnectionError,
    socket.gaierror,
    ssl.SSLError,
    asyncio.IncompleteReadError,
)
"""Errors for which the destination is responsible; for all others this installation is."""


class Abandoned(Exception):
    """The result of an attempt is unknown: its process exited, perhaps because of the handler, or lost its lease.

    It counts as a failed attempt, on the schedule, so that a handler that exits its process becomes a dead letter. The
    process may also have been killed for another reason, so the handler's own limit does not apply: the delivery
    becomes a dead letter only after the whole schedule and at least MIN_ATTEMPTS attempts.
    """

    def __init__(self) -> None:
        super().__init__("the process ended during the attempt, or lost its lease")


@dataclass(frozen=True, kw_only=True)
class AttemptOutcome:
    """How an attempt ended, and its error; a `retry` has `due_at`, a `dead` letter has `fault`.

    `where` is the line of the handler that raised the error, `end_reason` why a dead letter is not tried again.
    `about_destination`: the destination was tried. An attempt that is `held` was not made and does not count: the
    endpoint is paused.
    """

    outcome: Outcome
    error: str | None = None
    fault: ResponsibleParty | None = None
    due_at: datetime | None = None
    where: str | None = None
    end_reason: str | None = None
    about_destination: bool = False
    held: bool = False


HELD = AttemptOutcome(outcome="retry", held=True)


@dataclass(frozen=True, kw_only=True)
class AttemptContext:
    """The number of the attempt that ended (from 1), the maximum, and the time; `jitter` is from 0 to 1.

    `secrets` and `mask` are what no error text may contain. `requested` is True for a `notify` entry: of its network
    errors the client sees one sentence. `schedule_setting` is the setting that `schedule` comes from. With
    `waited_long` the delivery has waited for its destination as long as its schedule lasts.
    """

    attempt: int
    limit: int
    schedule: Sequence[timedelta]
    now: datetime
    jitter: float
    secrets: Collection[str] = field(default=(), repr=False)
    mask: SecretMask | None = field(default=None, repr=False)
    requested: bool = False
    schedule_setting: str = "RETRY_SCHEDULE"
    waited_long: bool = False


def event_of(claim: DeliveryClaim) -> Event:
    """Return the event that the handler of `claim` receives, without fields that only a newer version knows."""
    task = TaskView.from_json({"client": claim.event.client} | claim.event.data)
    return Event(
        id=claim.event.id,
        type=claim.event.type.value,
        at=claim.event.at,
        task=task,
        payload=claim.payload,
        metadata=task.metadata,
        artifact=_artifact(claim.event.data.get("artifact"), task),
        client=claim.event.client,
    )


def _artifact(data: Json | None, task: TaskView) -> Artifact | None:
    """Return the stored result of an event, with its position in the output of the task; None without one."""
    if not data:
        return None
    known = {name: data[name] for name in ARTIFACT_FIELDS if name in data}
    addresses = [item.get("archived_url") for item in task.output]
    position = addresses.index(known["archived_url"]) if known["archived_url"] in addresses else None
    return Artifact(**known, output=position)


def classify_attempt(error: BaseException | None, context: AttemptContext) -> AttemptOutcome:
    """Return the outcome of an attempt that ended with `error`, or without one."""
    if error is None:
        return AttemptOutcome(outcome="delivered", about_destination=True)
    cause = root_error(error)
    about_destination = responsible_party(cause) == "destination"
    text, where = describe_error(cause, context.secrets, context.mask), where_raised(cause)
    if context.requested and is_unreachable(cause):
        text = unreachable_text(text)
    due_at = _due_at(cause, context)
    if due_at is None:
        return AttemptOutcome(
            outcome="dead",
            error=text,
            fault=responsible_party(cause),
            where=where,
            end_reason=_reason_of_end(cause, context),
            about_destination=about_destination,
        )
    return AttemptOutcome(outcome="retry", error=text, due_at=due_at, where=where, about_destination=about_destination)


def _reason_of_end(cause: BaseException, context: AttemptContext) -> str:
    """Return why a delivery is not tried again: its last error alone does not say it."""
    if isinstance(cause, Reject):
        return "the handler rejected it"
    attempts = f"{context.attempt} attempt{'s' if context.attempt > 1 else ''}"
    if context.waited_long:
        return f"{attempts} failed, and it waited for its destination as long as its schedule lasts"
    if context.limit == len(context.schedule):
        return f"{attempts} failed, as many as {context.schedule_setting} has"
    return f"{attempts} failed, as many as the handler allows"


def responsible_party(error: BaseException) -> ResponsibleParty:
    """Return who is responsible for `error`."""
    return "destination" if isinstance(error, DESTINATION_ERRORS) else "ours"


def where_raised(error: BaseException) -> str | None:
    """Return file and line of the innermost frame in handler code, such as `handlers/mine.py:17`.

    Nothing else of the frames is returned, since they contain the handler's data.
    """
    lines = [(Path(frame.f_code.co_filename), line) for frame, line in walk_tb(error.__traceback__)]
    in_handler = [(path, line) for path, line in lines if path.is_absolute() and _is_handler_code(path)]
    return f"{'/'.join(in_handler[-1][0].parts[-2:])}:{in_handler[-1][1]}" if in_handler else None


def _is_handler_code(path: Path) -> bool:
    return not any(path.is_relative_to(other) for other in NOT_HANDLER_CODE) and INSTALLED.isdisjoint(path.parts)


def cancelled_from_outside() -> bool:
    """Return whether the current asyncio task is being cancelled, as opposed to a handler raising CancelledError."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _due_at(error: BaseException, context: AttemptContext) -> datetime | None:
    if isinstance(error, Reject):
        return None
    limit = context.limit
    if isinstance(error, Abandoned):
        limit = max(limit, len(context.schedule), MIN_ATTEMPTS)
    at = next_attempt(context.schedule, context.attempt, limit, context.now, context.jitter)
    if at is None or not isinstance(error, Retry) or error.after is None:
        return at
    return context.now + max(timedelta(), min(error.after, MAX_DELAY))


def root_error(error: BaseException) -> BaseException:
    """Return the error that decides the outcome: of a group, a Reject before all others, else the first."""
    if not isinstance(error, BaseExceptionGroup):
        return error
    roots = [root_error(member) for member in error.exceptions]
    return next((root for root in roots if isinstance(root, Reject)), roots[0])
