"""One full round: everything that is due, and what that makes due, for whoever sleeps in between."""

import asyncio
import math
from collections import Counter
from collections.abc import Callable, Iterable
from datetime import timedelta

import structlog

from service.callbacks.inbox_worker import InboxWorker
from service.deliveries.dispatcher import Dispatcher
from service.domain.ports.provider import RateLimitedProvider
from service.tasks.poller import Poller
from service.tasks.submitter import Submitter

log = structlog.get_logger("boomerang.rounds")

MOST_LAPS = 100
"""How often one full round goes about: each lap can make new work due, and it must come to an end."""

BREATH = 0.05
"""Seconds between looks at the budget and the pause of the upstream, which change with time alone."""

LONG_BREATH = 0.5
"""Seconds between looks at whether the process stops, and which handlers took no notice of their end."""

PATIENCE = timedelta(seconds=10)
"""The longest pause of the upstream's that one full round waits for."""


class SinglePass:
    """Submits, polls and dispatches what is due, and waits for it and for what was in hand before.

    It does not wait for what others begin meanwhile. One at a time: who asks while one is running is answered with its
    result.
    """

    def __init__(
        self,
        *,
        inbox_worker: InboxWorker,
        submitter: Submitter,
        poller: Poller,
        dispatcher: Dispatcher,
        upstream: RateLimitedProvider,
    ) -> None:
        self._inbox_worker = inbox_worker
        self._submitter = submitter
        self._poller = poller
        self._dispatcher = dispatcher
        self._provider = upstream
        self._running: asyncio.Task[dict[str, int]] | None = None
        self._begin_until = math.inf
        self._stopping = False

    async def run(self, *, begin_for: timedelta | None = None) -> dict[str, int]:
        """Work through everything that is due now, and what that makes due; return how many of each were done.

        With `begin_for` nothing more is begun once that much time has gone since what was in hand before ended; what is
        left is for the next round. Who joins a round that is running gets that round's time. While the upstream asks
        for a pause longer than PATIENCE, what needs it is given up for this time: the answer's `upstream_pause_seconds`
        says so. A round goes on when who asked for it has gone.
        """
        if self._running is None:
            seconds = math.inf if begin_for is None else begin_for.total_seconds()
            self._running = asyncio.create_task(self._work_through(seconds), name="full round")
            self._running.add_done_callback(self._ended)
        return await asyncio.shield(self._running)

    async def drain(self, seconds: float) -> None:
        """Begin nothing more; give what is just being begun up to `seconds`."""
        self._stopping = True
        if self._running:
            await asyncio.wait([self._running], timeout=seconds)
        if self._running:
            self._running.cancel()

    def _ended(self, running: asyncio.Task[dict[str, int]]) -> None:
        self._running = None
        if not running.cancelled() and (error := running.exception()):
            log.warning("full round broke off", error=type(error).__name__)

    def _may_begin(self) -> bool:
        return not self._stopping and asyncio.get_running_loop().time() < self._begin_until

    async def _work_through(self, begin_for: float) -> dict[str, int]:
        await self._poller.update_estimates()
        await self._end_what_is_in_hand()
        self._begin_until = asyncio.get_running_loop().time() + begin_for
        done = Counter({"swept": await self._submitter.sweep(), "submitted": 0, "polled": 0, "dispatched": 0})
        for _ in range(MOST_LAPS):
            await self._read_inbox()
            lap = {
                "submitted": await self._through(self._submitter),
                "polled": await self._through(self._poller),
                "dispatched": await self._dispatched(),
            }
            done.update(lap)
            if not any(lap.values()):
                break
        return dict(done) | self._given_up()

    async def _end_what_is_in_hand(self) -> None:
        """Wait for what was begun before: it may make more due, and after the answer its process may sleep again."""
        asking = [(part, part.running()) for part in (self._submitter, self._poller)]
        deliveries = self._dispatcher.running()
        for part, tasks in asking:
            await self._wait(part, tasks, BREATH, unless=self._paused)
        await self._wait(self._dispatcher, deliveries, LONG_BREATH)

    def _given_up(self) -> dict[str, int]:
        if not self._paused():
            return {}
        seconds = round(self._provider.pause.total_seconds())
        log.warning("round given up: the upstream asks for a pause", seconds=seconds)
        return {"upstream_pause_seconds": seconds}

    def _paused(self) -> bool:
        return self._provider.pause > PATIENCE

    async def _through(self, part: Submitter | Poller) -> int:
        """Begin what is due, as much as the budget lets through at once, until nothing is or the upstream pauses."""
        total = 0
        while self._may_begin() and not self._paused():
            if self._provider.ready() < 1:
                await asyncio.sleep(BREATH)
                continue
            begun = await part.start_due()
            if not begun:
                break
            await self._wait(part, begun, BREATH, unless=self._paused)
            total += len(begun)
        return total

    async def _wait(
        self,
        part: Submitter | Poller | Dispatcher,
        begun: Iterable[asyncio.Task[None]],
        seconds: float,
        *,
        unless: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait for what was begun, and look every so many `seconds` whether a stop or a pause keeps it from ending."""
        pending = set(begun)
        while (pending := pending & part.running()) and not (self._stopping or unless()):
            await asyncio.wait(pending, timeout=seconds)

    async def _read_inbox(self) -> None:
        while self._may_begin() and await self._inbox_worker.run_once():
            pass

    async def _dispatched(self) -> int:
        total = 0
        while self._may_begin() and (begun := await self._dispatcher.start_due()):
            await self._wait(self._dispatcher, begun, LONG_BREATH)
            total += len(begun)
        return total
