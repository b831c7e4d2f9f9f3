"""A log of events in memory, which counts its reads."""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.domain.errors import StoreUnavailable
from service.domain.logged_event import EventFilter, EventHead, LoggedEvent
from service.domain.ports.unit_of_work import EventRow
from service.domain.task import EventType, Json, TaskId

NOW = datetime(2026, 5, 6, 12, 9, 42, tzinfo=UTC)


def logged(seq: int, *, client: str = "ann", task: str = "t1", type_: EventType, data: Json) -> LoggedEvent:
    """Return an event of the log."""
    row = EventRow(id=f"e{seq}", task_id=TaskId(task), client=client, type=type_, at=NOW, data=data)
    return LoggedEvent(seq=seq, event=row)


@dataclass
class FakeEventLog:
    """Implements `EventLog`. The next `failures` reads fail as without a database."""

    events: list[LoggedEvent] = field(default_factory=list)
    failures: int = 0
    reads: int = 0

    def add(
        self, count: int = 1, *, client: str = "ann", task: str = "t1", type_: EventType = EventType.COMPLETED
    ) -> None:
        """Append events; the numbers have gaps."""
        for _ in range(count):
            seq = self.events[-1].seq + 2 if self.events else 1
            self.events.append(logged(seq, client=client, task=task, type_=type_, data={"id": task, "metadata": {}}))

    async def heads(self, after: int, wanted: EventFilter, *, limit: int) -> list[EventHead]:
        """Return the next events of the client and the tasks."""
        self._read()
        heads = [
            EventHead(seq=each.seq, client=each.event.client, task_id=each.event.task_id, type=each.event.type)
            for each in self.events
            if each.seq > after
        ]
        scope = EventFilter(client=wanted.client, tasks=wanted.tasks)
        return [head for head in heads if scope.matches(head)][:limit]

    async def load(self, numbers: Collection[int]) -> list[LoggedEvent]:
        """Return the events with these numbers."""
        self._read()
        return [each for each in self.events if each.seq in numbers]

    async def last(self) -> int:
        """Return the highest number."""
        self._read()
        return self.events[-1].seq if self.events else 0

    def _read(self) -> None:
        self.reads += 1
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable("away")
