"""Endpoints over a store: the recorder, a dispatcher with the webhook handler, and receivers without a network."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, Self
from unittest.mock import patch

import httpx
from standardwebhooks import webhooks

from handlers.webhook import handlers
from service.deliveries.circuit_board import CircuitBoard
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Handler, Tools
from service.deliveries.handler_controls import HandlerControls
from service.domain.circuit import LIMITS, CircuitLimits
from service.domain.ports.deliveries import DeliverySelection, DeliveryView
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import Fact, Json, Source, Status, TaskId, UpstreamId
from service.domain.task_update import TaskUpdate
from service.storage import Store
from tests.support.delivery_builders import tools
from tests.support.endpoint_builders import EndpointUseCases, endpoint_use_cases
from tests.support.history import history_of
from tests.support.loop_options import Options
from tests.support.scripted_provider import ScriptedProvider
from tests.support.task_loop import Loop, MovedClock
from tests.support.wait_until_idle import ended

DEFAULT_SCHEDULE = tuple(timedelta(seconds=each) for each in (0, 5, 30, 120, 600, 1800, 7200, 21600, 57600))
"""RETRY_SCHEDULE by default."""

TIMEOUT = 60.0
"""Seconds after which a waiting test fails."""

(WEBHOOK_HANDLER,) = handlers

Answer = Callable[[httpx.Request], httpx.Response]


def verify(secret: str, request: httpx.Request) -> Json:
    """Return the body if the reference library verifies it, at the time of its signature: the clock is moved."""
    at = datetime.fromtimestamp(int(request.headers["webhook-timestamp"]), UTC)

    class SignedAt(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return cls.fromtimestamp(at.timestamp(), tz)

    with patch.object(webhooks, "datetime", SignedAt):
        body: Json = webhooks.Webhook(secret).verify(request.content, dict(request.headers))
    return body


class _Body(httpx.AsyncByteStream):
    """A body that is read like one from the network."""

    def __init__(self, content: bytes) -> None:
        self._content = content

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._content


@dataclass
class Receivers:
    """Records requests; `answer` answers them, an exception that it raises is an error of the network."""

    requests: list[httpx.Request] = field(default_factory=list)
    answer: Answer = lambda _: httpx.Response(204)
    gates: dict[str, asyncio.Event] = field(default_factory=dict)
    """Hosts that answer only once their event is set."""
    held: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with each request to such a host."""
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    """Set with each request that is answered."""

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer one request."""
        await asyncio.sleep(0)
        if gate := self.gates.get(request.url.host):
            self.held.set()
            await gate.wait()
        self.requests.append(request)
        self.arrived.set()
        answer = self.answer(request)
        return httpx.Response(answer.status_code, headers=answer.headers, stream=_Body(answer.content))

    def ids(self) -> list[str]:
        """Return the message ids in the order of the requests."""
        return [request.headers["webhook-id"] for request in self.requests]

    def verified(self, secret: str) -> list[Json]:
        """Return the bodies that the reference library verifies with `secret`; it raises for any other."""
        return [verify(secret, each) for each in self.requests]


@dataclass(kw_only=True)
class Harness:
    """One process over `store`; time is moved."""

    store: Store
    schedule: Sequence[timedelta] = DEFAULT_SCHEDULE
    handler: Handler = WEBHOOK_HANDLER
    circuit_limits: CircuitLimits = LIMITS
    clock: MovedClock = field(default_factory=MovedClock)
    receivers: Receivers = field(default_factory=Receivers)
    loop: Loop = field(init=False)
    endpoints: EndpointUseCases = field(init=False)
    dispatcher: Dispatcher = field(init=False)
    controls: HandlerControls = field(init=False)

    def __post_init__(self) -> None:
        options = Options(handlers=("webhook",), local_handlers=(self.handler,))
        self.loop = Loop(self.store, self.clock, ScriptedProvider(), options)
        slots, max_wait = self.loop.slots, sum(self.schedule, timedelta())
        slots.circuits = CircuitBoard(
            handlers=[self.handler], clock=self.clock, max_wait=lambda _: max_wait, limits=self.circuit_limits
        )
        slots.blocks = slots.circuits
        self.controls = HandlerControls(
            pauses=self.store.handler_pauses, circuits=self.store.circuits, slots=slots, clock=self.clock
        )
        self.endpoints = endpoint_use_cases(self.store, self.clock, new_id=self.loop.new_id)
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.receivers))

        def make_tools(claim: DeliveryClaim, _: Handler) -> Tools:
            return tools(
                http,
                now=self.clock.now,
                target=claim.target,
                message_id=claim.message_id,
                settings={"WEBHOOK_SECRETS": "whsec_" + "A" * 32},
            )

        self.dispatcher = Dispatcher(
            queue=self.store.deliveries,
            slots=self.loop.slots,
            tools=make_tools,
            clock=self.clock,
            schedule=self.schedule,
            jitter=lambda: 0.0,
            endpoints=self.endpoints.targets,
        )

    async def tasks(self, count: int = 1, client: str = "anna", **changes: Any) -> list[str]:
        """Store tasks; none of them has an event yet."""
        return [(await self.loop.accept(client=client, **changes)).id for _ in range(count)]

    async def submit(self, *task_ids: str) -> None:
        """Record that tasks were submitted: one event `task.submitted` for each."""
        fact = Fact(status=Status.IN_PROGRESS, progress=0.1)
        await self._record(task_ids, fact)

    async def complete(self, *task_ids: str) -> None:
        """Record the end of tasks: one event `task.completed` for each, after its submission."""
        fact = Fact(status=Status.COMPLETED, output=({"type": "video", "url": "https://files.example/1.mp4"},))
        await self._record(task_ids, fact)

    async def _record(self, task_ids: Sequence[str], fact: Fact) -> None:
        updates = [
            TaskUpdate(
                task_id=TaskId(each),
                fact=Fact(**vars(fact) | {"upstream_id": UpstreamId(f"of-{each}")}),
                source=Source.POLL,
                poll="in_progress",
            )
            for each in task_ids
        ]
        await asyncio.gather(*map(self.loop.recorder.add, updates))

    async def run(self, *, move: timedelta = timedelta()) -> int:
        """Move the clock, then run what is due until nothing is; return how many deliveries were started."""
        self.clock.move(move)
        await self.controls.refresh()
        total = 0
        async with asyncio.timeout(TIMEOUT):
            while started := await self.dispatcher.run_once():
                total += started
                await ended(self.dispatcher)
        return total

    async def requests_by_second(self, seconds: int) -> list[int]:
        """Run now and after each further second; return how many requests receivers have got by then."""
        counts = []
        for second in range(seconds):
            await self.run(move=timedelta(seconds=min(second, 1)))
            counts.append(len(self.receivers.requests))
        return counts

    async def pass_time(self, duration: timedelta, *, step: timedelta = timedelta(seconds=5)) -> None:
        """Let time pass in steps, at each of which the jobs of the process run."""
        until = self.clock.at + duration
        while self.clock.at < until:
            await self.run(move=min(step, until - self.clock.at))

    async def deliveries(self, status: str | None = None, client: str | None = None) -> list[DeliveryView]:
        """Return deliveries, newest first."""
        wanted = DeliverySelection(client=client, status=status, limit=200)
        return [*(await self.store.queries.deliveries(wanted)).deliveries]

    async def attempts(self, task_id: str) -> list[Json]:
        """Return the attempts in the history of a task."""
        rows = await history_of(self.store.queries, task_id, data=False)
        return [row for row in rows if row["kind"] == "attempt"]
