"""The processes that share the database, and the signing keys that each of them knows."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class ProcessKeys:
    """A registered process and the fingerprints of the keys that it knows, newest first.

    `seen_at` is when it last renewed its registration, by its own clock. `role` is all, web, worker, serverless or
    pass, `host` the name of its machine; None for a process of the previous release.
    """

    id: str
    fingerprints: tuple[str, ...]
    started_at: datetime
    seen_at: datetime
    role: str | None = None
    host: str | None = None


@dataclass(frozen=True, kw_only=True)
class RegisteredKeys:
    """What is registered besides this process: the other processes, and when each key was last used to sign."""

    others: Sequence[ProcessKeys] = ()
    used_at: dict[str, datetime] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class KeyDecision:
    """The key that this process signs with from now on, and the registrations and keys to delete."""

    signing: str
    ended: Collection[str] = ()
    unused: Collection[str] = ()


class ProcessRegistry(Protocol):
    """The registrations of all processes."""

    async def renew(self, own: ProcessKeys, decide: Callable[[RegisteredKeys], KeyDecision]) -> None:
        """Register `own`, and the key that `decide` returns as used now, in one transaction after those of others.

        Raises StoreUnavailable.
        """

    async def remove(self, process_id: str) -> None:
        """End a registration; raises StoreUnavailable."""

    async def count_unfinished(self, *, submitted_until: datetime) -> int:
        """Count the unfinished tasks at the provider whose newest submission began by that time."""


class LastRuns(Protocol):
    """When something was last done, by its name."""

    async def note(self, name: str, at: datetime) -> None:
        """Note that it was done at that time; raises StoreUnavailable."""
