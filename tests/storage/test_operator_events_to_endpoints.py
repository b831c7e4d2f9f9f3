"""Operator events for endpoints of admins that name them: signed like any event, durable, retried."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import httpx
import pytest

from service.deliveries.endpoint_operator_events import PAUSED_FOR, EndpointOperatorEvents
from service.deliveries.handler_jobs import JobRunner
from service.deliveries.operator_handlers import OperatorEventQueue
from service.domain.errors import InvalidParams
from service.domain.operator_event import OperatorEventType
from service.domain.task import Json
from service.storage import Store
from service.tasks.endpoints import EndpointChanges
from tests.storage.conftest import OpenStore
from tests.support.delivery_builders import tools
from tests.support.endpoint_builders import SECRET
from tests.support.endpoint_harness import WEBHOOK_HANDLER, Harness, verify

MINUTE = timedelta(minutes=1)


@dataclass
class Operator:
    """A process in which the clients `admins` are admins; it hands operator events over and runs the jobs."""

    harness: Harness
    admins: set[str] = field(default_factory=lambda: {"anna"})

    def __post_init__(self) -> None:
        store, clock = self.harness.store, self.harness.clock
        self.harness.endpoints.service.is_admin = self.admins.__contains__
        http = httpx.AsyncClient(transport=httpx.MockTransport(self.harness.receivers))
        events = EndpointOperatorEvents(
            tools=lambda claim, _: tools(http, now=clock.now, target=claim.target, message_id=claim.message_id),
            endpoints=store.endpoints,
            targets=self.harness.endpoints.targets,
            is_admin=self.admins.__contains__,
        )
        handlers = [events.added_to(WEBHOOK_HANDLER)]
        self.queue = OperatorEventQueue(
            handlers=handlers, events=store.operator_events, clock=clock, is_admin=self.admins.__contains__
        )
        self.runner = JobRunner(
            handlers=handlers,
            store=store.handler_jobs,
            tools=lambda _: tools(),
            clock=clock,
            lease=MINUTE,
            signals=store.signals,
            jitter=lambda: 0.0,
        )

    async def run(self, *, move: timedelta = timedelta()) -> None:
        """Move the clock, hand over what is new, and run the jobs that are due."""
        self.harness.clock.move(move)
        await self.queue.hand_over()
        for task in await self.runner.start_due():
            await task

    async def report(self, type_: OperatorEventType, condition: str = "c", data: Json | None = None) -> None:
        """Report a condition now."""
        at = self.harness.clock.now() + timedelta(milliseconds=1)
        await self.harness.store.operator_events.report(type_, condition, data or {}, at=at)

    @property
    def requests(self) -> Sequence[httpx.Request]:
        """Return what the receivers have got."""
        return self.harness.receivers.requests


async def test_admins_endpoint_gets_what_it_names(store: Store, open_another: OpenStore) -> None:
    """Once each, over two processes, signed with its secret and with its headers; other types do not come."""
    harness = Harness(store=store)
    operator = Operator(harness)
    other = Operator(Harness(store=open_another(), clock=harness.clock, receivers=harness.receivers))
    await harness.endpoints.create(events=["service.dead_letters", "task.failed"], headers={"X-Key": "of-anna"})
    await operator.report(OperatorEventType.DEAD_LETTERS, data={"handler": "log"})
    await operator.report(OperatorEventType.CIRCUIT_OPENED)
    for process in (operator, other, operator):
        await process.run()
    [request] = operator.requests
    body = verify(SECRET, request)
    assert (body["type"], body["data"], request.headers["x-key"]) == (
        "service.dead_letters",
        {"handler": "log"},
        "of-anna",
    )
    assert body["id"].startswith("svc_")


async def test_one_name_stands_for_all(store: Store) -> None:
    """`service.*` asks for every operator event; an endpoint for all events of tasks gets none."""
    operator = Operator(Harness(store=store))
    await operator.harness.endpoints.create(events=["service.*"])
    await operator.harness.endpoints.create(url="https://other.example/", events=None)
    for type_ in OperatorEventType:
        await operator.report(type_)
    await operator.run()
    assert sorted(verify(SECRET, each)["type"] for each in operator.requests) == sorted(OperatorEventType)
    assert {each.url.host for each in operator.requests} == {"hooks.example.org"}


async def test_client_may_not_name_them(store: Store) -> None:
    """Neither when it creates an endpoint nor later; and a key that is no admin's any more gets no further one."""
    operator = Operator(Harness(store=store))
    service = operator.harness.endpoints.service
    with pytest.raises(InvalidParams, match="admins alone"):
        await operator.harness.endpoints.create("bob", events=["service.dead_letters"])
    bobs = await operator.harness.endpoints.create("bob")
    with pytest.raises(InvalidParams, match="admins alone"):
        await service.change(bobs, EndpointChanges(given={"events": ["service.*"]}))
    await operator.harness.endpoints.create(events=["service.*"])
    operator.admins.clear()
    await operator.report(OperatorEventType.DEAD_LETTERS)
    await operator.run()
    assert operator.requests == []


