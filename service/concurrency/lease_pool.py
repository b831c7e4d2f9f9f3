"""Asyncio tasks that each work on one leased row, and the renewal of their leases."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import structlog

from service.domain.ports.signals import Clock

log = structlog.get_logger("boomerang.concurrency")

K = TypeVar("K", bound=str)

NEVER = datetime.min.replace(tzinfo=UTC)


class LeaseStore(Protocol[K]):
    """Where leases are stored."""

    async def renew(self, claims: Mapping[K, int], *, until: datetime) -> set[K]:
        """Extend leases (key to fence) to `until`; return the keys that are still held."""


@dataclass(kw_only=True, slots=True)
class LeasePool(Generic[K]):
    """Runs up to `limit` asyncio tasks, each for one lease, and renews their leases every third of `lease`.

    A lease is a key and a fence: after a stall one process may hold a row by an older claim and by a newer one, and
    only the newer one can be renewed. `on_lost` is called with each lease that the store no longer holds; without it
    the work continues, and the fence rejects its late result. `on_end` is called when a task ends. `upkeep` is called
    after each renewal. `monitor` is entered while tasks run.
    """

    store: LeaseStore[K]
    clock: Clock
    lease: timedelta
    limit: int = sys.maxsize
    on_end: Callable[[], None] | None = None
    on_lost: Callable[[K, int], None] | None = None
    upkeep: Callable[[], Awaitable[None]] | None = None
    monitor: AbstractContextManager[object] = field(default_factory=nullcontext)
    closed: bool = field(default=False, init=False)
    _leased_until: dict[tuple[K, int], datetime] = field(default_factory=dict, init=False)
    _running: dict[asyncio.Task[None], tuple[K, int]] = field(default_factory=dict, init=False)
    _renewer: asyncio.Task[None] | None = field(default=None, init=False)

    @property
    def free_slots(self) -> int:
        """Return how many more tasks may start; 0 once the pool is closed."""
        return 0 if self.closed else max(0, self.limit - len(self._running))

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks that have not ended."""
        return set(self._running)

    def keys(self) -> set[K]:
        """Return the keys of the rows that are worked on."""
        return {key for key, _ in self._running.values()}

    def close(self) -> None:
        """Offer no more free slots; rows that are being leased at insert may still be started."""
        self.closed = True

    def start(
        self, key: K, fence: int, work: Coroutine[Any, Any, None], *, leased_until: datetime
    ) -> asyncio.Task[None]:
        """Start `work` on the row `key`, claimed with `fence`; return its asyncio task."""
        self._leased_until[key, fence] = leased_until
        task = asyncio.create_task(work, name=f"lease {key}")
        self._running[task] = key, fence
        task.add_done_callback(self._ended)
        if self._renewer is None:
            self._renewer = asyncio.create_task(self._keep_leases(), name="lease renewer")
        return task

    def lease_valid(self, key: K, fence: int) -> bool:
        """Return whether no other process can have claimed the row, as it may after this machine was suspended."""
        return self.clock.now() < self._leased_until.get((key, fence), NEVER)

    def stop_renewing(self, key: K, fence: int) -> None:
        """Renew this lease no more, though its task still runs."""
        self._leased_until.pop((key, fence), None)

    async def renew(self) -> None:
        """Renew the leases of the running tasks; a failure is logged, as a lease outlives two of them."""
        await self._try(self._renew, "lease renewal failed")

    async def drain(self, seconds: float) -> dict[K, int]:
        """Wait up to `seconds` for the running tasks and cancel the rest; return the leases (key to fence) of these."""
        self.close()
        if self._running:
            await asyncio.wait(list(self._running), timeout=seconds)
        return await self.cancel_running()

    async def cancel_running(self) -> dict[K, int]:
        """Cancel the running tasks; return their leases (key to fence), which are no longer renewed."""
        unfinished = self._fences()
        remaining = [*self._running, *([self._renewer] if self._renewer else [])]
        for task in remaining:
            task.cancel()
        await asyncio.gather(*remaining, return_exceptions=True)
        return unfinished

    def stop(self) -> None:
        """Renew no more leases, until another task starts."""
        renewer, self._renewer = self._renewer, None
        if renewer:
            renewer.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        key, fence = self._running.pop(task)
        self.stop_renewing(key, fence)
        if not task.cancelled() and (error := task.exception()):
            log.error("unexpected error in task", key=key, error=type(error).__name__, exc_info=error)
        if self.on_end:
            self.on_end()

    def _fences(self) -> dict[K, int]:
        """Return the newest fence of each key."""
        fences: dict[K, int] = {}
        for key, fence in self._leased_until:
            fences[key] = max(fence, fences.get(key, fence))
        return fences

    async def _renew(self) -> None:
        leases, fences = list(self._leased_until), self._fences()
        if not leases:
            return
        until = self.clock.now() + self.lease
        held = await self.store.renew(fences, until=until)
        for key, fence in leases:
            if (key, fence) not in self._leased_until:  # its work has ended meanwhile
                continue
            if key in held and fence == fences[key]:
                self._leased_until[key, fence] = until
            elif self.on_lost:
                self.on_lost(key, fence)

    async def _keep_leases(self) -> None:
        try:
            with self.monitor:
                while self._running:
                    await asyncio.sleep(self.lease.total_seconds() / 3)
                    await self.renew()
                    if self.upkeep:
                        await self._try(self.upkeep, "lease upkeep failed")
        finally:
            if self._renewer is asyncio.current_task():
                self._renewer = None

    async def _try(self, step: Callable[[], Awaitable[None]], event: str) -> None:
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - the next renewal tries again
            log.warning(event, error=type(error).__name__)
