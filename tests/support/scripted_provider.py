"""An upstream that does as it is told and bills what it carries out, what it says, and a ledger that is counted."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from service.domain.errors import ReplyLost, StoreUnavailable, UnknownTask
from service.domain.ports.provider import ProviderRequest
from service.domain.ports.unit_of_work import UnitOfWork
from service.domain.task import Fact, Json, Status, TaskId, UpstreamId, Usage
from service.domain.tokens import Tokens
from service.storage import Store

TOKENS = Tokens(["a key of these tests"])
VIDEO: Json = {"type": "video", "url": "https://files.example/film.mp4"}
DONE = Fact(status=Status.COMPLETED, output=(VIDEO,), usage=Usage(cost="0.35"))

Step = Exception | Fact
Hook = Callable[[ProviderRequest, UpstreamId], Awaitable[None]]


@dataclass
class Scripted:
    """A `PacedUpstream` that answers creates and fetches from scripts, and by its own books where those are empty.

    A create that is answered by a Fact (without its id: `nameless`) or by ReplyLost has been carried out: it is billed,
    and the books know its task. `before_reply` runs between the two. `gate` holds creates back before they leave,
    `line` those that have left, `fetch_line` questions, and `arrived` tells of each.
    """

    lists: bool = False
    knows: bool = True
    nameless: bool = False
    name: str = "vtrix"
    creates: deque[Step] = field(default_factory=deque)
    fetches: deque[Step] = field(default_factory=deque)
    cancels: deque[Exception] = field(default_factory=deque)
    books: dict[UpstreamId, Fact] = field(default_factory=dict)
    payloads: dict[str, UpstreamId] = field(default_factory=dict)
    orders: list[ProviderRequest] = field(default_factory=list)
    bills: Counter[TaskId] = field(default_factory=Counter)
    asked: list[UpstreamId] = field(default_factory=list)
    canceled: list[UpstreamId] = field(default_factory=list)
    looked: int = 0
    free: int = 16
    unprepared: Exception | None = None
    before_reply: Hook | None = None
    gate: asyncio.Event | None = None
    line: asyncio.Event | None = None
    fetch_line: asyncio.Event | None = None
    list_error: Exception | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    pause: timedelta = timedelta()

    def ready(self) -> int:
        """Return how many requests may go."""
        return self.free

    def hold_bytes(self, size: int) -> AbstractAsyncContextManager[None]:
        """Hold nothing, or break."""
        assert size >= 0
        if self.unprepared:
            raise self.unprepared
        return nullcontext()

    async def create(self, request: ProviderRequest, *, sent: Callable[[], None] | None = None) -> Fact:
        """Carry out a submission, or do what the script says."""
        await self._held_by(self.gate)
        if sent:
            sent()
        self.orders.append(request)
        step = self.creates.popleft() if self.creates else Fact(status=Status.IN_PROGRESS)
        if isinstance(step, Exception) and not isinstance(step, ReplyLost):
            raise step
        upstream_id = self._carry_out(request, step)
        if self.before_reply:
            await self.before_reply(request, upstream_id)
        await self._held_by(self.line)
        if isinstance(step, Exception):
            raise step
        return replace(self.books[upstream_id], upstream_id=None) if self.nameless else self.books[upstream_id]

    def _carry_out(self, request: ProviderRequest, step: Step) -> UpstreamId:
        upstream_id = UpstreamId(f"up{len(self.payloads) + 1}")
        self.bills[TOKENS.read_payload_token(request.payload).task_id] += 1
        self.payloads[request.payload] = upstream_id
        self.tell(upstream_id, step if isinstance(step, Fact) else Fact(status=Status.IN_PROGRESS))
        return upstream_id

    async def _held_by(self, gate: asyncio.Event | None) -> None:
        if gate:
            self.arrived.set()
            await gate.wait()

    def tell(self, upstream_id: str, fact: Fact = DONE) -> None:
        """Write the upstream's truth about a task."""
        known = UpstreamId(upstream_id)
        self.books[known] = replace(fact, upstream_id=known)

    def correlate(self, upstream_id: str, payload: str) -> None:
        """Let the upstream echo a payload when it is asked about a task."""
        known = UpstreamId(upstream_id)
        self.books[known] = replace(self.books[known], correlation=payload)

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Tell the truth, or what the script says."""
        self.asked.append(upstream_id)
        await self._held_by(self.fetch_line)
        step = self.fetches.popleft() if self.fetches else self.books.get(upstream_id)
        if isinstance(step, Exception):
            raise step
        if step is None or not self.knows:
            raise UnknownTask("no such task")
        return step

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Cancel, or do what the script says."""
        if self.cancels:
            raise self.cancels.popleft()
        self.canceled.append(upstream_id)

    async def find(self, correlation: str, *, since: datetime, until: datetime) -> Fact | None:
        """Look into the books."""
        assert since < until
        self.looked += 1
        if self.list_error:
            raise self.list_error
        upstream_id = self.payloads.get(correlation)
        return self.books[upstream_id] if upstream_id else None


class CountingLedger:
    """The store's ledger, its transactions counted."""

    def __init__(self, store: Store) -> None:
        self._ledger = store.units_of_work
        self.transactions = 0
        self.dead = False
        self._awaited: dict[int, asyncio.Event] = {}

    def number(self, which: int) -> asyncio.Event:
        """Return what is set when that transaction, from 1, is begun."""
        return self._awaited.setdefault(which, asyncio.Event())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnitOfWork]:
        """Begin a transaction of the store."""
        self.transactions += 1
        self.number(self.transactions).set()
        if self.dead:
            raise StoreUnavailable("this process is dead: it writes no more")
        async with self._ledger.transaction() as transaction:
            yield transaction


def token_of(request: ProviderRequest) -> str:
    """Return the token in an order's callback address."""
    assert request.callback_url is not None
    return request.callback_url.rpartition("/")[2]


def vtrix_body(status: str, upstream_id: str | None = "up1", **more: Any) -> Json:
    """Return a body of Vtrix's shape."""
    output = [{"content": [VIDEO]}] if status == "completed" else None
    body = {"id": upstream_id, "status": status, "output": output} | more
    return {name: value for name, value in body.items() if value is not None}
