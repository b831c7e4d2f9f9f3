"""Work in hand: a bounded number of asyncio tasks, each holding one leased row whose lease is kept alive."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from datetime import timedelta
from typing import Any, Generic, TypeVar

import structlog

log = structlog.get_logger("boomerang.hands")

K = TypeVar("K", bound=str)

Renew = Callable[[Mapping[K, int]], Awaitable[set[K]]]


class LeasePool(Generic[K]):
    """Runs up to `most` pieces of work at once, by the key of the row each of them holds.

    `renew` prolongs the leases of what is in hand (key to fence) and returns the keys still held; it is called every
    third of `lease`. A piece whose lease was lost goes on: its late result meets a fence. `freed` is called whenever
    a piece ends.
    """

    def __init__(self, *, most: int, lease: timedelta, renew: Renew[K], freed: Callable[[], None]) -> None:
        self._most = most
        self._pause = lease.total_seconds() / 3
        self._renew = renew
        self._freed = freed
        self._fences: dict[K, int] = {}
        self._running: dict[asyncio.Task[None], K] = {}
        self._renewer: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def free_slots(self) -> int:
        """How many more pieces fit; none once they are closed."""
        return 0 if self._closed else max(0, self._most - len(self._running))

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks that do what is in hand."""
        return set(self._running)

    @property
    def closed(self) -> bool:
        """Whether nothing more is to be claimed, and what was being claimed is to be given back."""
        return self._closed

    def close(self) -> None:
        """Let nothing more be claimed; what is being recorded in hand may still come."""
        self._closed = True

    def start(self, key: K, fence: int, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin `work` on the row `key`, claimed with `fence`; return the asyncio task that does it."""
        self._fences[key] = fence
        task = asyncio.create_task(work, name=f"hands-{key}")
        self._running[task] = key
        task.add_done_callback(lambda ended: self._ended(ended, fence))
        if self._renewer is None:
            self._renewer = asyncio.create_task(self._keep_leases(), name="hands-renewer")
        return task

    def _ended(self, task: asyncio.Task[None], fence: int) -> None:
        key = self._running.pop(task)
        if self._fences.get(key) == fence:
            del self._fences[key]
        if not task.cancelled() and (error := task.exception()):
            log.error("work in hand broke off", key=key, error=type(error).__name__, exc_info=error)
        self._freed()

    async def _keep_leases(self) -> None:
        try:
            while self._running:
                await asyncio.sleep(self._pause)
                await self.renew()
        finally:
            self._renewer = None

    async def renew(self) -> None:
        """Prolong the leases of what is in hand, if the store can."""
        try:
            if self._fences:
                await self._renew(dict(self._fences))
        except Exception as error:  # noqa: BLE001 - the next beat tries again, and the lease outlives two of them
            log.warning("leases not renewed", error=type(error).__name__)

    async def drain(self, seconds: float) -> dict[K, int]:
        """Wait up to `seconds` for what is in hand, cancel the rest; return the leases (key to fence) it still held."""
        self.close()
        if self._running:
            await asyncio.wait(list(self._running), timeout=seconds)
        left = {key: self._fences[key] for key in self._running.values() if key in self._fences}
        remaining = [*self._running, *([self._renewer] if self._renewer else [])]
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)
        return left
