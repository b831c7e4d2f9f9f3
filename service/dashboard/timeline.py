"""The time line of a task: its history in steps that a person reads, with gaps, and attempts below their delivery.

Only computes, from the entries that the API shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from service.domain.task import Json, Status, Task
from service.domain.task_view import parse_time

LONG = timedelta(seconds=30)
"""A pause between two steps that is shown."""

EVENTS = {
    "task.submitted": ("Accepted by the provider", "good"),
    "task.progressed": ("Progress", "idle"),
    "task.in_doubt": ("In doubt: the reply to the submission was lost", "warn"),
    "task.completed": ("Completed", "good"),
    "task.failed": ("Failed", "bad"),
    "task.canceled": ("Canceled", "idle"),
    "task.expired": ("Expired: the deadline passed", "warn"),
    "artifact.stored": ("Result stored in the archive", "good"),
}
VERDICTS = {
    "accepted": ("accepted, and recorded", "good"),
    "repeat": ("a repeat of one that is recorded", "idle"),
    "unread": ("stored, not read yet", "idle"),
}
POLLS = {"in_progress": "still in progress", "completed": "completed", "failed": "failed", "canceled": "canceled"}
TONES = {"delivered": "good", "dead": "bad", "retry": "warn", "pending": "idle"}


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """One attempt of a delivery; `seconds` is how long it took."""

    number: int
    outcome: str
    at: datetime
    took: timedelta
    error: str | None
    status: int | None
    body: str | None


@dataclass(frozen=True, kw_only=True)
class TimelineStep:
    """One step: `tone` is good, bad, warn or idle; `gap` the long pause before it; `times` are those of equal steps.

    `until` is the last time of a step that stands for several: a wait, or refused callbacks.
    """

    at: datetime
    kind: str
    title: str
    tone: str = "idle"
    text: str = ""
    gap: timedelta | None = None
    times: tuple[datetime, ...] = ()
    until: datetime | None = None
    delivery_id: str | None = None
    status: str | None = None
    due_at: datetime | None = None
    attempts: tuple[Attempt, ...] = field(default=())

    @property
    def last_at(self) -> datetime:
        """Return the last time of the step."""
        return max((self.until or self.at), *(self.times or (self.at,)))


def timeline(entries: Sequence[Json]) -> list[TimelineStep]:
    """Return the steps of the history entries of one task, oldest first; polls with one outcome in a row are one."""
    attempts: dict[str, list[Attempt]] = {}
    for entry in entries:
        if entry["kind"] == "attempt":
            attempts.setdefault(entry["delivery_id"], []).append(_attempt(entry))
    events = {entry["id"]: entry["type"] for entry in entries if entry["kind"] == "event"}
    steps: list[TimelineStep] = []
    ended: datetime | None = None  # the end of all steps so far: waits may overlap
    for entry in entries:
        if entry["kind"] == "attempt":
            continue
        step = _step(entry, events, attempts)
        if steps and step.kind == "poll" and (steps[-1].kind, steps[-1].title) == ("poll", step.title):
            steps[-1] = replace(steps[-1], times=(*(steps[-1].times or (steps[-1].at,)), step.at))
        else:
            gap = step.at - ended if ended else timedelta()
            steps.append(replace(step, gap=gap if gap >= LONG else None))
        ended = max(ended or step.at, step.last_at)
    return steps


@dataclass(frozen=True, kw_only=True)
class Waiting:
    """What an unfinished task waits for, since when, and when what comes `next` is due."""

    what: str
    since: datetime
    next: str
    due_at: datetime | None


def waiting_since(task: Task, steps: Sequence[TimelineStep], now: datetime, *, callbacks: bool) -> Waiting | None:
    """Return what an unfinished task waits for, None for one that has ended.

    `callbacks` is whether the provider knows an address to call back.
    """
    if task.settled or not steps:
        return None
    newest = next((step for step in reversed(steps) if step.kind not in NOTHING_NEW), steps[-1])
    what = WAITS.get(task.status, "Waiting") if callbacks else WAITS_POLLED.get(task.status, "Waiting")
    queued = task.status is Status.QUEUED
    return Waiting(
        what=what,
        since=min(newest.last_at, now),
        next="attempt" if queued else "poll",
        due_at=None if queued and task.due_at and task.due_at <= now else task.due_at,
    )


NOTHING_NEW = frozenset({"poll", "wait", "waiting", "delivery"})
"""Kinds of steps after which a task still waits for the same."""

WAITS: Mapping[Status, str] = {
    Status.QUEUED: "Waiting to be submitted",
    Status.SUBMITTING: "Waiting for the reply of the provider",
    Status.IN_PROGRESS: "Waiting for a callback",
    Status.IN_DOUBT: "Waiting for a callback that says what became of the submission",
    Status.EXPIRED: "Still waiting for a late result",
}
WAITS_POLLED: Mapping[Status, str] = {
    **WAITS,
    Status.IN_PROGRESS: "Waiting for the result, which is polled: without PUBLIC_URL there are no callbacks",
    Status.IN_DOUBT: "Waiting to find out what became of the submission: without PUBLIC_URL no callback says it",
}


def _step(entry: Json, events: Mapping[str, str], attempts: Mapping[str, Sequence[Attempt]]) -> TimelineStep:
    make = {
        "created": _created,
        "wait": _wait,
        "event": _event,
        "callback": _callback,
        "poll": _poll,
    }.get(entry["kind"])
    return make(entry) if make else _delivery(entry, events, attempts)


def _created(entry: Json) -> TimelineStep:
    return TimelineStep(at=_time(entry), kind="created", title=f"Task stored for {entry['client']}")


def _wait(entry: Json) -> TimelineStep:
    if entry["reason"] == "waiting":  # now: see `waiting_entry`
        return TimelineStep(at=_time(entry), kind="waiting", title="Waits now", tone="warn", text=entry["detail"] or "")
    count = entry["count"]
    return TimelineStep(
        at=_time(entry),
        kind="wait",
        title=f"Waited: {str(entry['reason']).replace('_', ' ')}" + (f", {count} times" if count > 1 else ""),
        tone="warn",
        text=entry["detail"] or "",
        until=parse_time(entry["last_at"]),
    )


def _event(entry: Json) -> TimelineStep:
    title, tone = EVENTS.get(entry["type"], (entry["type"], "idle"))
    return TimelineStep(at=_time(entry), kind="event", title=title, tone=tone)


def _callback(entry: Json) -> TimelineStep:
    verdict = str(entry["verdict"])
    refused = verdict.removeprefix("refused_")
    text, tone = VERDICTS.get(verdict, (verdict.replace("_", " "), "warn"))
    if refused != verdict:
        text, tone = f"refused: {refused.replace('_', ' ')}, {entry['count']} times", "bad"
    submission = entry["submission"] or 1
    title = f"Callback{f' for submission {submission}' if submission > 1 else ''} {text}"
    until = parse_time(entry.get("last_at"))
    return TimelineStep(at=_time(entry), kind="callback", title=title, tone=tone, until=until)


def _poll(entry: Json) -> TimelineStep:
    outcome = str(entry["outcome"])
    text = POLLS.get(outcome, outcome.replace("_", " "))
    return TimelineStep(at=_time(entry), kind="poll", title=f"Poll: {text}")


def _delivery(entry: Json, events: Mapping[str, str], attempts: Mapping[str, Sequence[Attempt]]) -> TimelineStep:
    status, event = str(entry["status"]), events.get(entry["event_id"], "")
    to = f" to endpoint {entry['endpoint_id']}" if entry.get("endpoint_id") else ""
    return TimelineStep(
        at=_time(entry),
        kind="delivery",
        title=f"Delivery of {event or 'an event'} by {entry['handler']}{to}",
        tone=TONES.get(status, "idle"),
        text=entry["last_error"] or "",
        delivery_id=entry["id"],
        status=status,
        due_at=parse_time(entry["due_at"]),
        attempts=tuple(attempts.get(entry["id"], ())),
    )


def _attempt(entry: Json) -> Attempt:
    finished = parse_time(entry["finished_at"])
    return Attempt(
        number=entry["attempt"],
        outcome=entry["outcome"],
        at=_time(entry),
        took=(finished - _time(entry)) if finished else timedelta(),
        error=entry["error"],
        status=entry["answer_status"],
        body=entry["answer_body"],
    )


def _time(entry: Json) -> datetime:
    at = parse_time(entry["at"])
    assert at is not None  # noqa: S101 - every entry has its time
    return at