async def test_it_is_retried_under_its_id(store: Store) -> None:
    """A receiver that fails gets it again, under the same message id."""
    operator = Operator(Harness(store=store))
    await operator.harness.endpoints.create(events=["service.*"])
    operator.harness.receivers.answer = lambda _: httpx.Response(500)
    await operator.report(OperatorEventType.BUDGET_REACHED)
    await operator.run()
    operator.harness.receivers.answer = lambda _: httpx.Response(204)
    for _ in range(3):
        await operator.run(move=MINUTE)
    assert len(operator.requests) == 2
    assert len(set(operator.harness.receivers.ids())) == 1


async def test_paused_endpoint_gets_it_when_it_is_resumed(store: Store) -> None:
    """Whether it was paused before the event or after it."""
    operator = Operator(Harness(store=store))
    service = operator.harness.endpoints.service
    endpoint = await operator.harness.endpoints.create(events=["service.*"])
    await operator.report(OperatorEventType.TASK_OVERDUE, "first")
    await operator.queue.hand_over()
    await service.change(endpoint, EndpointChanges(given={"paused": True}))
    await operator.report(OperatorEventType.TASK_OVERDUE, "second")
    await operator.run()
    assert operator.requests == []
    await service.change(endpoint, EndpointChanges(given={"paused": False}))
    await operator.run(move=PAUSED_FOR)
    await operator.run()
    assert len(operator.requests) == 2


async def test_disabled_endpoint_of_another_client_is_reported(store: Store) -> None:
    """The operator's endpoint gets that a client's endpoint answered 410; the client's own gets nothing."""
    harness = Harness(store=store)
    operator = Operator(harness)
    await harness.endpoints.create("anna", url="https://ops.example/", events=["service.endpoint_disabled"])
    gone = await harness.endpoints.create("berta", url="https://gone.example/")
    harness.receivers.answer = lambda request: httpx.Response(410 if request.url.host == "gone.example" else 204)
    harness.clock.move(MINUTE)
    await harness.submit(*await harness.tasks(1, "berta"))
    await harness.run()
    harness.receivers.requests.clear()
    await operator.run()
    [request] = operator.requests
    assert request.url.host == "ops.example"
    assert verify(SECRET, request)["data"] == {"endpoint": gone.id, "client": "berta", "reason": "gone"}
    await harness.endpoints.service.remove(gone.id)


async def test_deleted_endpoint_leaves_nothing_to_do(store: Store) -> None:
    """A job that is stored already ends without a request."""
    operator = Operator(Harness(store=store))
    endpoint = await operator.harness.endpoints.create(events=["service.*"])
    await operator.report(OperatorEventType.DEAD_LETTERS)
    await operator.queue.hand_over()
    await operator.harness.endpoints.service.remove(endpoint.id)
    await operator.run()
    await operator.run(move=10 * MINUTE)
    assert operator.requests == []
