"""Work during requests: what each request waits for, for how long, and what is left due."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.domain.errors import StoreUnavailable
from service.domain.task import Status, TaskId
from service.runtime.serverless_request import (
    CLOSE_SECONDS,
    COUNTED_AFTER,
    CUT_SHORT,
    LAST_STARTS,
    WORK_SECONDS,
    is_task_due,
)
from tests.support.fake_worker import SECOND, Bench, seconds_of
from tests.unit.api.fakes import NOW, a_task
from tests.unit.sandbox.test_bench import MOVED

LIMIT = 25.0
"""Seconds within which each request is answered."""

A, B = TaskId("a"), TaskId("b")


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


def now() -> float:
    """Return the loop's time."""
    return asyncio.get_running_loop().time()


async def test_a_drive_lasts_until_all_that_follows_was_tried() -> None:
    """A submission, what it makes due and what that makes due are tried in this order, and nothing is waited for."""
    bench = Bench()
    bench.submitter.then["a"] = bench.poller, 0.2
    bench.poller.then["a"] = bench.dispatcher, 0.3
    bench.add(bench.submitter, ("a", 0.1))
    await bench.work.drive(A)
    assert bench.log == [(0.0, "submit a"), (0.1, "poll a"), (0.3, "deliver a")]
    assert now() == pytest.approx(0.6)


async def test_nothing_due_costs_no_time() -> None:
    """A drive without due work ends at once."""
    await Bench().work.drive(A)
    assert now() == 0.0


@pytest.mark.parametrize("part", ["submitter", "poller", "dispatcher"])
@pytest.mark.parametrize("kind", ["task", "callback", "reconcile"])
async def test_each_request_is_answered_within_the_limit(part: str, kind: str) -> None:
    """A hanging submission, poll or delivery ends the wait of a submission, a callback and a cron job alike."""
    bench = Bench()
    bench.add(getattr(bench, part), ("a", 1000))
    if kind == "task":
        await bench.work.tried(a_task())
    elif kind == "callback":
        await bench.work.drive(A)
    else:
        await bench.work.reconcile_once(start_within=timedelta(minutes=1))
    assert now() == pytest.approx(WORK_SECONDS)
    assert WORK_SECONDS + CLOSE_SECONDS < LIMIT


async def test_what_runs_too_long_is_ended_and_a_submission_is_not() -> None:
    """Polls and deliveries are released at the limit; a submission runs on, because its reply is worth more."""
    bench = Bench()
    for part in (bench.submitter, bench.poller, bench.dispatcher):
        bench.add(part, ("a", 1000))
    await bench.work.drive(A)
    assert bench.dispatcher.ended == [(CUT_SHORT, COUNTED_AFTER)]
    assert (len(bench.poller.ended), len(bench.submitter.ended)) == (1, 0)
    assert [len(part.running()) for part in (bench.submitter, bench.poller, bench.dispatcher)] == [1, 0, 0]


