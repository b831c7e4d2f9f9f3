"""The handler `broker` against real brokers: NATS, Redis, RabbitMQ (slow to start), and the stand-in of SQS."""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from handlers import _broker_connection
from handlers.broker import handlers
from service.testing import HandlerTest, sample_event
from tests.support.broker_consumers import Consumer, NatsConsumer, RabbitmqConsumer, RedisConsumer, SqsConsumer
from tests.support.brokers import (
    BrokerServer,
    nats_server,
    needs_nats,
    needs_rabbitmq,
    needs_redis,
    needs_sqs,
    rabbitmq_server,
    redis_server,
    sqs_server,
)

MISSING = {
    "nats": "no JetStream stream stores the subject boomerang.task.completed: create one with `nats stream add",
    "rabbitmq": "the exchange boomerang does not exist: create it with `rabbitmqadmin declare exchange name=boomerang",
    "sqs": "the queue does not exist: create it with `aws sqs create-queue --queue-name events.fifo",
}
"""What a delivery says about a destination that does not exist; Redis creates its own."""

DEDUPLICATES = {"nats", "sqs"}


@dataclass(frozen=True, kw_only=True)
class Broker:
    """A running broker, its consumer, and the settings of the handler."""

    kind: str
    server: BrokerServer
    consumer: Consumer
    settings: Mapping[str, str] = field(default_factory=dict)

    def test(self, **more: str) -> HandlerTest:
        """Return the test of the handler with this broker."""
        return HandlerTest(handlers, settings={"BROKER_URL": self.server.url, **self.settings, **more})


@pytest.fixture(
    params=[
        pytest.param("nats", marks=needs_nats),
        pytest.param("redis", marks=needs_redis),
        pytest.param("rabbitmq", marks=[needs_rabbitmq, pytest.mark.slow]),
        pytest.param("sqs", marks=needs_sqs),
        pytest.param("sqs-standard", marks=[needs_sqs, pytest.mark.slow]),
    ],
    scope="module",
)
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """Run each broker once."""
    home = tmp_path_factory.mktemp("broker")
    kind: str = request.param
    if kind == "nats":
        with nats_server(home) as server:
            yield Broker(kind=kind, server=server, consumer=NatsConsumer(server.url))
    elif kind == "redis":
        with redis_server(home) as server:
            yield Broker(kind=kind, server=server, consumer=RedisConsumer(server.url))
    elif kind == "rabbitmq":
        with rabbitmq_server(home) as server:
            yield Broker(kind=kind, server=server, consumer=RabbitmqConsumer(server.url))
    else:
        queue = "events.fifo" if kind == "sqs" else "events"
        with sqs_server(home) as server:
            consumer = SqsConsumer(server.url, queue)
            yield Broker(kind=kind, server=server, consumer=consumer, settings={"BROKER_QUEUE": queue})


@pytest.fixture
async def broker(running: Broker) -> Broker:
    """Return a broker whose destination exists and is empty for the test."""
    if running.kind != "redis":
        await running.consumer.create()
    return running


async def received_ids(broker: Broker, *events: Any) -> list[tuple[str, str]]:
    """Return message id and event id of each message that is one of `events`."""
    ids = {event.id for event in events}
    return [(each.message_id, each.event_id) for each in await broker.consumer.read() if each.event_id in ids]


async def test_missing_destination(running: Broker) -> None:
    """A stream, exchange or queue that does not exist is tried again, with the fix, until somebody creates it."""
    if running.kind not in MISSING:
        pytest.skip("Redis creates the stream with its first entry; one queue of SQS is enough")
    event = sample_event()
    async with running.test() as test:
        outcome = await test.deliver(event)
        assert outcome.outcome == "retry"
        assert MISSING[running.kind] in (outcome.error or "")
        await running.consumer.create()
        assert (await test.deliver(event, attempt=2)).delivered
    assert [event_id for _, event_id in await received_ids(running, event)] == [event.id]


async def test_cloud_event(broker: Broker) -> None:
    """A consumer reads with the reference library what a webhook's receiver gets, as CloudEvents 1.0."""
    event = sample_event("task.failed", payload='ümlaut \U0001f600 % "')
    async with broker.test(PUBLIC_URL="https://videos.example") as test:
        assert (await test.deliver(event)).delivered
    (found,) = [each for each in await broker.consumer.read() if each.event_id == event.id]
    structured = broker.kind not in {"nats", "rabbitmq"}
    assert found.content_type == ("application/cloudevents+json" if structured else "application/json")
    assert found.event.get_attributes() == {
        "specversion": "1.0",
        "id": event.id,
        "source": "https://videos.example",
        "type": "dev.boomerang.task.failed",
        "subject": event.task.id,
        "time": event.at,
        "datacontenttype": "application/json",
    }
    data = found.event.get_data()
    assert isinstance(data, dict)
    assert data["task"]["error"]["kind"] == "content"
    assert (data["payload"], data["client"]) == (event.payload, "sample")


