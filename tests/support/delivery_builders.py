"""Builders for tests of deliveries and handlers: sample events, tools, a manual clock, a queue in memory."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Event, Handle, Handler, Tools
from service.deliveries.handler_slots import HandlerSlots
from service.domain.artifact import Artifact
from service.domain.ports.circuits import NO_BLOCKS, Blocks
from service.domain.ports.deliveries import DeliveryView
from service.domain.ports.queues import AttemptResult, HandlerCapacity
from service.domain.ports.unit_of_work import DeliveryClaim, EventRow
from service.domain.task import EventType, Json, TaskId
from service.domain.task_view import TaskView
from tests.support.wait_until_idle import ended

NOW = datetime(2026, 5, 6, 12, 9, 42, 123000, tzinfo=UTC)
LEASE = timedelta(seconds=60)
SCHEDULE = (timedelta(), timedelta(seconds=5), timedelta(seconds=30))
TIMEOUT = 5.0
"""Seconds after which a waiting test fails."""


def view(**changes: Any) -> TaskView:
    """Return a completed task with one video."""
    fields: dict[str, Any] = {
        "id": "task-1",
        "model": "viduq2_pro_reference",
        "status": "completed",
        "upstream_id": "d758n65e878c73cmdg20",
        "params": {"prompt": "a secret prompt", "duration": 5},
        "metadata": {"chat": 42},
        "progress": 1.0,
        "output": [{"type": "video", "url": "https://files.example/video.mp4?sig=hidden"}],
        "created_at": NOW,
        "deadline_at": NOW + timedelta(hours=2),
    }
    return TaskView(**(fields | changes))


def event(
    type_: str = "task.completed", *, task: TaskView | None = None, payload: str | None = "the caller's"
) -> Event:
    """Return an event about a task."""
    task = task or view()
    return Event(id="event-1", type=type_, at=NOW, task=task, payload=payload, metadata=task.metadata, client="ann")


@dataclass
class Results:
    """Records the artifacts, and returns `fresh` from a refetch."""

    fresh: list[Json] = field(default_factory=list)
    artifacts: list[Artifact] = field(default_factory=list)
    refetches: int = 0

    async def refetch(self, task_id: str) -> list[Json]:
        """Return the fresh output."""
        assert task_id
        self.refetches += 1
        return self.fresh

    async def keep(self, task_id: str, artifact: Artifact) -> None:
        """Record the artifact."""
        assert task_id
        self.artifacts.append(artifact)


def tools(http: httpx.AsyncClient | None = None, *, results: Results | None = None, **changes: Any) -> Tools:
    """Return tools with `http`; without one no request is allowed."""
    defaults: dict[str, Any] = {
        "http": http or httpx.AsyncClient(transport=httpx.MockTransport(_no_call)),
        "log": logging.getLogger("boomerang.handlers.test"),
        "results": results or Results(),
        "now": lambda: NOW,
        "message_id": "msg_1",
    }
    return Tools(**(defaults | changes))


def _no_call(request: httpx.Request) -> httpx.Response:
    raise AssertionError(f"unexpected request to {request.url}")


@dataclass
class ManualClock:
    """A clock that only moves when a test sets it."""

    at: datetime = NOW

    def now(self) -> datetime:
        """Return the time of the clock."""
        return self.at


class RecordingSignals:
    """Records the notified topics."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.notified = asyncio.Event()

    def notify(self, *topics: str) -> None:
        """Record the topics."""
        self.topics += topics
        self.notified.set()

    async def wait(self, topic: str, seconds: float) -> bool:
        """Wait until any topic is notified."""
        assert topic
        async with asyncio.timeout(seconds):
            return await self.notified.wait()


@dataclass
class Row:
    """A row of the queue in memory."""

    claim: DeliveryClaim
    due_at: datetime
    leased_until: datetime | None = None
    fence: int = 0
    attempts: int = 0
    status: str = "pending"


