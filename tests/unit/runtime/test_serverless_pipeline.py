"""Work during requests over a real database: what a submission, a callback and a cron job have done when they end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from service.callbacks.limits import BurstDetector
from service.domain.errors import NotSent
from service.domain.submission_limits import Limits
from service.domain.task import Fact, Status
from service.runtime.scheduler import PeriodicJob
from service.runtime.serverless import ServerlessWork
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import MINUTE, SECOND, TIMEOUT, Loop, open_loop
from tests.support.worker_builder import build_worker


async def nothing() -> None:
    """Register no keys."""


def build_work(loop: Loop, seen: list[str]) -> ServerlessWork:
    """Return the work of a process; the types of delivered events are in `seen`."""
    worker = build_worker(loop, seen)
    keys = PeriodicJob(name="keys", run=nothing, every=MINUTE)
    return ServerlessWork(worker, keys=keys, upkeep=worker.upkeep_jobs(), queries=loop.store.queries, clock=loop.clock)


@asynccontextmanager
async def working(directory: Path, **options: object) -> AsyncIterator[tuple[Loop, ServerlessWork, list[str]]]:
    """Yield a process whose work is done during requests; the test fails if it takes too long."""
    seen: list[str] = []
    async with asyncio.timeout(TIMEOUT), open_loop(directory, **options) as loop:
        yield loop, build_work(loop, seen), seen


async def test_a_submission_is_sent_and_reported_before_the_answer(tmp_path: Path) -> None:
    """The request returns the task with the provider's id, and its event is delivered."""
    async with working(tmp_path) as (loop, work, seen):
        task = await work.tried(await loop.accept())
        assert (task.status, task.upstream_id, seen) == (Status.IN_PROGRESS, "up1", ["task.submitted"])


@pytest.mark.parametrize("burst", [False, True])
async def test_a_callback_is_confirmed_recorded_and_delivered_before_the_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, burst: bool
) -> None:
    """The outcome is fetched, then the task settles, then the handlers run; also for a callback of a burst."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: burst)
    async with working(tmp_path) as (loop, work, seen):
        task = await work.tried(await loop.accept())
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        assert (loop.upstream.polled, seen) == ([], ["task.submitted"])
        await work.drive(task.id)
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert loop.upstream.polled == ["up1"]
        assert seen == ["task.submitted", "task.completed"]


async def test_a_cron_job_settles_tasks_whose_callbacks_are_lost(tmp_path: Path) -> None:
    """Everything that is due is polled and delivered before its answer, which has the numbers."""
    async with working(tmp_path) as (loop, work, seen):
        tasks = [await work.tried(await loop.accept()) for _ in range(3)]
        for number in range(3):
            loop.upstream.set_fact(f"up{number + 1}")
        loop.clock.move(MINUTE)
        assert await work.reconcile_once() == {"swept": 0, "submitted": 0, "polled": 3, "dispatched": 3}
        assert {(await loop.task(task.id)).status for task in tasks} == {Status.COMPLETED}
        assert seen.count("task.completed") == 3


async def test_what_could_not_be_sent_stays_due(tmp_path: Path) -> None:
    """A submission that failed is queued for later, billed nothing, and sent by the next request that is due."""
    async with working(tmp_path) as (loop, work, _):
        loop.upstream.creates.append(NotSent("no connection"))
        task = await work.tried(await loop.accept())
        assert (task.status, task.due_at is None or task.due_at > loop.clock.now()) == (Status.QUEUED, True)
        loop.clock.move(MINUTE)
        assert (await work.tried(task, if_due=True)).status is Status.IN_PROGRESS
        assert sum(loop.upstream.charges.values()) == 1


async def test_a_task_that_waits_for_a_limit_is_answered_at_once(tmp_path: Path) -> None:
    """A reached limit holds the task back and not the request; a later request submits it."""
    async with working(tmp_path, limits=Limits(max_in_flight=1)) as (loop, work, _):
        await work.tried(await loop.accept())
        assert (waiting := await work.tried(await loop.accept())).status is Status.QUEUED
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"), request=0)
        assert (await work.tried(waiting, if_due=True)).status is Status.IN_PROGRESS


async def test_a_submission_left_by_a_killed_instance_is_in_doubt_and_not_sent_again(tmp_path: Path) -> None:
    """The first request after the lease has expired finds the submission, and bills nothing more."""
    async with working(tmp_path) as (loop, work, seen):
        task = await loop.accept()
        await loop.store.tasks.claim_submissions(
            now=loop.clock.now(), until=loop.clock.now() + SECOND, limit=1, limits=Limits()
        )
        loop.clock.move(MINUTE)
        assert (await work.reconcile_once())["swept"] == 1
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        assert (seen, loop.upstream.requests) == (["task.in_doubt"], [])


async def test_a_wait_right_after_another_request_is_known_as_a_watch(tmp_path: Path) -> None:
    """Watches are stored during a wait, too, not only when a request begins: else nothing would poll its task."""
    async with working(tmp_path) as (loop, work, _):
        task = await work.tried(await loop.accept())  # stores what is watched: nothing
        loop.upstream.set_fact("up1", Fact(status=Status.IN_PROGRESS, progress=0.4))
        with work._worker.watch.watching(task.id):
            async with work.driving(task.id, 0):
                await asyncio.sleep(0)
                loop.clock.move(5 * SECOND)  # while the client waits
                while not loop.upstream.polled:  # noqa: ASYNC110 - the search for due work runs beside it
                    await asyncio.sleep(0.01)
        assert (await loop.task(task.id)).progress == 0.4


async def test_nothing_runs_between_the_requests(tmp_path: Path) -> None:
    """After the answer no asyncio task of the work is left that could be stopped half-way."""
    async with working(tmp_path) as (loop, work, _):
        before = asyncio.all_tasks()
        await work.tried(await loop.accept())
        await asyncio.sleep(0)
        left = {task.get_name() for task in asyncio.all_tasks() - before if not task.done()}
        assert left <= {"lease renewer"}  # asleep: it has no lease to renew
        assert work._worker.submitter.task_ids() == set()


async def test_a_task_that_a_client_waits_for_shows_its_progress(tmp_path: Path) -> None:
    """A wait watches its task, which is polled although no poll is due, and is not due earlier for that."""
    async with working(tmp_path) as (loop, work, seen):
        task = await work.tried(await loop.accept())
        loop.upstream.set_fact("up1", Fact(status=Status.IN_PROGRESS, progress=0.4))
        loop.clock.move(5 * SECOND)  # the interval between two polls of a watched task
        await loop.store.watched_tasks.watch([task.id], until=loop.clock.now() + MINUTE)
        async with work.driving(task.id, 0):
            while not loop.upstream.polled:  # noqa: ASYNC110 - the search for due work runs beside it
                await asyncio.sleep(0)
        found = await loop.task(task.id)
        assert (found.progress, found.due_at, seen[-1]) == (0.4, task.due_at, "task.progressed")
