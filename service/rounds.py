"""The rounds of a worker: what comes again, and one full round for whoever sleeps in between."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

import structlog

from service.clock_watch import ClockWatch
from service.dispatch import Dispatch
from service.orphans import Orphans
from service.ports import PacedUpstream
from service.receive import Receive
from service.reconcile import Reconcile
from service.submit import Submit
from service.ticker import Round

log = structlog.get_logger("boomerang.rounds")

MOST_LAPS = 100
"""How often one full round goes about: each lap can make new work due, and it must come to an end."""

LEFT_OVER = timedelta(seconds=15)
"""How long a process that only receives leaves a kept callback to the workers."""

BREATH = 0.05
"""Seconds between looks at the budget and the pause of the upstream, which change with time alone."""

PATIENCE = timedelta(seconds=10)
"""The longest pause of the upstream's that one full round waits for."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The use-cases that work through what is due."""

    receive: Receive
    submit: Submit
    reconcile: Reconcile
    dispatch: Dispatch
    upstream: PacedUpstream
    watch: ClockWatch
    orphans: Orphans

    def receiving(self) -> list[Round]:
        """Return what a process needs that only receives.

        It learns how long tasks run, to say when they are due, and reads what no worker has read in the inbox.
        """
        left_over = partial(self.receive.round, LEFT_OVER)
        return [self._learning(), Round(name="inbox", run=left_over, every=timedelta(seconds=5))]

    def all(self) -> list[Round]:
        """Return every round with its rhythm; the rings of signals bring them forward.

        From now on what is recorded in this process is also started here, where there is a free place for it.
        """
        self.dispatch.open()
        self.receive.open()
        self.reconcile.open()
        return [
            self._learning(),
            Round(name="inbox", run=self.receive.round, every=timedelta(seconds=0.5), topic="inbox"),
            Round(name="sweep", run=self._sweep, every=timedelta(seconds=5)),
            Round(name="submit", run=self.submit.round, every=timedelta(seconds=0.5), topic="submit"),
            Round(name="reconcile", run=self.reconcile.round, every=timedelta(seconds=0.5), topic="reconcile"),
            Round(name="dispatch", run=self.dispatch.round, every=timedelta(seconds=1), topic="dispatch"),
            Round(name="orphans", run=self._quietly(self.orphans.look), every=timedelta(minutes=1)),
            Round(name="prune", run=self._quietly(self.reconcile.prune), every=timedelta(minutes=10)),
        ]

    async def _sweep(self) -> int:
        await self.watch.look()
        await self.submit.sweep()
        return 0

    def _learning(self) -> Round:
        return Round(name="learn", run=self._quietly(self.reconcile.learn), every=timedelta(seconds=30))

    @staticmethod
    def _quietly(run: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[int]]:
        async def once() -> int:
            await run()
            return 0

        return once

    async def reconcile_once(self) -> dict[str, int]:
        """Work through everything that is due now, and what that makes due; return how many of each were done.

        While the upstream asks for a pause longer than PATIENCE, what needs it is given up for this time: the answer's
        `upstream_pause_seconds` says so.
        """
        await self.reconcile.learn()
        done = Counter({"swept": await self.submit.sweep(), "submitted": 0, "polled": 0, "dispatched": 0})
        for _ in range(MOST_LAPS):
            await self._read_inbox()
            lap = {
                "submitted": await self._through(self.submit.round, self.submit.idle),
                "polled": await self._through(self.reconcile.round, self.reconcile.idle),
                "dispatched": await self._dispatched(),
            }
            done.update(lap)
            if not any(lap.values()):
                break
        return dict(done) | self._given_up()

    def _given_up(self) -> dict[str, int]:
        if not self._paused():
            return {}
        seconds = round(self.upstream.pause.total_seconds())
        log.warning("round given up: the upstream asks for a pause", seconds=seconds)
        return {"upstream_pause_seconds": seconds}

    def _paused(self) -> bool:
        return self.upstream.pause > PATIENCE

    async def _through(self, start: Callable[[], Awaitable[int]], idle: Callable[[], Awaitable[None]]) -> int:
        """Start what is due, as much as the budget lets through at once, until nothing is or the upstream pauses."""
        total = 0
        while not self._paused():
            if self.upstream.ready() < 1:
                await asyncio.sleep(BREATH)
                continue
            started = await start()
            await self._until(idle)
            if not started:
                break
            total += started
        return total

    async def _until(self, idle: Callable[[], Awaitable[None]]) -> None:
        """Wait for what is in hand, but not for a long pause of the upstream's."""
        waiting = asyncio.ensure_future(idle())
        while not waiting.done() and not self._paused():
            await asyncio.wait([waiting], timeout=BREATH)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    async def _read_inbox(self) -> None:
        while await self.receive.round():
            pass

    async def _dispatched(self) -> int:
        total = 0
        while started := await self.dispatch.round():
            await self.dispatch.settle()
            total += started
        return total

    async def drain(self, seconds: float) -> None:
        """Finish what is in hand within `seconds`, and give the rest back."""
        await asyncio.gather(self.submit.drain(seconds), self.reconcile.drain(seconds), self.dispatch.drain(seconds))