async def test_duplicates(broker: Broker) -> None:
    """A second attempt has the same message id, which NATS and FIFO queues store once; a replay has a new one."""
    event = sample_event()
    async with broker.test() as test:
        assert (await test.deliver(event)).delivered
        assert (await test.deliver(event, attempt=2)).delivered
        assert (await test.deliver(event, message_id="msg_replayed")).delivered
    found = await received_ids(broker, event)
    first = (f"msg_{event.id}", event.id)
    assert found == [first, *([] if broker.kind in DEDUPLICATES else [first]), ("msg_replayed", event.id)]


async def test_other_events(broker: Broker) -> None:
    """An event that BROKER_EVENTS leaves out is delivered without being published."""
    left_out, named = sample_event("task.progressed"), sample_event("artifact.stored")
    async with broker.test(BROKER_EVENTS="task.completed, artifact.stored") as test:
        assert (await test.deliver(left_out)).delivered
        assert (await test.deliver(named)).delivered
    assert [event_id for _, event_id in await received_ids(broker, left_out, named)] == [named.id]


async def test_restart(broker: Broker) -> None:
    """A message that finds the broker killed is tried again; the first one after its restart is delivered."""
    if broker.kind.startswith("sqs"):
        pytest.skip("the stand-in keeps nothing")
    before, during, after = sample_event(), sample_event(), sample_event()
    async with broker.test() as test:
        assert (await test.deliver(before)).delivered
        broker.server.kill()
        outcome = await test.deliver(during)
        assert outcome.outcome == "retry"
        assert "Retry" in (outcome.error or "")
        broker.server.start()
        for event in (during, after):
            assert (await test.deliver(event)).delivered
    found = [event_id for _, event_id in await received_ids(broker, before, during, after)]
    assert found == [before.id, during.id, after.id]


async def test_restart_between_messages(broker: Broker) -> None:
    """Connections that ended while nothing was published cost no attempt, though all messages come at once."""
    if broker.kind.startswith("sqs"):
        pytest.skip("the stand-in keeps nothing")
    events = [sample_event() for _ in range(16)]
    async with broker.test() as test:
        await asyncio.gather(*(test.deliver(event) for event in events[:8]))
        broker.server.kill()
        await asyncio.to_thread(broker.server.start)
        outcomes = await asyncio.gather(*(test.deliver(event) for event in events[8:]))
    assert [outcome.error for outcome in outcomes if not outcome.delivered] == []
    assert {event_id for _, event_id in await received_ids(broker, *events)} == {event.id for event in events}


async def test_silent_broker(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that neither answers nor closes its connections costs one limited attempt; the next ones are good."""
    event = sample_event()
    async with broker.test() as test:
        assert (await test.deliver(sample_event())).delivered
        monkeypatch.setattr(_broker_connection, "PUBLISH_TIMEOUT", 0.3)
        broker.server.suspend()
        try:
            outcome = await test.deliver(event)
        finally:
            broker.server.resume()
        assert outcome.outcome == "retry"
        assert "did not confirm the message within 0.3 s" in (outcome.error or "")
        monkeypatch.setattr(_broker_connection, "PUBLISH_TIMEOUT", 10.0)
        assert (await test.deliver(event, attempt=2)).delivered
    assert {event_id for _, event_id in await received_ids(broker, event)} == {event.id}


async def test_one_connection(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries at the same time share one publisher, and the end of the process leaves nothing running."""
    opened = 0
    original = _broker_connection.Publisher._open

    async def counted(publisher: Any) -> Any:
        nonlocal opened
        opened += 1
        return await original(publisher)

    monkeypatch.setattr(_broker_connection.Publisher, "_open", counted)
    events = [sample_event() for _ in range(20)]
    others = asyncio.all_tasks()
    async with broker.test() as test:
        outcomes = await asyncio.gather(*(test.deliver(event) for event in events))
    assert {outcome.delivered for outcome in outcomes} == {True}
    assert opened == 1
    await asyncio.sleep(0)
    assert {task.get_name() for task in asyncio.all_tasks() - others} == set()
    assert len(await received_ids(broker, *events)) == 20
