"""Jobs of a handler: retries, failures, leases, shutdown."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from service import Event, Handlers, Job, Reject, Retry, Tools
from service.deliveries.handler_jobs import SCHEDULE
from service.testing import HandlerTest

LEASE = 60.0


class Runs:
    """What the job does: each run takes the next entry of `plan`, an error to raise or an event to wait for."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, int, Any]] = []
        self.plan: list[Exception | asyncio.Event] = []
        self.handlers = Handlers()
        self.handlers.on(name="sample", by_request=True)(self.event)
        self.handlers.job("work", name="sample", attempts=3, timeout=0.05)(self.work)

    async def event(self, event: Event, tools: Tools) -> None:
        """Do nothing."""

    async def work(self, job: Job, tools: Tools) -> None:  # noqa: ARG002 - the interface of jobs
        """Note the run, then do what the plan has."""
        self.seen.append((job.key, job.attempt, job.data))
        if self.plan:
            step = self.plan.pop(0)
            if isinstance(step, Exception):
                raise step
            await step.wait()


@pytest.fixture
def runs() -> Runs:
    """Return the runs of one test."""
    return Runs()


@pytest.fixture
async def test(runs: Runs) -> AsyncIterator[HandlerTest]:
    """Yield the running handler."""
    async with HandlerTest(runs.handlers) as running:
        yield running


async def test_job_runs_once(test: HandlerTest, runs: Runs) -> None:
    """With its data; without a key each request is its own job."""
    assert await test.tools.schedule("work", "a", {"x": 1}) == test.clock.now()
    await test.tools.schedule("work", data=[1], after=timedelta(seconds=5))
    await test.tools.schedule("work", data=[2], after=5.0)
    await test.advance(0)
    await test.advance(5)
    await test.advance(1000)
    assert runs.seen[0] == ("a", 1, {"x": 1})
    assert sorted(data for _, _, data in runs.seen[1:]) == [[1], [2]]


async def test_unscheduled_job_does_not_run(test: HandlerTest, runs: Runs) -> None:
    """As long as it waits."""
    await test.tools.schedule("work", "a", after=1)
    assert [await test.tools.unschedule("work", "a"), await test.tools.unschedule("work", "a")] == [True, False]
    await test.advance(10)
    assert runs.seen == []


async def test_failed_job_is_tried_again_and_then_kept_as_failed(test: HandlerTest, runs: Runs) -> None:
    """After each pause of the schedule, up to its attempts; a new request runs it again."""
    runs.plan = [ValueError("no"), ValueError("no"), ValueError("no")]
    await test.tools.schedule("work", "a")
    await test.advance(0)
    for pause in SCHEDULE[1:3]:
        await test.advance(pause.total_seconds() - 0.001)
        before = len(runs.seen)
        await test.advance(0.001)
        assert len(runs.seen) == before + 1
    await test.advance(1_000_000)
    assert [attempt for _, attempt, _ in runs.seen] == [1, 2, 3]
    await test.tools.schedule("work", "a")
    await test.advance(0)
    assert [attempt for _, attempt, _ in runs.seen] == [1, 2, 3, 1]


async def test_job_decides_about_its_next_attempt(test: HandlerTest, runs: Runs) -> None:
    """`Retry` has its pause, and `Reject` ends it."""
    runs.plan = [Retry("later", after=100), Reject("never")]
    await test.tools.schedule("work", "a")
    await test.advance(0)
    await test.advance(99)
    assert len(runs.seen) == 1
    await test.advance(1)
    assert len(runs.seen) == 2
    await test.advance(1_000_000)
    assert len(runs.seen) == 2


async def test_job_that_takes_too_long_has_failed(test: HandlerTest, runs: Runs) -> None:
    """Its next attempt comes by the schedule."""
    runs.plan = [asyncio.Event()]
    await test.tools.schedule("work", "a")
    await test.advance(0)
    await test.advance(1)
    assert [attempt for _, attempt, _ in runs.seen] == [1, 2]


async def test_request_during_a_run_runs_it_again(test: HandlerTest, runs: Runs) -> None:
    """The later data is not lost."""
    release = asyncio.Event()
    runs.plan = [release]
    await test.tools.schedule("work", "a", "early")
    jobs = test._application.worker.handler_jobs
    started = await jobs.start_due()
    await asyncio.sleep(0)
    await test.tools.schedule("work", "a", "late")
    assert await jobs.start_due() == []
    release.set()
    await asyncio.gather(*started)
    await test.advance(0)
    assert [data for _, _, data in runs.seen] == ["early", "late"]


async def test_shutdown_releases_a_running_job_uncounted(test: HandlerTest, runs: Runs) -> None:
    """Another process runs it at once, as its first attempt."""
    runs.plan = [asyncio.Event()]
    await test.tools.schedule("work", "a")
    jobs = test._application.worker.handler_jobs
    started = await jobs.start_due()
    await asyncio.sleep(0)
    await jobs.release_running()
    assert all(task.done() for task in started)
    await test.advance(0)
    assert [attempt for _, attempt, _ in runs.seen] == [1, 1]


async def test_killed_process_leaves_the_job_to_another(test: HandlerTest, runs: Runs) -> None:
    """When its lease expires; after as many attempts as it has, it is kept as failed."""
    await test.tools.schedule("work", "a")
    store = test._application.store.handler_jobs
    for attempt in (1, 2):
        now = test.clock.now()
        [claim] = await store.claim(["sample/work"], now=now, until=now + timedelta(seconds=LEASE), limit=1)
        assert claim.attempt == attempt
        await test.advance(LEASE - 1)
        assert runs.seen == []
        test.clock.advance(1)
    await test.advance(0)
    assert runs.seen == [("a", 3, None)]


async def test_job_that_ends_its_process_is_not_run_forever(test: HandlerTest, runs: Runs) -> None:
    """Each claim counts, and past the attempts it is failed without a run."""
    await test.tools.schedule("work", "a")
    store = test._application.store.handler_jobs
    for _ in range(3):
        now = test.clock.now()
        await store.claim(["sample/work"], now=now, until=now + timedelta(seconds=LEASE), limit=1)
        test.clock.advance(LEASE)
    await test.advance(0)
    await test.advance(1_000_000)
    assert runs.seen == []


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("other",), {}, "handler 'sample' has no job 'other'; it has: work"),
        (("work", ""), {}, "printable"),
        (("work", "a", object()), {}, "must be JSON"),
        (("work", "a", "x" * 70_000), {}, "at most"),
        (("work",), {"after": -1}, "within 366 days"),
        (("work",), {"after": timedelta(days=400)}, "within 366 days"),
    ],
)
async def test_request_that_cannot_work_is_refused(
    test: HandlerTest, arguments: tuple[Any, ...], options: dict[str, Any], message: str
) -> None:
    """The message says what is allowed."""
    with pytest.raises(ValueError, match=message):
        await test.tools.schedule(*arguments, **options)
