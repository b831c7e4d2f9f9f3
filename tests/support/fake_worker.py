"""The worker of a process without a database: its work only takes time."""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast

from service.domain.task import Task, TaskId
from service.runtime.scheduler import PeriodicJob
from service.runtime.serverless import ServerlessWork
from service.runtime.worker import Worker
from tests.unit.sandbox.test_bench import moved_now

SECOND = timedelta(seconds=1)


@dataclass
class FakeSlots:
    """The slots of handlers."""

    full: bool = False


@dataclass(eq=False)
class FakePart:
    """Submitter, poller and dispatcher in one: each due item is work for a task that takes so many seconds.

    `errors` are raised by the next searches. `then` is what becomes due, in which part, when work for a task ends.
    """

    name: str
    log: list[tuple[float, str]]
    due: list[tuple[str, float]] = field(default_factory=list)
    errors: list[Exception] = field(default_factory=list)
    then: dict[str, "tuple[FakePart, float]"] = field(default_factory=dict)
    slots: FakeSlots = field(default_factory=FakeSlots)
    ended: list[tuple[str, timedelta]] = field(default_factory=list)
    _running: dict[asyncio.Task[None], str] = field(default_factory=dict)

    def note(self, event: str) -> None:
        """Note an event with the loop's time."""
        self.log.append((round(asyncio.get_running_loop().time(), 3), event))

    async def start_due(self) -> list[asyncio.Task[None]]:
        """Start everything that is due."""
        await asyncio.sleep(0)
        if self.errors:
            raise self.errors.pop(0)
        started, self.due = self.due, []
        return [self._start(task_id, seconds) for task_id, seconds in started]

    def _start(self, task_id: str, seconds: float) -> asyncio.Task[None]:
        self.note(f"{self.name} {task_id}")
        task = asyncio.create_task(self._work(task_id, seconds))
        self._running[task] = task_id
        task.add_done_callback(self._running.pop)
        return task

    async def _work(self, task_id: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if task_id in self.then:
            part, takes = self.then[task_id]
            part.due.append((task_id, takes))

    async def sweep(self) -> int:
        """Find two abandoned submissions."""
        return 2

    def running(self) -> set[asyncio.Task[None]]:
        """Return what is running."""
        return set(self._running)

    def task_ids(self) -> set[TaskId]:
        """Return the tasks that are worked on."""
        return {TaskId(each) for each in self._running.values()}

    async def release_running(self) -> None:
        """Cancel what is running."""
        await self.end_running("", counted_after=timedelta())

    async def end_running(self, reason: str, *, counted_after: timedelta) -> None:
        """Cancel what is running, and record that."""
        running = list(self._running)
        if running:
            self.note(f"{self.name} ended")
            self.ended.append((reason, counted_after))
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@dataclass
class FakeLimits:
    """The limits of requests to the provider."""

    free: int = 1
    pause: timedelta = timedelta()

    def ready(self) -> int:
        """Return how many requests may go."""
        return self.free


class NothingUnread:
    """An empty inbox."""

    async def run_once(self) -> int:
        """Record nothing."""
        return 0


class LoopClock:
    """A clock that moves with the loop, and by `ahead`: a machine that was suspended."""

    ahead = timedelta()

    def now(self) -> datetime:
        """Return the time."""
        return moved_now() + self.ahead


class FakeControls:
    """Controls of deliveries that hold nothing."""

    async def refresh_old(self) -> None:
        """Read nothing."""


@dataclass
class Bench:
    """Work during requests, over fake parts. `log` has what was started, with the loop's time."""

    log: list[tuple[float, str]] = field(default_factory=list)
    clock: LoopClock = field(default_factory=LoopClock)
    provider: FakeLimits = field(default_factory=FakeLimits)
    tasks: dict[str, Task] = field(default_factory=dict)
    error: Exception | None = None
    key_renewals: list[float] = field(default_factory=list)
    submitter: FakePart = field(init=False)
    poller: FakePart = field(init=False)
    dispatcher: FakePart = field(init=False)
    progress: FakePart = field(init=False)
    controls: FakeControls = field(default_factory=FakeControls)
    handler_jobs: FakePart = field(init=False)
    work: ServerlessWork = field(init=False)

    def __post_init__(self) -> None:
        self.submitter, self.poller, self.dispatcher, self.progress, self.handler_jobs = (
            FakePart(name, self.log) for name in ("submit", "poll", "deliver", "watch", "job")
        )
        parts: Any = self
        self.work = ServerlessWork(
            cast("Worker", parts),
            keys=PeriodicJob(name="keys", run=self._renew_keys, every=10 * SECOND),
            upkeep=[PeriodicJob(name="sweep", run=self.submitter.sweep, every=5 * SECOND)],
            queries=cast("Any", self),
            clock=self.clock,
        )

    @property
    def inbox_worker(self) -> NothingUnread:
        """Return an empty inbox."""
        return NothingUnread()

    async def _renew_keys(self) -> None:
        self.key_renewals.append(asyncio.get_running_loop().time())

    async def task(self, task_id: TaskId) -> Task | None:
        """Return a task, or raise `error`."""
        if self.error:
            raise self.error
        return self.tasks.get(task_id)

    def add(self, part: FakePart, *work: tuple[str, float]) -> None:
        """Make work due."""
        part.due += work

    def started(self) -> list[str]:
        """Return what was started, in order."""
        return [event for _, event in self.log]


def seconds_of(log: Iterable[tuple[float, str]], event: str) -> list[float]:
    """Return when an event happened."""
    return [at for at, what in log if what == event]
