"""The transition table, cell by cell, and the effect of facts on a task."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from service.domain.task import (
    EventType,
    Fact,
    Source,
    Status,
    Step,
    Task,
    TaskError,
    TaskId,
    UpstreamId,
    Usage,
    advance,
)
from service.domain.task_view import TaskView, parse_time, rfc3339, task_json

NOW = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
ENDS = {Status.COMPLETED, Status.FAILED, Status.CANCELED}
WORDS = {Status.IN_PROGRESS} | ENDS
GUESSES = {Status.IN_PROGRESS, Status.FAILED}

# What the upstream may say (guessed=False) and what we may conclude (guessed=True), by the status that a task is in.
UPSTREAM_MAY = {
    Status.QUEUED: WORDS,
    Status.SUBMITTING: WORDS,
    Status.IN_PROGRESS: WORDS,
    Status.IN_DOUBT: WORDS,
    Status.EXPIRED: ENDS,
    Status.COMPLETED: set(),
    Status.FAILED: set(),
    Status.CANCELED: set(),
}
WE_MAY = {
    Status.QUEUED: GUESSES | {Status.SUBMITTING, Status.IN_DOUBT, Status.EXPIRED},
    Status.SUBMITTING: GUESSES | {Status.QUEUED, Status.IN_DOUBT, Status.EXPIRED},
    Status.IN_PROGRESS: {Status.IN_PROGRESS, Status.EXPIRED},
    Status.IN_DOUBT: GUESSES | {Status.QUEUED, Status.EXPIRED},
    Status.EXPIRED: {Status.FAILED},
    Status.COMPLETED: set(),
    Status.FAILED: set(),
    Status.CANCELED: set(),
}


def a_task(status: Status = Status.IN_PROGRESS, *, guessed: bool = False, upstream_id: str | None = "up1") -> Task:
    """Return a task in `status`."""
    return Task(
        id=TaskId("0198c2aa"),
        client="anna",
        provider="vtrix",
        model="viduq2_pro_reference",
        bucket="b",
        created_at=NOW,
        deadline_at=NOW + timedelta(hours=2),
        status=status,
        guessed=guessed,
        upstream_id=UpstreamId(upstream_id) if upstream_id else None,
    )


def stepped(task: Task, fact: Fact, source: Source | None = Source.POLL) -> Step:
    """Return the step that `fact` makes; fails if there is none."""
    step = advance(task, fact, NOW, source=source)
    assert step is not None
    return step


@pytest.mark.parametrize("guessed", [False, True], ids=["reported", "guessed"])
@pytest.mark.parametrize("after", list(Status))
@pytest.mark.parametrize("before", list(Status))
def test_transitions_follow_the_table(before: Status, after: Status, guessed: bool) -> None:
    """Each status may be followed by those in the table, and by no other."""
    allowed_by_report = UPSTREAM_MAY[before] | (WE_MAY[before] - WORDS)
    allowed = WE_MAY[before] if guessed else allowed_by_report
    step = advance(a_task(before), Fact(status=after, guessed=guessed, progress=0.5), NOW, source=Source.POLL)
    assert (step.task.status if step else None) == (after if after in allowed else None)


@pytest.mark.parametrize("word", sorted(WORDS))
def test_provider_overrules_a_guessed_failure(word: Status) -> None:
    """Any status that the provider reports replaces a guessed failure."""
    step = stepped(a_task(Status.FAILED, guessed=True), Fact(status=word))
    assert (step.task.status, step.task.guessed) == (word, False)


@pytest.mark.parametrize("word", sorted(Status))
def test_second_guess_does_not_overrule_the_first(word: Status) -> None:
    """A guessed failure is not changed by other guesses."""
    assert advance(a_task(Status.FAILED, guessed=True), Fact(status=word, guessed=True), NOW, source=None) is None


def test_confirmed_failure_makes_an_event_after_a_guessed_one() -> None:
    """The provider's failure makes an event although it was guessed, since it has the true reason."""
    before = replace(a_task(Status.FAILED, guessed=True), error=TaskError(code="submission_unknown", message="?"))
    step = stepped(before, Fact(status=Status.FAILED, error=TaskError(code="002014001", message="no")))
    assert step.events == (EventType.FAILED,)
    assert step.task.error == TaskError(code="002014001", message="no")


def test_guess_does_not_end_a_running_task() -> None:
    """A guessed failure has no effect after the provider reported progress."""
    guess = Fact(status=Status.FAILED, guessed=True, error=TaskError(code="submission_unknown", message="?"))
    assert advance(a_task(Status.IN_PROGRESS), guess, NOW, source=None) is None


def test_end_has_its_time_and_source() -> None:
    """A terminal fact sets the time, the source, the result, and full progress when the task is completed."""
    output = ({"type": "video", "url": "https://cdn.example/v.mp4"},)
    fact = Fact(status=Status.COMPLETED, output=output, usage=Usage(cost="0.35"))
    task = stepped(a_task(), fact, Source.CALLBACK).task
    assert (task.settled_at, task.settled_by, task.progress) == (NOW, Source.CALLBACK, 1.0)
    assert (task.output, task.usage) == (output, Usage(cost="0.35"))


