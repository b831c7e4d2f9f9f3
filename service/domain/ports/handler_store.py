"""Storage that belongs to handlers: small values by key, and jobs that run later."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol


@dataclass(frozen=True, kw_only=True)
class StoredValue:
    """A JSON value of a handler; from `expires_at` on it counts as absent, None for never."""

    value: Any = field(repr=False)
    expires_at: datetime | None = None


Change = Callable[[StoredValue | None], StoredValue | None]
"""Returns what replaces a value; None stands for an absent one. It only computes, and may raise to change nothing."""


class HandlerStateStore(Protocol):
    """Small durable values of each handler, by key."""

    async def load(self, handler: str, key: str, *, now: datetime) -> StoredValue | None:
        """Return a value, None if it is absent or expired."""

    async def change(self, handler: str, key: str, change: Change, *, now: datetime) -> StoredValue | None:
        """Replace a value with what `change` returns for it, in one transaction; return the new one.

        Changes of one key run one after the other, in all processes.
        """

    async def prune(self, *, now: datetime) -> int:
        """Delete expired values; return how many."""


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """A job to store: the function `name` of `handler` is to run for `key` at `due_at`.

    While a job with this key waits, it gets the new data and time, but is due `within` its first request at the latest.
    """

    id: str
    handler: str
    name: str
    key: str
    data: Any = field(repr=False)
    due_at: datetime
    within: timedelta | None = None


@dataclass(frozen=True, kw_only=True)
class JobClaim:
    """A claimed job: `attempt` counts from 1; `revision` grows with each request for the same key."""

    id: str
    fence: int
    revision: int
    attempt: int
    handler: str
    name: str
    key: str
    data: Any = field(repr=False)
    created_at: datetime


class HandlerJobStore(Protocol):
    """Jobs of handlers, claimed with a lease and a fence."""

    async def schedule(self, job: NewJob, *, now: datetime) -> datetime:
        """Store `job`, or renew the waiting one with its key; return when it is due."""

    async def cancel(self, handler: str, name: str, key: str) -> bool:
        """Delete a job that waits; return whether there was one."""

    async def claim(self, jobs: Collection[str], *, now: datetime, until: datetime, limit: int) -> list[JobClaim]:
        """Lease due jobs `until`, the longest due first, of those named `handler/name` in `jobs`."""

    async def next_due(self, jobs: Collection[str]) -> datetime | None:
        """Return when the next waiting job is due, None if there is none."""

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Extend leases (job to fence); return the jobs whose leases are still held."""

    async def finish(self, claim: JobClaim) -> bool:
        """Delete the job, or keep it if it was requested again meanwhile; return whether the fence was current."""

    async def postpone(self, claim: JobClaim, *, due_at: datetime | None, error: str, now: datetime) -> bool:
        """Make the next attempt due, or with `due_at` None keep the job as failed; return whether it was current."""

    async def release(self, claims: Mapping[str, int]) -> None:
        """Release leases whose fence is current; their attempts do not count."""

    async def prune(self, *, before: datetime) -> int:
        """Delete jobs that failed before then; return how many."""
