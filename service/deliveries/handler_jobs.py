"""Stores the jobs of handlers and runs those that are due: with a lease, at least once, again after an error."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

import structlog

from service.concurrency.lease_pool import LeasePool
from service.deliveries.error_text import SecretMask, describe_error
from service.deliveries.handler_api import Handler
from service.deliveries.handler_parts import HandlerJob, Job
from service.deliveries.handler_state import checked_key, checked_value
from service.deliveries.tools import Tools
from service.domain.errors import Reject, Retry, StoreUnavailable
from service.domain.ports.handler_store import HandlerJobStore, JobClaim, NewJob
from service.domain.ports.signals import Clock
from service.domain.retry_schedule import next_attempt

TOPIC = "handler_jobs"

CONCURRENCY = 16
"""Jobs of one handler that one process runs at once: jobs that hang delay those of no other handler."""

SCHEDULE = tuple(timedelta(seconds=each) for each in (0, 1, 5, 30, 120, 600, 1800, 7200))
"""Delays before each attempt of a job."""

MAX_WAIT = timedelta(days=366)

log = structlog.get_logger("boomerang.deliveries")


class Notify(Protocol):
    """Wakes the jobs of this process that wait for a topic."""

    def notify(self, *topics: str) -> None:
        """Wake them."""


@dataclass(frozen=True, kw_only=True)
class JobRequests:
    """Stores jobs for one handler; `names` are those that it has."""

    handler: str
    names: frozenset[str]
    store: HandlerJobStore
    now: Callable[[], datetime]
    new_id: Callable[[], str]

    async def schedule(
        self, name: str, key: str | None, data: Any, *, after: timedelta | float, within: timedelta | float | None
    ) -> datetime:
        """Store a job, or renew the waiting one with its key; return when it is due.

        Raises ValueError for an unknown name, a key or data that are not allowed, or a delay of more than a year.
        """
        if name not in self.names:
            known = ", ".join(sorted(self.names)) or "none"
            raise ValueError(f"handler {self.handler!r} has no job {name!r}; it has: {known}")
        now, job_id, delay = self.now(), self.new_id(), _duration(after)
        if not timedelta() <= delay <= MAX_WAIT:
            raise ValueError("a job must be due within 366 days from now")
        new = NewJob(
            id=job_id,
            handler=self.handler,
            name=name,
            key=job_id if key is None else checked_key(key),
            data=checked_value(data),
            due_at=now + delay,
            within=None if within is None else _duration(within),
        )
        return await self.store.schedule(new, now=now)

    async def unschedule(self, name: str, key: str) -> bool:
        """Delete a waiting job; return whether there was one."""
        return await self.store.cancel(self.handler, name, checked_key(key))


@dataclass(kw_only=True, slots=True)
class JobRunner:
    """Runs due jobs of the loaded handlers. `tools` makes the tools of a handler, `mask` masks its settings in errors.

    `signals` is notified when the next job is due, so that a delay of seconds is kept without frequent polls.
    """

    handlers: Iterable[Handler]
    store: HandlerJobStore
    tools: Callable[[Handler], Tools[Any, Any]]
    clock: Clock
    lease: timedelta
    signals: Notify
    jitter: Callable[[], float]
    mask: SecretMask = field(default_factory=SecretMask)
    _known: Mapping[str, tuple[Handler, HandlerJob]] = field(init=False)
    _pools: Mapping[str, LeasePool[str]] = field(init=False)
    _timer: asyncio.TimerHandle | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._known = {
            f"{handler.stored_name}/{job.name}": (handler, job) for handler in self.handlers for job in handler.jobs
        }
        self._pools = {handler.name: self._pool() for handler, _ in self._known.values()}

    def _pool(self) -> LeasePool[str]:
        return LeasePool(
            store=self.store,
            clock=self.clock,
            lease=self.lease,
            limit=CONCURRENCY,
            on_end=lambda: self.signals.notify(TOPIC),
        )

    @property
    def needed(self) -> bool:
        """Return whether a loaded handler has jobs."""
        return bool(self._known)

    async def run_once(self) -> int:
        """Start the due jobs for which a slot is free; return how many. Wake again when the next one is due."""
        started = len(await self.start_due())
        await self._set_timer()
        return started

    async def start_due(self) -> list[asyncio.Task[None]]:
        """Start the due jobs for which a slot is free; return their asyncio tasks. Raises StoreUnavailable."""
        started: list[asyncio.Task[None]] = []
        for name, pool in self._pools.items():
            now = self.clock.now()
            until, free = now + self.lease, pool.free_slots
            claims = await self.store.claim(self._names(name), now=now, until=until, limit=free) if free else []
            started += [pool.start(each.id, each.fence, self._run(each), leased_until=until) for each in claims]
        return started

    def _names(self, *handlers: str) -> list[str]:
        """Return the stored names of the jobs of these handlers."""
        return [name for name, (handler, _) in self._known.items() if handler.name in handlers]

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks of the running jobs."""
        return set[asyncio.Task[None]]().union(*(pool.running() for pool in self._pools.values()))

    async def release_running(self) -> None:
        """Cancel the running jobs and release their leases uncounted: the process may stop running."""
        await self._release(await asyncio.gather(*(pool.cancel_running() for pool in self._pools.values())))

    async def drain(self, seconds: float) -> None:
        """Start no more, wait up to `seconds` for the running jobs, then cancel and release the rest uncounted."""
        if self._timer:
            self._timer.cancel()
        await self._release(await asyncio.gather(*(pool.drain(seconds) for pool in self._pools.values())))

    async def _release(self, leases: Sequence[Mapping[str, int]]) -> None:
        unfinished = {key: fence for each in leases for key, fence in each.items()}
        try:
            await self.store.release(unfinished)
        except StoreUnavailable:
            log.warning("job leases not released, they expire", jobs=len(unfinished))

    async def _set_timer(self) -> None:
        if self._timer:
            self._timer.cancel()
            self._timer = None
        free = [name for name, pool in self._pools.items() if pool.free_slots]  # the others wake when a job ends
        if not free or not (due_at := await self.store.next_due(self._names(*free))):
            return
        delay = max(0.05, (due_at - self.clock.now()).total_seconds())
        self._timer = asyncio.get_running_loop().call_later(min(delay, 3600.0), self.signals.notify, TOPIC)

    async def _run(self, claim: JobClaim) -> None:
        handler, declared = self._known[f"{claim.handler}/{claim.name}"]
        job = Job(
            id=claim.id,
            name=claim.name,
            key=claim.key,
            data=claim.data,
            attempt=claim.attempt,
            created_at=claim.created_at,
        )
        if claim.attempt > declared.attempts:  # the process ended during each of them
            await self._failed(claim, declared, RuntimeError("the process ended during the last attempt"))
            return
        try:
            async with asyncio.timeout(declared.timeout):
                await declared.run(job, self.tools(handler))
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            await self._failed(claim, declared, error)
            return
        if not await self.store.finish(claim):
            log.warning("job finished after its lease expired", handler=claim.handler, job=claim.name)

    async def _failed(self, claim: JobClaim, declared: HandlerJob, error: Exception) -> None:
        now = self.clock.now()
        due_at = next_attempt(SCHEDULE, claim.attempt, declared.attempts, now, self.jitter())
        if isinstance(error, Reject):
            due_at = None
        elif due_at is not None and isinstance(error, Retry) and error.after is not None:
            due_at = now + max(timedelta(), min(error.after, MAX_WAIT))
        text = describe_error(error, mask=self.mask)
        write = log.error if due_at is None else log.warning
        write(
            "job failed" if due_at is None else "job failed, will be tried again",
            handler=claim.handler,
            job=claim.name,
            attempt=claim.attempt,
            error=text,
        )
        await self.store.postpone(claim, due_at=due_at, error=text, now=now)


def _duration(value: timedelta | float) -> timedelta:
    return value if isinstance(value, timedelta) else timedelta(seconds=value)
