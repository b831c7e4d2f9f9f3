"""Run everything that is due once, for processes that sleep between two calls."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from service.callbacks.inbox_worker import InboxWorker
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_jobs import JobRunner
from service.domain.ports.provider import RateLimitedProvider
from service.tasks.poller import Poller
from service.tasks.submitter import Submitter

log = structlog.get_logger("boomerang.runtime")

MAX_CYCLES = 100
"""Maximum cycles of one pass. Each cycle can make new work due, and the pass must end."""

RATE_CHECK_INTERVAL = 0.05
"""Seconds between two checks of the rate limiter and of the provider's pause, which change with time alone."""

STOP_CHECK_INTERVAL = 0.5
"""Seconds between two checks whether the process stops and which handlers ignored their cancellation."""

MAX_PAUSE = timedelta(seconds=10)
"""The longest pause of the provider that a pass waits for."""


@dataclass(kw_only=True, slots=True)
class SinglePass:
    """Submits, polls and dispatches what is due, and waits for that and for work that was in flight before.

    It does not wait for work that other jobs start meanwhile. Only one pass runs at a time: a second caller gets the
    result of the running pass.
    """

    inbox_worker: InboxWorker
    submitter: Submitter
    poller: Poller
    dispatcher: Dispatcher
    handler_jobs: JobRunner
    provider: RateLimitedProvider
    _running: asyncio.Task[dict[str, int]] | None = field(init=False, default=None)
    _start_until: float = field(init=False, default=math.inf)
    _stopping: bool = field(init=False, default=False)

    async def run(self, *, start_within: timedelta | None = None) -> dict[str, int]:
        """Process everything that is due now and what becomes due by that; return how many of each kind.

        With `start_within`, nothing starts later than that time after the work that was in flight before has ended; the
        rest stays due. A caller who joins a running pass gets the limit of that pass. While the provider asks for a
        pause longer than MAX_PAUSE, the pass skips what needs the provider and returns `upstream_pause_seconds`. A pass
        continues when its caller is cancelled.
        """
        if self._running is None:
            seconds = math.inf if start_within is None else start_within.total_seconds()
            self._running = asyncio.create_task(self._run_cycles(seconds), name="single pass")
            self._running.add_done_callback(self._finish)
        return await asyncio.shield(self._running)

    async def drain(self, seconds: float) -> None:
        """Start no more work; wait up to `seconds` for work that is being started."""
        self._stopping = True
        if self._running:
            await asyncio.wait([self._running], timeout=seconds)
        if self._running:
            self._running.cancel()

    def _finish(self, running: asyncio.Task[dict[str, int]]) -> None:
        self._running = None
        if not running.cancelled() and (error := running.exception()):
            log.warning("single pass failed", error=type(error).__name__)

    def _may_start(self) -> bool:
        return not self._stopping and asyncio.get_running_loop().time() < self._start_until

    def _paused(self) -> bool:
        return self.provider.pause > MAX_PAUSE

    async def _run_cycles(self, start_within: float) -> dict[str, int]:
        await self.poller.update_estimates()
        # work in flight can make more work due, and the process may sleep after the answer
        earlier = [(part, part.running()) for part in (self.submitter, self.poller)]
        deliveries = self.dispatcher.running()
        for part, tasks in earlier:
            await self._wait(part, tasks, RATE_CHECK_INTERVAL, unless=self._paused)
        await self._wait(self.dispatcher, deliveries, STOP_CHECK_INTERVAL)
        self._start_until = asyncio.get_running_loop().time() + start_within
        done = Counter({"swept": await self.submitter.sweep(), "submitted": 0, "polled": 0, "dispatched": 0})
        for _ in range(MAX_CYCLES):
            while self._may_start() and await self.inbox_worker.run_once():
                pass
            cycle = {
                "submitted": await self._run_due(self.submitter),
                "polled": await self._run_due(self.poller),
                "dispatched": await self._start_until_none(self.dispatcher),
            }
            if self.handler_jobs.needed:
                cycle["handler_jobs"] = await self._start_until_none(self.handler_jobs)
            done.update(cycle)
            if not any(cycle.values()):
                break
        return dict(done) | self._pause_report()

    def _pause_report(self) -> dict[str, int]:
        if not self._paused():
            return {}
        seconds = round(self.provider.pause.total_seconds())
        log.warning("single pass stopped, provider asked to pause", seconds=seconds)
        return {"upstream_pause_seconds": seconds}

    async def _run_due(self, part: Submitter | Poller) -> int:
        """Start what is due, as fast as the rate limit allows, until nothing is due or the provider pauses."""
        total = 0
        while self._may_start() and not self._paused():
            if self.provider.ready() < 1:
                await asyncio.sleep(RATE_CHECK_INTERVAL)
                continue
            started = await part.start_due()
            if not started:
                break
            await self._wait(part, started, RATE_CHECK_INTERVAL, unless=self._paused)
            total += len(started)
        return total

    async def _start_until_none(self, part: Dispatcher | JobRunner) -> int:
        total = 0
        while self._may_start() and (started := await part.start_due()):
            await self._wait(part, started, STOP_CHECK_INTERVAL)
            total += len(started)
        return total

    async def _wait(
        self,
        part: Submitter | Poller | Dispatcher | JobRunner,
        started: Iterable[asyncio.Task[None]],
        interval: float,
        *,
        unless: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until the `started` tasks of `part` have ended, the process stops or `unless` holds.

        The two conditions are checked every `interval` seconds.
        """
        pending = set(started)
        while (pending := pending & part.running()) and not (self._stopping or unless()):
            await asyncio.wait(pending, timeout=interval)