def test_failure_keeps_the_progress() -> None:
    """A failed task keeps its last progress."""
    assert stepped(replace(a_task(), progress=0.4), Fact(status=Status.FAILED)).task.progress == 0.4


def test_result_overrules_expiry() -> None:
    """An expired task becomes completed when the provider reports it, and that makes an event."""
    step = stepped(a_task(Status.EXPIRED, guessed=True), Fact(status=Status.COMPLETED))
    assert (step.task.status, step.events) == (Status.COMPLETED, (EventType.COMPLETED,))


def test_first_id_makes_the_submitted_event() -> None:
    """`task.submitted` happens when the provider's id is first known, once."""
    first = stepped(a_task(Status.SUBMITTING, upstream_id=None), _working("up1", 0.0), Source.SUBMIT)
    second = stepped(first.task, _working("up1", 0.3))
    assert (first.events, second.events) == ((EventType.SUBMITTED,), (EventType.PROGRESSED,))


def test_task_completed_by_the_reply_has_both_events() -> None:
    """A create reply with the result makes both events."""
    fact = Fact(status=Status.COMPLETED, upstream_id=UpstreamId("up1"))
    step = stepped(a_task(Status.SUBMITTING, upstream_id=None), fact, Source.SUBMIT)
    assert step.events == (EventType.SUBMITTED, EventType.COMPLETED)


def test_failure_without_an_id_has_no_submitted_event() -> None:
    """A create reply that fails without an id makes the failure event alone."""
    step = stepped(a_task(Status.SUBMITTING, upstream_id=None), Fact(status=Status.FAILED), Source.SUBMIT)
    assert step.events == (EventType.FAILED,)


def test_repeated_fact_changes_nothing() -> None:
    """The same progress twice is no step."""
    once = stepped(a_task(), _working("up1", 0.3)).task
    assert advance(once, _working("up1", 0.3), NOW, source=Source.POLL) is None


def test_older_progress_changes_nothing() -> None:
    """A late callback does not decrease the progress."""
    once = stepped(a_task(), _working("up1", 0.6)).task
    assert advance(once, _working("up1", 0.2), NOW, source=Source.CALLBACK) is None


def test_callback_cannot_replace_a_known_id() -> None:
    """The id of a provider behind the provider, in a callback, does not change the id that is polled."""
    assert stepped(a_task(), _working("vidu-77", 0.5), Source.CALLBACK).task.upstream_id == "up1"


def test_reply_replaces_the_id_of_a_callback() -> None:
    """The id in the create reply is polled, though an earlier callback named another."""
    assert stepped(a_task(upstream_id="vidu-77"), _working("up1", 0.5), Source.SUBMIT).task.upstream_id == "up1"


def test_doubt_and_expiry_make_one_event() -> None:
    """The events in doubt and expired happen when the status is reached, and not again."""
    lost = Fact(status=Status.IN_DOUBT, guessed=True)
    late = Fact(status=Status.EXPIRED, guessed=True)
    doubted = stepped(a_task(Status.SUBMITTING, upstream_id=None), lost, None)
    assert (doubted.events, doubted.task.settled_by) == ((EventType.IN_DOUBT,), None)
    assert advance(doubted.task, lost, NOW, source=None) is None
    expired = stepped(doubted.task, late, None)
    assert expired.events == (EventType.EXPIRED,)
    assert advance(expired.task, late, NOW, source=None) is None


def _working(upstream_id: str, progress: float) -> Fact:
    return Fact(status=Status.IN_PROGRESS, upstream_id=UpstreamId(upstream_id), progress=progress)


def test_view_round_trips_through_json() -> None:
    """The public view of a task is the same after a round trip through JSON values."""
    settled = stepped(a_task(), Fact(status=Status.FAILED, error=TaskError(code="1", message="no"))).task
    view = TaskView.from_json(task_json(settled))
    assert TaskView.from_json(view.to_json()) == view
    assert view.to_json()["created_at"] == "2026-05-06T12:00:00.000Z"


def test_view_shows_nothing_internal() -> None:
    """Leases, fences, hints and notify entries (which contain secrets) are not in the view."""
    shown = set(task_json(a_task()))
    assert shown.isdisjoint({"notify", "fence", "leased_until", "hinted_at", "hinted_id", "due_at", "bucket"})


def test_view_names_the_client() -> None:
    """A task says whose it is; the event of an earlier release, which does not, has no name."""
    data = task_json(a_task())
    assert (data["client"], TaskView.from_json(data).client) == (a_task().client, a_task().client)
    del data["client"]
    assert TaskView.from_json(data).client == ""


def test_time_without_an_offset_is_refused() -> None:
    """A time without an offset is ambiguous."""
    with pytest.raises(ValueError, match="offset"):
        parse_time("2026-05-06T12:00:00")


def test_times_are_written_in_utc() -> None:
    """A time in another zone is written in UTC; None is written as None."""
    assert rfc3339(parse_time("2026-05-06T14:00:00+02:00")) == "2026-05-06T12:00:00.000Z"
    assert rfc3339(None) is None
