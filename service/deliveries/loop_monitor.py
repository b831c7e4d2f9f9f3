"""Detects that the event loop is blocked, which stops everything that the process does."""

import asyncio
from collections.abc import Callable, Collection
from typing import Self

import structlog

CHECK_INTERVAL = 0.5
"""Seconds between checks."""

MAX_BLOCKED = 1.0
"""Seconds that the loop may be blocked before it is logged."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.deliveries")


class LoopMonitor:
    """Logs, inside its block, that the event loop was blocked, with the handlers that `running` returns."""

    def __init__(self, running: Callable[[], Collection[str]]) -> None:
        self._running = running
        self._names: set[str] = set()

    def __enter__(self) -> Self:
        self._schedule_check()
        return self

    def __exit__(self, *error: object) -> None:
        self._next.cancel()

    def _schedule_check(self) -> None:
        loop = asyncio.get_running_loop()
        self._names = set(self._running())
        self._next = loop.call_at(loop.time() + CHECK_INTERVAL, self._check)

    def _check(self) -> None:
        blocked = asyncio.get_running_loop().time() - self._next.when()
        if blocked > MAX_BLOCKED:
            log.warning(
                "event loop blocked",
                seconds=round(blocked, 1),
                handlers=sorted(self._names.union(self._running())),
                hint="run blocking or long computations of a handler in a thread: await asyncio.to_thread(...)",
            )
        self._schedule_check()
