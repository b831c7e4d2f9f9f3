"""The audit log: which caller changed what, and when. And the sign-ins that ended."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One action: `actor` is the name of the caller, `road` is `api` or `dashboard`.

    `target` is the id of what changed, empty for several; `detail` is a sentence for a person. Neither has a secret.
    """

    at: datetime
    actor: str
    road: str
    action: str
    target: str = ""
    detail: str = ""


@dataclass(frozen=True, kw_only=True)
class AuditRow:
    """A stored entry with its number; numbers grow."""

    seq: int
    entry: AuditEntry


class AuditLog(Protocol):
    """Storage of the audit log."""

    async def add(self, entry: AuditEntry) -> int:
        """Store an entry durably and return its number; raises StoreUnavailable."""

    async def complete(self, number: int, *, target: str, detail: str) -> None:
        """Change the target and the detail of an entry; raises StoreUnavailable."""

    async def remove(self, number: int) -> None:
        """Delete the entry of a change that was not made; raises StoreUnavailable."""

    async def entries(
        self, *, actor: str | None, action: str | None, target: str | None, before: int | None, limit: int
    ) -> Sequence[AuditRow]:
        """Return entries, newest first, with numbers below `before`."""


class EndedSignIns(Protocol):
    """Ids of sign-ins that are no longer valid although their tokens are: used links and sessions that signed out."""

    async def end(self, sign_in_id: str, *, expires: datetime, now: datetime) -> bool:
        """Store that a sign-in ended, until it expires; return whether it had not ended before."""

    async def ended(self, sign_in_id: str) -> bool:
        """Return whether a sign-in ended."""