class InMemoryDeliveryQueue:
    """Implements `DeliveryQueue` in memory, without lanes. `broken` makes every call raise it."""

    def __init__(self) -> None:
        self.rows: dict[str, Row] = {}
        self.results: list[AttemptResult] = []
        self.batches: list[int] = []
        self.released: list[str] = []
        self.held: list[str] = []
        self.broken: Exception | None = None
        self.finished = asyncio.Event()
        self.renewed = asyncio.Event()
        self.refused = asyncio.Event()
        self.claiming = asyncio.Event()
        self.may_claim = asyncio.Event()
        self.may_claim.set()

    def put(self, handler: str, **changes: Any) -> str:
        """Add a delivery that is due now; return its id."""
        claim = claim_for(handler, id=f"delivery-{len(self.rows) + 1}", **changes)
        self.rows[claim.id] = Row(claim=claim, due_at=NOW)
        return claim.id

    async def claim(
        self, capacities: Sequence[HandlerCapacity], *, now: datetime, until: datetime, blocks: Blocks = NO_BLOCKS
    ) -> list[DeliveryClaim]:
        """Lease due deliveries; waits while `may_claim` is cleared."""
        assert not blocks.any
        self.claiming.set()
        await self.may_claim.wait()
        self._raise_if_broken()
        return [self._lease(row, until) for capacity in capacities for row in self._due(capacity, now)]

    def _lease(self, row: Row, until: datetime) -> DeliveryClaim:
        abandoned = row.leased_until is not None
        row.leased_until, row.fence = until, row.fence + 1
        return replace(row.claim, fence=row.fence, attempt=row.attempts + 1, abandoned=abandoned)

    def _due(self, capacity: HandlerCapacity, now: datetime) -> list[Row]:
        own = [row for row in self.rows.values() if row.claim.handler in capacity.names]
        shares = capacity.shares()
        return [row for row in own if self._free(row, now) and shares.take(row.claim.share_owner)]

    def _free(self, row: Row, now: datetime) -> bool:
        return row.status == "pending" and row.due_at <= now and (row.leased_until is None or row.leased_until <= now)

    async def finish(self, results: Sequence[AttemptResult]) -> set[str]:
        """Store results whose fence matches."""
        self._raise_if_broken()
        self.batches.append(len(results))
        held = [result for result in results if self._holds(result.delivery_id, result.fence)]
        for result in held:
            row = self.rows[result.delivery_id]
            row.status = "pending" if result.outcome == "retry" else result.outcome
            row.due_at, row.leased_until, row.attempts = result.due_at or row.due_at, None, result.attempt
        self.results += held
        self.finished.set()
        return {result.delivery_id for result in held}

    def _holds(self, delivery_id: str, fence: int) -> bool:
        row = self.rows[delivery_id]
        return row.fence == fence and row.leased_until is not None and row.status == "pending"

    async def pending_handlers(self) -> list[str]:
        """Return the handlers with pending deliveries."""
        self._raise_if_broken()
        return sorted({row.claim.handler for row in self.rows.values() if row.status == "pending"})

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Extend the leases that are held."""
        self._raise_if_broken()
        held = {delivery_id for delivery_id, fence in claims.items() if self._holds(delivery_id, fence)}
        for delivery_id in held:
            self.rows[delivery_id].leased_until = until
        self.renewed.set()
        return held

    async def release(self, claims: Mapping[str, int]) -> None:
        """Release the leases that are held."""
        self._raise_if_broken()
        for delivery_id, fence in claims.items():
            if self._holds(delivery_id, fence):
                self.rows[delivery_id].leased_until = None
                self.released.append(delivery_id)

    async def hold(self, delivery_id: str, fence: int, *, now: datetime) -> None:
        """Release a lease and make the delivery due never."""
        self._raise_if_broken()
        assert now.tzinfo
        row = self.rows[delivery_id]
        assert row.fence == fence
        row.leased_until, row.due_at = None, datetime.max.replace(tzinfo=UTC)
        self.held.append(delivery_id)

    async def replay(self, delivery_ids: Sequence[str], *, now: datetime) -> list[str]:
        """Not part of these tests."""
        raise NotImplementedError

    async def delivery(self, delivery_id: str) -> DeliveryView | None:
        """Not part of these tests."""
        raise NotImplementedError

    def _raise_if_broken(self) -> None:
        if self.broken:
            self.refused.set()
            raise self.broken


def claim_for(handler: str, **changes: Any) -> DeliveryClaim:
    """Return a claimed delivery."""
    row = EventRow(
        id="event-1",
        task_id=TaskId("task-1"),
        client="ada",
        type=EventType.COMPLETED,
        at=NOW,
        data=view().to_json(),
    )
    defaults: dict[str, Any] = {
        "id": "delivery-1",
        "fence": 1,
        "attempt": 1,
        "handler": handler,
        "message_id": "msg_1",
        "target": {},
        "event": row,
        "payload": "the caller's",
        "created_at": NOW,
    }
    return DeliveryClaim(**(defaults | changes))


def handler(name: str, handle: Handle, **changes: Any) -> Handler:
    """Return a handler of all events."""
    return Handler(name=name, events=frozenset(EventType), handle=handle, **changes)


@dataclass
class DispatcherSetup:
    """A dispatcher over a queue in memory, with its parts."""

    queue: InMemoryDeliveryQueue
    clock: ManualClock
    signals: RecordingSignals
    slots: HandlerSlots
    dispatcher: Dispatcher

    async def run_until_idle(self) -> int:
        """Run once, wait until nothing is in flight, and return how many deliveries were started."""
        started = await self.dispatcher.run_once()
        async with asyncio.timeout(TIMEOUT):
            await ended(self.dispatcher)
        return started


def dispatcher_setup(
    *handlers: Handler,
    make_tools: Callable[[], Tools] = tools,
    lease: timedelta = LEASE,
    clock: ManualClock | None = None,
    **changes: Any,
) -> DispatcherSetup:
    """Return a dispatcher of `handlers`."""
    queue, clock, signals = InMemoryDeliveryQueue(), clock or ManualClock(), RecordingSignals()
    slots = HandlerSlots(handlers, lease=lease, notify=lambda: signals.notify("dispatch"))
    defaults: dict[str, Any] = {"schedule": SCHEDULE, "jitter": lambda: 0.0}
    dispatcher = Dispatcher(
        queue=queue, slots=slots, tools=lambda _claim, _handler: make_tools(), clock=clock, **(defaults | changes)
    )
    return DispatcherSetup(queue=queue, clock=clock, signals=signals, slots=slots, dispatcher=dispatcher)
