"""APScheduler as a clock that rings: it starts rounds, and holds nothing that matters."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, timedelta

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from service.errors import StoreUnavailable
from service.ports import Signals

log = structlog.get_logger("boomerang.ticker")


@dataclass(frozen=True, kw_only=True)
class Round:
    """One kind of work that comes again: what to run, how often, and the topic whose ring brings it forward.

    `run` returns how many rows it took in hand: while that is more than none, it is run again at once.
    """

    name: str
    run: Callable[[], Awaitable[int]]
    every: timedelta
    topic: str | None = None


class Ticker:
    """Rings every round in time, and at once when its topic rings. A failing round is logged, and rung again."""

    def __init__(self, rounds: list[Round], signals: Signals) -> None:
        self._rounds = rounds
        self._signals = signals
        self._scheduler = AsyncIOScheduler(timezone=UTC)
        self._listeners: list[asyncio.Task[None]] = []
        self._running: dict[str, asyncio.Lock] = {one.name: asyncio.Lock() for one in rounds}

    async def start(self) -> None:
        """Run every round once, then keep ringing."""
        for one in self._rounds:
            await self._ring(one)
        for one in self._rounds:
            self._scheduler.add_job(
                self._ring,
                "interval",
                args=[one],
                seconds=one.every.total_seconds(),
                id=one.name,
                coalesce=True,
                max_instances=1,
                misfire_grace_time=None,
            )
            if one.topic:
                self._listeners.append(asyncio.create_task(self._listen(one, one.topic), name=f"ticker-{one.name}"))
        self._scheduler.start()

    async def stop(self) -> None:
        """Ring no more; a round that is running is let finish."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=False)
        for listener in self._listeners:
            listener.cancel()
        await asyncio.gather(*self._listeners, return_exceptions=True)
        for lock in self._running.values():
            async with lock:
                pass

    async def _listen(self, one: Round, topic: str) -> None:
        while True:
            if await self._signals.wait(topic, one.every.total_seconds() * 10):
                await self._ring(one)

    async def _ring(self, one: Round) -> None:
        async with self._running[one.name]:
            try:
                while await one.run():
                    pass
            except StoreUnavailable as error:
                log.warning("round put off", round=one.name, why=str(error))
            except Exception as error:
                log.exception("round broke off", round=one.name, error=type(error).__name__)
