"""When a task's next step is due: always, until its end."""

import random
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.domain.poll_planner import LIST_SEARCH_INTERVAL, POLL_MAX_AFTER_GUESS, PollPlanner
from service.domain.poll_schedule import CallbackStats
from service.domain.ports.unit_of_work import RunTime
from service.domain.task import Source, Status, Task, TaskId, UpstreamId, advance
from tests.support.scripted_provider import DONE
from tests.support.task_loop import DEADLINE, HOUR, IN_DOUBT_FOR, MINUTE, SECOND, START

ID = UpstreamId("up1")
HINT = {"status": "completed"}
UNHEARD = CallbackStats(count=0, lost=0)


def _planner(*, lists: bool = False, poll_first: timedelta | None = None) -> PollPlanner:
    return PollPlanner(
        poll_first=poll_first,
        poll_max=5 * MINUTE,
        in_doubt_for=IN_DOUBT_FOR,
        retention=timedelta(days=30),
        lists=lists,
        jitter=lambda: 0.0,
    )


def _task(status: Status, **changes: Any) -> Task:
    given: dict[str, Any] = {
        "id": TaskId("t"),
        "client": "ann",
        "provider": "vtrix",
        "model": "m",
        "bucket": "b",
        "created_at": START,
        "deadline_at": START + DEADLINE,
        "status": status,
        "submitted_at": START,
    }
    return Task(**(given | changes))


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELED])
def test_nothing_is_due_after_a_terminal_status(status: Status) -> None:
    """A task that the provider ended is not polled."""
    assert _planner().due(_task(status, upstream_id=ID), START) is None


def test_queued_task_keeps_its_due_time() -> None:
    """An update that leaves the task queued keeps its due time; a running submission has its lease instead."""
    assert _planner().due(_task(Status.QUEUED, due_at=START + HOUR), START) == START + HOUR
    assert _planner().due(_task(Status.SUBMITTING, due_at=START), START) is None


@pytest.mark.parametrize("ago", [timedelta(), MINUTE, HOUR, DEADLINE - SECOND, DEADLINE, 2 * DEADLINE])
@pytest.mark.parametrize("named", [{"upstream_id": ID}, {"hinted_id": ID}, {}])
@pytest.mark.parametrize("status", [Status.IN_PROGRESS, Status.IN_DOUBT])
@pytest.mark.parametrize("lists", [True, False])
def test_unsettled_task_has_a_next_step_by_its_deadline(
    status: Status, named: dict[str, Any], ago: timedelta, lists: bool
) -> None:
    """With or without an id, the next step is due by the deadline, and at once after it."""
    now = START + ago
    due_at = _planner(lists=lists).due(_task(status, **named), now)
    assert due_at is not None
    assert due_at <= max(now, START + DEADLINE)


@pytest.mark.parametrize("guess", [{"status": Status.EXPIRED}, {"status": Status.FAILED}])
@pytest.mark.parametrize("ago", [DEADLINE, 10 * DEADLINE, timedelta(days=20)])
def test_guessed_ends_are_polled_rarely(guess: dict[str, Status], ago: timedelta) -> None:
    """After a guess the pause is between a few minutes and an hour, until the end of the retention period."""
    now = START + ago
    due_at = _planner().due(_task(upstream_id=ID, guessed=True, **guess), now)
    assert due_at is not None
    assert now + 5 * MINUTE <= due_at <= now + POLL_MAX_AFTER_GUESS
    assert _planner().due(_task(upstream_id=ID, guessed=True, **guess), START + timedelta(days=31)) is None


def test_guessed_ends_are_polled_while_the_clock_is_doubted() -> None:
    """The retention period may not be over: a late result would not be found any more."""
    planner, now = _planner(), START + timedelta(days=31)
    planner.clock_doubted = lambda: True
    due_at = planner.due(_task(Status.EXPIRED, upstream_id=ID, guessed=True), now)
    assert due_at is not None
    assert now < due_at <= now + POLL_MAX_AFTER_GUESS


def test_guess_without_an_id_is_not_polled() -> None:
    """An expired task without an id waits for a callback only."""
    assert _planner().due(_task(Status.EXPIRED, guessed=True), START + DEADLINE) is None


def test_doubt_ends_after_in_doubt_for() -> None:
    """Without a list the next step is the end of the doubt; with one it is the next search."""
    doubtful = _task(Status.IN_DOUBT, guessed=True)
    assert _planner().due(doubtful, START) == START + IN_DOUBT_FOR
    assert _planner(lists=True).due(doubtful, START) == START + LIST_SEARCH_INTERVAL
    late = START + IN_DOUBT_FOR + SECOND
    assert _planner(lists=True).due(doubtful, late) == late + LIST_SEARCH_INTERVAL


