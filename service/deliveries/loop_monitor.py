"""A watch on the event loop: whatever keeps it from turning stops all that the process does, and nothing else tells."""

import asyncio
from collections.abc import Callable, Collection
from typing import Self

import structlog

BEAT = 0.5
"""Seconds between looks."""

MOST = 1.0
"""Seconds that the loop may stand still without a word."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.lag")


class LoopMonitor:
    """Warns, inside its block, when the loop stood still, with the names of the handlers that were `in_hand`."""

    def __init__(self, in_hand: Callable[[], Collection[str]]) -> None:
        self._in_hand = in_hand
        self._names: set[str] = set()

    def __enter__(self) -> Self:
        self._look_later()
        return self

    def __exit__(self, *error: object) -> None:
        self._next.cancel()

    def _look_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._names = set(self._in_hand())
        self._next = loop.call_at(loop.time() + BEAT, self._look)

    def _look(self) -> None:
        stood_still = asyncio.get_running_loop().time() - self._next.when()
        if stood_still > MOST:
            log.warning(
                "the event loop stood still, and all work with it",
                seconds=round(stood_still, 1),
                handlers=sorted(self._names.union(self._in_hand())),
                mend="a handler that blocks or computes for long belongs in a thread: await asyncio.to_thread(...)",
            )
        self._look_later()