async def test_a_close_that_hangs_does_not_delay_the_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that does not answer the release of leases delays the response by CLOSE_SECONDS at most."""
    bench = Bench()
    bench.add(bench.poller, ("a", 1000))

    async def hang() -> None:
        await asyncio.sleep(1000)

    monkeypatch.setattr(bench.poller, "release_running", hang)
    await bench.work.drive(A)
    assert now() == pytest.approx(WORK_SECONDS + CLOSE_SECONDS)


async def test_nothing_starts_shortly_before_the_limit() -> None:
    """Work that becomes due late stays due for the next request, which starts it at once."""
    bench = Bench()
    bench.add(bench.submitter, ("a", WORK_SECONDS - LAST_STARTS + 1))
    bench.submitter.then["a"] = bench.dispatcher, 0.1
    await bench.work.drive(A)
    assert (bench.started(), bench.dispatcher.due) == (["submit a"], [("a", 0.1)])
    assert now() == pytest.approx(WORK_SECONDS - LAST_STARTS + 1)
    await bench.work.reconcile_once()
    assert bench.started() == ["submit a", "deliver a"]


async def test_a_request_does_not_wait_for_the_work_of_others() -> None:
    """A request is answered when its own work was tried, while another request keeps the process running."""
    bench = Bench()
    bench.add(bench.dispatcher, ("b", 20))
    slow = asyncio.create_task(bench.work.drive(B))
    await asyncio.sleep(1)
    bench.add(bench.dispatcher, ("a", 0.5))
    await bench.work.drive(A)
    assert now() == pytest.approx(1.5)
    await slow
    assert now() == pytest.approx(20)


async def test_a_cron_job_waits_for_the_work_of_others() -> None:
    """A cron job is answered when nothing runs any more, also if a request that is answered before it left the work."""
    bench = Bench()
    bench.add(bench.submitter, ("b", 30))
    first = asyncio.create_task(bench.work.drive(B))
    await asyncio.sleep(WORK_SECONDS - 1)
    last = asyncio.create_task(bench.work.reconcile_once())
    await first
    assert now() == pytest.approx(WORK_SECONDS)
    await last
    assert now() == pytest.approx(30)


async def test_two_requests_do_not_leave_the_rest_to_each_other() -> None:
    """Of two requests that are done at the same time, one stays for the work that neither asked for."""
    bench = Bench()
    bench.add(bench.submitter, ("c", 5))
    await asyncio.gather(bench.work.drive(A), bench.work.drive(B))
    assert now() == pytest.approx(5)


async def test_work_that_ends_during_a_search_is_followed_up() -> None:
    """A delivery that becomes due after the dispatcher was asked is started before the request is answered."""
    bench = Bench()
    bench.submitter.then["a"] = bench.dispatcher, 0.1
    bench.add(bench.submitter, ("a", 0))
    await bench.work.drive(A)
    assert bench.started() == ["submit a", "deliver a"]
    assert now() == pytest.approx(0.1)


async def test_reconcile_returns_the_numbers_of_what_it_started() -> None:
    """A cron job is answered with the numbers of swept, submitted and polled tasks and of deliveries."""
    bench = Bench()
    bench.add(bench.submitter, ("a", 0.1), ("b", 0.1))
    bench.add(bench.dispatcher, ("a", 0.1))
    assert await bench.work.reconcile_once() == {"swept": 2, "submitted": 2, "polled": 0, "dispatched": 1}


async def test_a_long_pause_of_the_provider_is_not_waited_for() -> None:
    """While the provider asks for a minute, deliveries are made, and tasks stay due."""
    bench = Bench()
    bench.provider.pause, bench.provider.free = 60 * SECOND, 0
    bench.add(bench.submitter, ("a", 1))
    bench.add(bench.dispatcher, ("a", 1))
    counts = await bench.work.reconcile_once()
    assert (counts["submitted"], counts["dispatched"], counts["upstream_pause_seconds"]) == (0, 1, 60)
    assert (bench.submitter.due, now()) == ([("a", 1)], 1.0)


async def test_the_rate_of_the_provider_is_waited_for() -> None:
    """A task that waits for the rate is submitted during the request."""
    bench = Bench()
    bench.provider.pause, bench.provider.free = 3 * SECOND, 0
    bench.add(bench.submitter, ("a", 1))

    def resume() -> None:
        bench.provider.pause, bench.provider.free = timedelta(), 1

    asyncio.get_running_loop().call_later(3, resume)
    await bench.work.drive(A)
    assert bench.started() == ["submit a"]
    assert seconds_of(bench.log, "submit a")[0] == pytest.approx(3, abs=0.1)


async def test_full_slots_are_waited_for() -> None:
    """A delivery that finds no free slot of its handler is made during the request."""
    bench = Bench()
    bench.dispatcher.slots.full = True

    def free() -> None:
        bench.dispatcher.slots.full = False
        bench.add(bench.dispatcher, ("a", 1))

    asyncio.get_running_loop().call_later(4, free)
    await bench.work.drive(A)
    assert bench.started() == ["deliver a"]


async def test_an_unavailable_database_is_tried_again_during_the_request() -> None:
    """After errors of the database, and any other, the work is done by the same request."""
    bench = Bench()
    bench.submitter.errors += [StoreUnavailable("away"), ValueError("a fault")]
    bench.add(bench.submitter, ("a", 1))
    await bench.work.drive(A)
    assert bench.started() == ["submit a"]


async def test_a_task_is_returned_as_it_is_after_its_submission() -> None:
    """The task is read again; if that fails, the accepted one is returned, so that nobody submits it twice."""
    bench = Bench()
    task = bench.tasks["task-1"] = a_task(status=Status.IN_PROGRESS)
    assert (await bench.work.tried(a_task())) is task
    bench.error = StoreUnavailable("away")
    assert (await bench.work.tried(a_task())).status is Status.QUEUED


async def test_a_task_that_is_not_due_is_returned_at_once() -> None:
    """Showing a task drives nothing unless a step of the task is due."""
    bench = Bench()
    task = a_task(status=Status.IN_PROGRESS, due_at=bench.clock.now() + SECOND)
    bench.add(bench.poller, ("task-1", 1))
    assert (await bench.work.tried(task, if_due=True)) is task
    assert bench.started() == []
    await bench.work.tried(replace(task, due_at=bench.clock.now()), if_due=True)
    assert bench.started() == ["poll task-1"]


@pytest.mark.parametrize(
    ("changes", "due"),
    [
        ({"due_at": NOW}, True),
        ({"due_at": NOW + SECOND}, False),
        ({"due_at": None}, False),
        ({"due_at": NOW, "leased_until": NOW + SECOND}, False),
        ({"due_at": NOW, "leased_until": NOW}, True),
        ({"status": Status.SUBMITTING, "due_at": None, "leased_until": NOW}, True),
        ({"status": Status.SUBMITTING, "due_at": None, "leased_until": NOW + SECOND}, False),
    ],
)
def test_what_counts_as_due(changes: dict[str, Any], due: bool) -> None:
    """A step is due when its time has come and no process holds it; so is a submission that was left behind."""
    assert is_task_due(a_task(**changes), NOW) is due


async def test_work_is_done_while_a_client_waits() -> None:
    """During a wait, what becomes due is done at once; the response waits for its last part."""
    bench = Bench()
    async with bench.work.driving(A, 10):
        await asyncio.sleep(5.2)
        bench.add(bench.poller, ("a", 1))
        bench.poller.then["a"] = bench.dispatcher, 2
        await asyncio.sleep(1.9)
    assert bench.started() == ["poll a", "deliver a"]
    assert now() == pytest.approx(8.5)


async def test_progress_is_polled_only_while_a_client_waits() -> None:
    """A wait is somebody who watches; a cron job and a callback poll nothing that is not due."""
    bench = Bench()
    bench.add(bench.progress, ("a", 0.0))
    await bench.work.drive(A)
    await bench.work.reconcile_once()
    assert bench.started() == []
    async with bench.work.driving(A, 10):
        await asyncio.sleep(1)
    assert bench.started() == ["watch a"]


async def test_a_request_during_the_end_of_work_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request that comes while the work of the one before is being ended waits for that, and then does its own."""
    bench = Bench()
    bench.add(bench.dispatcher, ("a", 1000))

    async def release() -> None:
        await asyncio.sleep(1)

    monkeypatch.setattr(bench.poller, "release_running", release)
    first = asyncio.create_task(bench.work.drive(A))
    await asyncio.sleep(WORK_SECONDS + 0.5)
    bench.add(bench.submitter, ("b", 1))
    await asyncio.gather(first, bench.work.drive(B))
    assert bench.started() == ["deliver a", "deliver ended", "submit b"]
    assert now() == pytest.approx(WORK_SECONDS + 0.5 + 0.5 + 1 + 1)


