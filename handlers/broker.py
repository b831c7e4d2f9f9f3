"""Publishes every event as CloudEvents 1.0 to NATS JetStream, Redis Streams, RabbitMQ or SQS.

BOOMERANG_BROKER_URL names the broker, and its scheme which one. An event is delivered when the broker has confirmed
that it keeps the message: the stored acknowledgement of JetStream, the id of the stream's entry, the publisher confirm
of RabbitMQ for a message that reached a queue, the answer of SQS. The message id, new for a replay, is what brokers
deduplicate by; `id` is the event's and stays. A stream, exchange or queue that is missing may be created later, so the
delivery follows its schedule, and its error says how to create it.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

from service import Event, Handlers, Tools

from ._broker_connection import CONNECT_TIMEOUT, PUBLISH_TIMEOUT, Publisher
from ._broker_settings import Settings

handlers = Handlers()


@handlers.on(name="broker", timeout=CONNECT_TIMEOUT + PUBLISH_TIMEOUT + 10, settings=Settings)
async def broker(event: Event, tools: Tools[Settings]) -> None:
    """Publish the event; safe to run twice, since brokers or consumers recognize the message by its id."""
    if event.type not in tools.config.broker_events:
        return
    from ._broker_message import message_of  # noqa: PLC0415 - its library comes with the extra of a broker

    config = tools.config
    publisher = await tools.shared("publisher", lambda: _open_publisher(config))
    prefix = config.broker_type_prefix
    await publisher.publish(message_of(event, tools.message_id, source=config.source, type_prefix=prefix))


@asynccontextmanager
async def _open_publisher(settings: Settings) -> AsyncIterator[Publisher]:
    """Yield the publisher of this process; it connects with the first message."""
    adapter = import_module(f"._broker_{settings.kind.extra}", __package__)
    publisher = Publisher(settings.kind.name, lambda: adapter.connect(settings), adapter.ERRORS)
    try:
        yield publisher
    finally:
        await publisher.close()
