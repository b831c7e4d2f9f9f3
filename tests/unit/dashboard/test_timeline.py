"""The time line of a task."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.dashboard.timeline import Waiting, timeline, waiting_since
from service.domain.task import Json, Status
from service.domain.task_view import rfc3339
from tests.unit.api.fakes import NOW, a_task


def entry(kind: str, seconds: float, **more: Any) -> Json:
    """Return a history entry some seconds after the task was created."""
    return {"at": rfc3339(NOW + timedelta(seconds=seconds)), "kind": kind, **more}


def delivery(seconds: float, **more: Any) -> Json:
    """Return the entry of a dead delivery of the event `event-1`."""
    fields: Json = {
        "id": "d1",
        "event_id": "event-1",
        "handler": "webhook",
        "status": "dead",
        "attempts": 1,
        "due_at": None,
        "fault": "destination",
        "last_error": "404",
        "finished_at": None,
        "requested": True,
        "endpoint_id": None,
    }
    return entry("delivery", seconds, **(fields | more))


def attempt(seconds: float, number: int) -> Json:
    """Return an attempt of that delivery that took 0.25 seconds."""
    fields = {"delivery_id": "d1", "handler": "webhook", "attempt": number, "outcome": "retry", "error": "404"}
    finished = rfc3339(NOW + timedelta(seconds=seconds + 0.25))
    return entry("attempt", seconds, **fields, finished_at=finished, answer_status=404, answer_body="gone")


def test_attempts_are_in_their_delivery() -> None:
    """A delivery has its attempts in their order, with status, answer and duration, and names its event."""
    completed = entry("event", 1, id="event-1", type="task.completed")
    [_, step] = timeline([completed, delivery(2), attempt(3, 1), attempt(8, 2)])
    assert step.title == "Delivery of task.completed by webhook"
    assert [(each.number, each.status, each.body) for each in step.attempts] == [(1, 404, "gone"), (2, 404, "gone")]
    assert step.attempts[0].took == timedelta(seconds=0.25)
    assert (step.tone, step.status) == ("bad", "dead")


def test_equal_polls_in_a_row_are_one_step() -> None:
    """Low-value steps do not hide the others; each keeps its time."""
    polls = [entry("poll", each, outcome="in_progress") for each in (1, 2, 3)]
    steps = timeline([*polls, entry("poll", 4, outcome="completed")])
    assert [step.title for step in steps] == ["Poll: still in progress", "Poll: completed"]
    assert [each - NOW for each in steps[0].times] == [timedelta(seconds=each) for each in (1, 2, 3)]


@pytest.mark.parametrize(("seconds", "shown"), [(29.9, False), (30, True), (3600, True)])
def test_long_pauses_are_shown(seconds: float, shown: bool) -> None:
    """A pause from 30 seconds is a gap before the next step."""
    steps = timeline([entry("created", 0, client="ann"), entry("poll", seconds, outcome="in_progress")])
    assert (steps[1].gap == timedelta(seconds=seconds)) is shown
    assert steps[0].gap is None


@pytest.mark.parametrize(
    ("verdict", "more", "title", "tone"),
    [
        ("accepted", {}, "Callback accepted, and recorded", "good"),
        ("unreadable", {}, "Callback unreadable", "warn"),
        ("accepted", {"submission": 2}, "Callback for submission 2 accepted, and recorded", "good"),
        ("refused_forged", {"count": 3, "last_at": None}, "Callback refused: forged, 3 times", "bad"),
    ],
)
def test_callbacks_have_their_verdict(verdict: str, more: Json, title: str, tone: str) -> None:
    """Each callback says what was made of it."""
    [step] = timeline([entry("callback", 0, **{"submission": 1, "verdict": verdict, **more})])
    assert (step.title, step.tone) == (title, tone)


@pytest.mark.parametrize("kind", ["created", "wait", "event", "callback", "poll"])
def test_each_kind_of_entry_has_a_title(kind: str) -> None:
    """No entry of the history is left out."""
    fields: Json = {
        "client": "ann",
        "reason": "throttled",
        "count": 2,
        "last_at": None,
        "detail": None,
        "id": "event-1",
        "type": "task.submitted",
        "submission": 1,
        "verdict": "accepted",
        "outcome": "in_progress",
    }
    [step] = timeline([entry(kind, 0, **fields)])
    assert step.title
    assert step.at == NOW


def test_waiting_since() -> None:
    """The end of the time line of an unfinished task says what it waits for, how long, and when the next poll is."""
    task = a_task(status=Status.IN_PROGRESS, due_at=NOW + timedelta(seconds=200))
    steps = timeline([entry("created", 0, client="ann")])
    waiting = waiting_since(task, steps, NOW + timedelta(seconds=80), callbacks=True)
    assert waiting == Waiting(what="Waiting for a callback", since=NOW, next="poll", due_at=task.due_at)


def test_without_an_address_no_callback_is_waited_for() -> None:
    """A service without PUBLIC_URL gets no callbacks, and does not say that it waits for one."""
    steps = timeline([entry("created", 0, client="ann")])
    waiting = waiting_since(a_task(status=Status.IN_PROGRESS), steps, NOW, callbacks=False)
    assert waiting is not None
    assert waiting.what == "Waiting for the result, which is polled: without PUBLIC_URL there are no callbacks"


def test_task_that_the_provider_refuses_waits_since_its_creation() -> None:
    """Submissions in vain and the wait for the next one are no gap, and begin no new wait."""
    last = rfc3339(NOW + timedelta(seconds=170))
    refused = entry("wait", 1, reason="throttled", count=5, last_at=last, detail="too many")
    now = {"reason": "waiting", "count": 1, "last_at": rfc3339(NOW + timedelta(seconds=184)), "detail": "again"}
    steps = timeline([entry("created", 0, client="ann"), refused, entry("wait", 170, **now)])
    assert [(step.title, step.gap) for step in steps[1:]] == [("Waited: throttled, 5 times", None), ("Waits now", None)]
    assert steps[1].until == NOW + timedelta(seconds=170)
    task = a_task(status=Status.QUEUED, due_at=NOW + timedelta(seconds=200))
    waiting = waiting_since(task, steps, NOW + timedelta(seconds=184), callbacks=True)
    assert waiting == Waiting(what="Waiting to be submitted", since=NOW, next="attempt", due_at=task.due_at)


def test_gap_begins_at_the_end_of_all_waits() -> None:
    """Waits may overlap: what comes after the end of all of them has a gap."""
    long = entry("wait", 0, reason="throttled", count=9, last_at=rfc3339(NOW + timedelta(seconds=100)), detail="")
    short = entry("wait", 10, reason="queue", count=1, last_at=rfc3339(NOW + timedelta(seconds=20)), detail="")
    steps = timeline([long, short, entry("event", 130, id="e", type="task.submitted")])
    assert [step.gap for step in steps] == [None, None, timedelta(seconds=30)]


def test_settled_task_waits_for_nothing() -> None:
    """A settled task has no such line."""
    steps = timeline([entry("created", 0, client="ann")])
    assert waiting_since(a_task(status=Status.COMPLETED), steps, datetime.now(UTC), callbacks=True) is None
