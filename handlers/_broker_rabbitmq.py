"""RabbitMQ: publishes persistent messages to an exchange, and waits for the confirm that a queue has them."""

import asyncio
import logging

from aio_pika import DeliveryMode
from aio_pika import Message as AmqpMessage
from aio_pika import connect as open_connection
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange
from aio_pika.exceptions import CONNECTION_EXCEPTIONS, ChannelNotFoundEntity, DeliveryError, PublishError

from service import Retry

from ._broker_connection import PUBLISH_TIMEOUT, Connection
from ._broker_message import DATA_TYPE, Message
from ._broker_settings import Settings, tls_context

ERRORS = CONNECTION_EXCEPTIONS


async def connect(settings: Settings) -> Connection:
    """Connect and open a channel with confirms, on which a message that reaches no queue is an error."""
    url = settings.broker_url.get_secret_value()
    logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # the error of each message says what it would log
    context = await asyncio.to_thread(tls_context, settings.ca_file)
    connection = await open_connection(url, ssl_context=context, client_properties={"connection_name": "boomerang"})
    try:
        channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
        exchange = await channel.get_exchange(settings.broker_exchange, ensure=False)
    except BaseException:
        await connection.close()
        raise
    return RabbitmqConnection(connection, channel, exchange)


class RabbitmqConnection:
    """A connection with one channel."""

    def __init__(self, connection: AbstractConnection, channel: AbstractChannel, exchange: AbstractExchange) -> None:
        self._connection, self._channel, self._exchange = connection, channel, exchange

    @property
    def alive(self) -> bool:
        """Whether connection and channel are open: a missing exchange closes the channel."""
        return not (self._connection.is_closed or self._channel.is_closed)

    async def publish(self, message: Message) -> None:
        """Publish with the event's type as the routing key."""
        headers, body = message.rabbitmq_binary()
        amqp = AmqpMessage(
            body,
            headers=dict(headers),
            content_type=DATA_TYPE,
            delivery_mode=DeliveryMode.PERSISTENT,
            message_id=message.id,
            type=message.type,
            app_id="boomerang",
        )
        name = self._exchange.name
        try:
            await self._exchange.publish(amqp, message.type, mandatory=True, timeout=PUBLISH_TIMEOUT)
        except PublishError:
            raise Retry(
                f"no queue of the exchange {name} takes {message.type}: bind one to it with the pattern # or "
                f"{message.type}, or leave the event out of BOOMERANG_BROKER_EVENTS"
            ) from None
        except DeliveryError:
            raise Retry("RabbitMQ did not accept the message: a queue is full, or one of its servers failed") from None
        except ChannelNotFoundEntity:
            raise Retry(
                f"the exchange {name} does not exist: create it with "
                f"`rabbitmqadmin declare exchange name={name} type=topic durable=true`, "
                "or set BOOMERANG_BROKER_EXCHANGE"
            ) from None

    async def close(self) -> None:
        """Close channel and connection."""
        await self._connection.close()
