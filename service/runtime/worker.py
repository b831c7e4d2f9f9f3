"""The rounds of a worker: what comes again, and how they end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from service.callbacks.inbox_worker import InboxWorker
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.runtime.clock_jump import ClockJumpDetector
from service.runtime.scheduler import PeriodicJob
from service.runtime.single_pass import SinglePass
from service.tasks.poller import Poller
from service.tasks.submitter import Submitter

LEFT_OVER = timedelta(seconds=15)
"""How long a process that only receives leaves a kept callback to the workers."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """The use-cases that work through what is due."""

    inbox_worker: InboxWorker
    submitter: Submitter
    poller: Poller
    dispatcher: Dispatcher
    full: SinglePass
    clock_jumps: ClockJumpDetector
    missing_handlers: MissingHandlerMonitor

    def web_jobs(self) -> list[PeriodicJob]:
        """Return what a process needs that only receives.

        It learns how long tasks run, to say when they are due, and reads what no worker has read in the inbox.
        """
        left_over = partial(self.inbox_worker.run_once, LEFT_OVER)
        return [self._learning(), PeriodicJob(name="inbox", run=left_over, every=timedelta(seconds=5))]

    def jobs(self) -> list[PeriodicJob]:
        """Return every round with its rhythm; the rings of signals bring them forward.

        From now on what is recorded in this process is also started here, where there is a free place for it.
        """
        self.dispatcher.open()
        self.inbox_worker.enable_cache()
        self.poller.open()
        return [
            self._learning(),
            PeriodicJob(name="inbox", run=self.inbox_worker.run_once, every=timedelta(seconds=0.5), topic="inbox"),
            PeriodicJob(name="sweep", run=self._sweep, every=timedelta(seconds=5)),
            PeriodicJob(name="submit", run=self.submitter.run_once, every=timedelta(seconds=0.5), topic="submit"),
            PeriodicJob(name="reconcile", run=self.poller.run_once, every=timedelta(seconds=0.5), topic="reconcile"),
            PeriodicJob(name="dispatch", run=self.dispatcher.run_once, every=timedelta(seconds=1), topic="dispatch"),
            PeriodicJob(name="orphans", run=self._quietly(self.missing_handlers.check), every=timedelta(minutes=1)),
            PeriodicJob(name="prune", run=self._quietly(self.poller.prune), every=timedelta(minutes=10)),
        ]

    async def _sweep(self) -> int:
        await self.clock_jumps.check()
        await self.submitter.sweep()
        return 0

    def _learning(self) -> PeriodicJob:
        return PeriodicJob(name="learn", run=self._quietly(self.poller.update_estimates), every=timedelta(seconds=30))

    @staticmethod
    def _quietly(run: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[int]]:
        async def once() -> int:
            await run()
            return 0

        return once

    async def reconcile_once(self, *, begin_for: timedelta | None = None) -> dict[str, int]:
        """Work through everything that is due now, and what that makes due; return how many of each were done."""
        return await self.full.run(begin_for=begin_for)

    async def drain(self, seconds: float) -> None:
        """Begin nothing more, finish what is in hand within `seconds`, and give the rest back."""
        parts = (self.full, self.submitter, self.poller, self.dispatcher)
        await asyncio.gather(*(part.drain(seconds) for part in parts))