async def test_nothing_starts_after_the_stop() -> None:
    """After the request to stop, running work may end, nothing more starts, and the readiness says why."""
    bench = Bench()
    bench.add(bench.submitter, ("a", 2))
    bench.submitter.then["a"] = bench.dispatcher, 1
    driving = asyncio.create_task(bench.work.drive(A))
    await asyncio.sleep(1)
    assert bench.work.failure_reason() is None
    await bench.work.stop(6)
    await driving
    assert (bench.started(), now()) == (["submit a"], 2.0)
    assert bench.work.failure_reason() == "the process is stopping"


async def test_keys_are_registered_before_work_and_after_a_pause() -> None:
    """The keys are registered anew by the first request after ten seconds, also when only the clock shows the pause."""
    bench = Bench()
    await bench.work.start()
    await bench.work.drive(A)
    assert bench.key_renewals == []
    await asyncio.sleep(11)
    await asyncio.gather(bench.work.prepare(), bench.work.prepare())
    await bench.work.drive(A)
    bench.clock.ahead += timedelta(hours=1)  # the machine was suspended, and the loop's time with it
    await bench.work.drive(A)
    assert bench.key_renewals == [11.0, 11.0]


async def test_failed_registration_does_not_stop_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the keys cannot be registered, due work is done all the same."""
    bench = Bench()

    async def fail() -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(bench.work._upkeep, "renew_keys", fail)
    bench.add(bench.submitter, ("a", 1))
    await bench.work.drive(A)
    assert bench.started() == ["submit a"]


async def test_upkeep_runs_on_its_interval_only() -> None:
    """The sweep runs with the first request, and again with the first one after its interval."""
    bench = Bench()
    assert [(await bench.work.reconcile_once())["swept"] for _ in range(2)] == [2, 0]
    await asyncio.sleep(6)
    assert (await bench.work.reconcile_once())["swept"] == 2