@pytest.mark.parametrize("hint", [{"hinted_at": START}, {"hinted_id": ID}])
def test_doubt_of_a_task_with_a_callback_lasts_until_its_deadline(hint: dict[str, Any]) -> None:
    """After a callback the doubt does not end early."""
    assert _planner().abandoned_at(_task(Status.IN_DOUBT, guessed=True, **hint)) == START + DEADLINE


def test_unconfirmed_end_is_due_at_once() -> None:
    """An end without an id that carried our payload token is accepted now."""
    assert _planner().due(_task(Status.IN_DOUBT, guessed=True, hinted_at=START, hinted_fact=HINT), START) == START


def test_poll_first_sets_the_first_poll() -> None:
    """POLL_FIRST counts from the submission."""
    due_at = _planner(poll_first=40 * SECOND).due(_task(Status.IN_PROGRESS, upstream_id=ID), START + 3 * SECOND)
    assert due_at == START + 40 * SECOND


def _end(before: Task, after_seconds: float, *, source: Source = Source.POLL) -> RunTime | None:
    now = START + timedelta(seconds=after_seconds)
    step = advance(before, DONE, now, source=source)
    assert step is not None
    return _planner().run_time(before, step.task, now)


def test_run_time_of_a_poll_is_a_lower_bound() -> None:
    """A task that ended between two polls ran at least until the first of them."""
    run_time = _end(_task(Status.IN_PROGRESS, upstream_id=ID, polled_at=START + 20 * SECOND), 45)
    assert run_time is not None
    assert (run_time.seconds, run_time.called_back) == (20, False)


def test_run_time_of_a_callback_is_its_time() -> None:
    """The end is the time of the callback, not of the poll that confirms it."""
    run_time = _end(_task(Status.IN_PROGRESS, upstream_id=ID, hinted_at=START + 30 * SECOND), 45)
    assert run_time is not None
    assert (run_time.seconds, run_time.called_back) == (30, True)


def test_unsubmitted_task_has_no_run_time() -> None:
    """Without a submission there is no run time."""
    assert _end(_task(Status.IN_PROGRESS, upstream_id=ID, submitted_at=None), 45) is None


def test_update_replaces_the_estimates() -> None:
    """Run times are grouped by bucket, in any order."""
    planner = _planner()
    planner.update_estimates([_run("a", 10), _run("b", 50), _run("a", 20), _run("a", 30)], UNHEARD)
    assert {bucket: (one.median, one.count) for bucket, one in planner.estimates.items()} == {
        "a": (20, 3),
        "b": (50, 1),
    }
    planner.update_estimates([], UNHEARD)
    assert planner.estimates == {}


def test_callbacks_of_all_buckets_establish_trust() -> None:
    """Hundreds of received callbacks establish trust for each bucket; a lost one ends it."""
    planner = _planner()
    for callback_stats, trusted in (
        (CallbackStats(count=459, lost=0), True),
        (CallbackStats(count=460, lost=1), False),
    ):
        planner.update_estimates([_run("a", 10), _run("b", 50)], callback_stats)
        assert [one.trusted for one in planner.estimates.values()] == [trusted, trusted]


def _noticed(planner: PollPlanner, run: float) -> float:
    """Return how many seconds after its end a task with a lost callback is noticed."""
    task = _task(Status.IN_PROGRESS, upstream_id=ID)
    while True:
        due_at = planner.due(task, task.polled_at or START)
        assert due_at is not None
        late = (due_at - START).total_seconds() - run
        if late >= 0:
            return late
        task = replace(task, polls=task.polls + 1, polled_at=due_at)


@pytest.mark.parametrize("seed", range(3))
def test_loss_of_one_percent_is_rarely_trusted(seed: int) -> None:
    """With a loss of 1 %, at most three of 6,000 tasks with a wide spread of run times are noticed late."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    planner, runs, late = _planner(), list[RunTime](), 0
    for number in range(6_000):
        run, lost = 60 * rng.lognormvariate(0, 0.4), rng.random() < 0.01
        if lost:
            late += _noticed(planner, run) > max(30.0, 0.1 * run)
        runs.append(RunTime(bucket="b", seconds=run, called_back=not lost, at=START))
        if number % 10 == 0:
            newest = runs[-1000:]
            planner.update_estimates(
                runs[-200:], CallbackStats(count=len(newest), lost=sum(not one.called_back for one in newest))
            )
    assert late <= 3


def _run(bucket: str, seconds: float) -> RunTime:
    return RunTime(bucket=bucket, seconds=seconds, called_back=True, at=START)
