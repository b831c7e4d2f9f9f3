"""The log of events, from which streams are read and resumed."""

from collections.abc import Collection
from typing import Protocol

from service.domain.logged_event import EventFilter, EventHead, LoggedEvent


class EventLog(Protocol):
    """Reads the log. Events appear in the order of their numbers: what is read once is never preceded later."""

    async def heads(self, after: int, wanted: EventFilter, *, limit: int) -> list[EventHead]:
        """Return the next events after the number `after`, of the client and tasks of `wanted`, of every type."""

    async def load(self, numbers: Collection[int]) -> list[LoggedEvent]:
        """Return the events with these numbers, in their order."""

    async def last(self) -> int:
        """Return the highest number, 0 if there is no event yet; raises StoreUnavailable, as the others do."""
