"""The rounds of a worker: what comes again, and one full round for whoever sleeps in between."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from service.dispatch import Dispatch
from service.ports import PacedUpstream
from service.reconcile import Reconcile
from service.submit import Submit
from service.ticker import Round

MOST_LAPS = 100
"""How often one full round goes about: each lap can make new work due, and it must come to an end."""

BREATH = 0.05


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """The use-cases that work through what is due."""

    submit: Submit
    reconcile: Reconcile
    dispatch: Dispatch
    upstream: PacedUpstream

    def learning(self) -> list[Round]:
        """Return what a process needs that only receives: how long tasks run, to say when they are due."""
        return [Round(name="learn", run=self._quietly(self.reconcile.learn), every=timedelta(seconds=30))]

    def all(self) -> list[Round]:
        """Return every round with its rhythm; the rings of signals bring them forward."""
        return [
            *self.learning(),
            Round(name="sweep", run=self._quietly(self.submit.sweep), every=timedelta(seconds=5)),
            Round(name="submit", run=self.submit.round, every=timedelta(seconds=0.5), topic="submit"),
            Round(name="reconcile", run=self.reconcile.round, every=timedelta(seconds=0.5), topic="reconcile"),
            Round(name="dispatch", run=self.dispatch.round, every=timedelta(seconds=1), topic="dispatch"),
            Round(name="prune", run=self._quietly(self.reconcile.prune), every=timedelta(minutes=10)),
        ]

    @staticmethod
    def _quietly(run: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[int]]:
        async def once() -> int:
            await run()
            return 0

        return once

    async def reconcile_once(self) -> dict[str, int]:
        """Work through everything that is due now, and what that makes due; return how many of each were done."""
        await self.reconcile.learn()
        done = {"swept": await self.submit.sweep(), "submitted": 0, "polled": 0, "dispatched": 0}
        for _ in range(MOST_LAPS):
            lap = {
                "submitted": await self._through(self.submit.round, self.submit.idle),
                "polled": await self._through(self.reconcile.round, self.reconcile.idle),
                "dispatched": await self._through(self.dispatch.round, self.dispatch.settle),
            }
            done = {name: count + lap.get(name, 0) for name, count in done.items()}
            if not any(lap.values()):
                break
        return done

    async def _through(self, start: Callable[[], Awaitable[int]], idle: Callable[[], Awaitable[None]]) -> int:
        """Start what is due, as much as the budget lets through at once, until nothing is."""
        total = 0
        while True:
            while self.upstream.ready() < 1:  # noqa: ASYNC110 - the budget fills with time alone
                await asyncio.sleep(BREATH)
            started = await start()
            await idle()
            if not started:
                return total
            total += started

    async def drain(self, seconds: float) -> None:
        """Finish what is in hand within `seconds`, and give the rest back."""
        await asyncio.gather(self.submit.drain(seconds), self.reconcile.drain(seconds), self.dispatch.drain(seconds))
