"""Consumers of the brokers, as their users write them: they create what is consumed, and read all of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from cloudevents.core.base import BaseCloudEvent
from cloudevents.core.bindings import http, rabbitmq
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from handlers._broker_settings import address_of

STREAM, QUEUE = "BOOMERANG", "events"
STRUCTURED = "application/cloudevents+json"


@dataclass(frozen=True, kw_only=True)
class Received:
    """A message as a consumer has it: the id that brokers deduplicate by, and the event as the reference library."""

    message_id: str
    content_type: str
    event: BaseCloudEvent

    @property
    def event_id(self) -> str:
        """Return the id of the event."""
        return str(self.event.get_id())


class Consumer(Protocol):
    """A consumer of one broker."""

    async def create(self) -> None:
        """Create the stream or queue."""

    async def read(self) -> list[Received]:
        """Return every message, in the order in which the broker has them."""


@dataclass(frozen=True)
class NatsConsumer:
    """Reads a stream for `boomerang.>`."""

    url: str

    async def create(self) -> None:
        """Create the stream."""
        import nats  # noqa: PLC0415 - may not be installed

        client = await nats.connect(self.url)
        await client.jetstream().add_stream(name=STREAM, subjects=["boomerang.>"])
        await client.close()

    async def read(self) -> list[Received]:
        """Return all messages of the stream."""
        import nats  # noqa: PLC0415 - may not be installed

        client = await nats.connect(self.url)
        stream = client.jetstream()
        last = (await stream.stream_info(STREAM)).state.last_seq
        messages = [await stream.get_msg(STREAM, number) for number in range(1, last + 1)]
        await client.close()
        return [_from_headers(message.headers or {}, message.data or b"") for message in messages]


def _from_headers(headers: dict[str, str], body: bytes) -> Received:
    return Received(
        message_id=headers["Nats-Msg-Id"],
        content_type=headers["content-type"],
        event=http.from_binary(http.HTTPMessage(headers=headers, body=body), JSONFormat(), CloudEvent),
    )


@dataclass(frozen=True)
class RedisConsumer:
    """Reads the stream `boomerang`."""

    url: str

    async def create(self) -> None:
        """Do nothing: the first entry creates the stream."""

    async def read(self) -> list[Received]:
        """Return all entries of the stream."""
        from redis.asyncio import Redis  # noqa: PLC0415 - may not be installed

        async with Redis.from_url(self.url, decode_responses=True, protocol=2) as client:
            entries: list[Any] = await client.xrange("boomerang") or []
        return [_from_json(fields["message_id"], fields["content-type"], fields["event"]) for _, fields in entries]


def _from_json(message_id: str, content_type: str, text: str) -> Received:
    return Received(message_id=message_id, content_type=content_type, event=JSONFormat().read(CloudEvent, text))


@dataclass(frozen=True)
class RabbitmqConsumer:
    """Reads a durable queue that is bound to the exchange `boomerang` with `#`."""

    url: str

    async def create(self) -> None:
        """Create the exchange and the queue."""
        async with self._channel() as channel:
            exchange = await channel.declare_exchange("boomerang", "topic", durable=True)
            queue = await channel.declare_queue(QUEUE, durable=True)
            await queue.bind(exchange, "#")

    async def read(self) -> list[Received]:
        """Take all messages from the queue."""
        found = []
        async with self._channel() as channel:
            queue = await channel.get_queue(QUEUE)
            while message := await queue.get(fail=False, no_ack=True):
                assert message.delivery_mode == 2
                headers = {name: str(value) for name, value in message.headers.items()}
                received = rabbitmq.RabbitMQMessage(
                    headers=headers, content_type=message.content_type, body=message.body
                )
                event = rabbitmq.from_binary(received, JSONFormat(), CloudEvent)
                content_type = message.content_type or ""
                found.append(Received(message_id=message.message_id or "", content_type=content_type, event=event))
        return found

    @asynccontextmanager
    async def _channel(self) -> AsyncIterator[Any]:
        import aio_pika  # noqa: PLC0415 - may not be installed

        async with await aio_pika.connect(self.url) as connection:
            yield await connection.channel()


@dataclass(frozen=True)
class SqsConsumer:
    """Reads a queue."""

    url: str
    queue: str = QUEUE

    async def create(self) -> None:
        """Create the queue."""
        attributes = {"FifoQueue": "true"} if self.queue.endswith(".fifo") else {}
        async with self._client() as client:
            await client.create_queue(QueueName=self.queue, Attributes=attributes)

    async def read(self) -> list[Received]:
        """Take all messages from the queue."""
        found = []
        async with self._client() as client:
            url = (await client.get_queue_url(QueueName=self.queue))["QueueUrl"]
            while messages := await _batch(client, url):
                for message in messages:
                    texts = {name: each["StringValue"] for name, each in message["MessageAttributes"].items()}
                    found.append(_from_json(texts["message_id"], texts["content-type"], message["Body"]))
                    await client.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        return found

    @asynccontextmanager
    async def _client(self) -> AsyncIterator[Any]:
        from aiobotocore.session import get_session  # noqa: PLC0415 - may not be installed

        address = address_of(self.url)
        async with get_session().create_client(
            "sqs",
            region_name=address.host,
            endpoint_url=address.query["endpoint_url"],
            aws_access_key_id=address.user,
            aws_secret_access_key=address.password,
        ) as client:
            yield client


async def _batch(client: Any, url: str) -> list[dict[str, Any]]:
    answer = await client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, MessageAttributeNames=["All"])
    messages: list[dict[str, Any]] = answer.get("Messages", [])
    return messages
