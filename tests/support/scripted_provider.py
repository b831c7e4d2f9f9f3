"""A provider that follows a script and counts its charges, its bodies, and a unit-of-work factory that counts."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

from service.domain.errors import ReplyLost, StoreUnavailable, UnknownTask
from service.domain.ports.provider import PayloadMatch, ProviderRequest
from service.domain.ports.unit_of_work import UnitOfWork
from service.domain.task import Fact, Json, Status, TaskId, UpstreamId, Usage
from service.domain.tokens import Tokens
from service.storage import Store

TOKENS = Tokens(["a key of these tests"])
VIDEO: Json = {"type": "video", "url": "https://files.example/video.mp4"}
DONE = Fact(status=Status.COMPLETED, output=(VIDEO,), usage=Usage(cost="0.35"))

Step = Exception | Fact
Hook = Callable[[ProviderRequest, UpstreamId], Awaitable[None]]


@dataclass
class ScriptedProvider:
    """A `RateLimitedProvider` whose creates and fetches follow scripts, and its own `facts` where these are empty.

    A create that returns a Fact (without its id if `reply_without_id`) or raises ReplyLost is executed: it is charged,
    and `facts` has its task. `before_reply` runs between the two. `send_gate` holds creates before they are sent,
    `reply_gate` those that are sent, `poll_gate` polls; `arrived` is set by each.
    """

    lists: bool = False
    knows_ids: bool = True
    reply_without_id: bool = False
    name: str = "vtrix"
    creates: deque[Step] = field(default_factory=deque)
    fetches: deque[Step] = field(default_factory=deque)
    cancels: deque[Exception] = field(default_factory=deque)
    facts: dict[UpstreamId, Fact] = field(default_factory=dict)
    payloads: dict[str, UpstreamId] = field(default_factory=dict)
    requests: list[ProviderRequest] = field(default_factory=list)
    charges: Counter[TaskId] = field(default_factory=Counter)
    polled: list[UpstreamId] = field(default_factory=list)
    canceled: list[UpstreamId] = field(default_factory=list)
    searches: int = 0
    free: int = 16
    capacity_error: Exception | None = None
    before_reply: Hook | None = None
    send_gate: asyncio.Event | None = None
    reply_gate: asyncio.Event | None = None
    poll_gate: asyncio.Event | None = None
    list_error: Exception | None = None
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    pause: timedelta = timedelta()

    def ready(self) -> int:
        """Return how many requests may go."""
        return self.free

    def spare(self) -> int:
        """Return how many requests of little importance may go."""
        return self.free

    def hold_bytes(self, size: int) -> AbstractAsyncContextManager[None]:
        """Hold nothing, or raise `capacity_error`."""
        assert size >= 0
        if self.capacity_error:
            raise self.capacity_error
        return nullcontext()

    async def create(self, request: ProviderRequest, *, sent: Callable[[], None] | None = None) -> Fact:
        """Execute a submission, or follow the script."""
        await self._wait_for(self.send_gate)
        if sent:
            sent()
        self.requests.append(request)
        step = self.creates.popleft() if self.creates else Fact(status=Status.IN_PROGRESS)
        if isinstance(step, Exception) and not isinstance(step, ReplyLost):
            raise step
        upstream_id = self._execute(request, step)
        if self.before_reply:
            await self.before_reply(request, upstream_id)
        await self._wait_for(self.reply_gate)
        if isinstance(step, Exception):
            raise step
        return replace(self.facts[upstream_id], upstream_id=None) if self.reply_without_id else self.facts[upstream_id]

    def _execute(self, request: ProviderRequest, step: Step) -> UpstreamId:
        upstream_id = UpstreamId(f"up{len(self.payloads) + 1}")
        self.charges[TOKENS.read_payload_token(request.payload).task_id] += 1
        self.payloads[request.payload] = upstream_id
        self.set_fact(upstream_id, step if isinstance(step, Fact) else Fact(status=Status.IN_PROGRESS))
        return upstream_id

    async def _wait_for(self, gate: asyncio.Event | None) -> None:
        if gate:
            self.arrived.set()
            await gate.wait()

    def set_fact(self, upstream_id: str, fact: Fact = DONE) -> None:
        """Set what the provider knows about a task."""
        known = UpstreamId(upstream_id)
        self.facts[known] = replace(fact, upstream_id=known)

    def echo_payload(self, upstream_id: str, payload: str) -> None:
        """Return this payload in polls of the task."""
        known = UpstreamId(upstream_id)
        self.facts[known] = replace(self.facts[known], correlation=payload)

    async def fetch(self, upstream_id: UpstreamId) -> Fact:
        """Return the task's fact, or follow the script."""
        self.polled.append(upstream_id)
        await self._wait_for(self.poll_gate)
        step = self.fetches.popleft() if self.fetches else self.facts.get(upstream_id)
        if isinstance(step, Exception):
            raise step
        if step is None or not self.knows_ids:
            raise UnknownTask("no such task")
        return step

    async def cancel(self, upstream_id: UpstreamId) -> None:
        """Cancel, or follow the script."""
        if self.cancels:
            raise self.cancels.popleft()
        self.canceled.append(upstream_id)

    async def find(self, matches: PayloadMatch, *, since: datetime, until: datetime) -> Fact | None:
        """Search the facts."""
        assert since < until
        self.searches += 1
        if self.list_error:
            raise self.list_error
        found = [upstream_id for payload, upstream_id in self.payloads.items() if matches(payload)]
        return self.facts[found[0]] if found else None


class CountingUnitOfWorkFactory:
    """The units of work of a store, counted; `dead` refuses all further ones."""

    def __init__(self, store: Store) -> None:
        self._factory = store.units_of_work
        self.transactions = 0
        self.dead = False
        self._begun: dict[int, asyncio.Event] = {}

    def number(self, which: int) -> asyncio.Event:
        """Return an event that is set when that transaction, counted from 1, begins."""
        return self._begun.setdefault(which, asyncio.Event())

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[UnitOfWork]:
        """Begin a transaction of the store."""
        self.transactions += 1
        self.number(self.transactions).set()
        if self.dead:
            raise StoreUnavailable("this process has crashed")
        async with self._factory.transaction() as transaction:
            yield transaction


def token_of(request: ProviderRequest) -> str:
    """Return the token in the callback address of a request."""
    assert request.callback_url is not None
    return request.callback_url.rpartition("/")[2]


def vtrix_body(status: str, upstream_id: str | None = "up1", **more: Any) -> Json:
    """Return a body of Vtrix's shape."""
    output = [{"content": [VIDEO]}] if status == "completed" else None
    body = {"id": upstream_id, "status": status, "output": output} | more
    return {name: value for name, value in body.items() if value is not None}
