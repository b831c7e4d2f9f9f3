"""NATS JetStream: publishes to a subject, and waits until a stream has stored the message."""

import asyncio
import random
import ssl
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from nats.aio.client import Client
from nats.errors import Error
from nats.js import JetStreamContext
from nats.js.errors import APIError, NoStreamResponseError

from service import Retry

from ._broker_connection import PUBLISH_TIMEOUT, Connection
from ._broker_message import Message
from ._broker_settings import Address, Settings, address_of, tls_context

ERRORS = (Error, OSError)

SERVER_TIMEOUT = 3
"""Whole seconds for the connection to one of several servers."""

ABANDON_TIMEOUT = 0.2
"""Seconds."""

LEADER_ATTEMPTS, LEADER_PAUSE = 3, 0.25
"""While a cluster elects a stream's leader, nobody answers: other clients of NATS try as often (ADR-22)."""


async def connect(settings: Settings) -> Connection:
    """Connect to one of the servers in BROKER_URL, in random order; raises the error of the last one."""
    servers = [address_of(text) for text in settings.broker_url.get_secret_value().split(",")]
    random.shuffle(servers)
    context = await asyncio.to_thread(tls_context, settings.ca_file)
    last: Exception = OSError("no server")
    for server in servers:
        try:
            closed = asyncio.Event()
            return NatsConnection(await _connected(server, context, closed), settings.broker_subject, closed)
        except ERRORS as error:
            last = error
    raise last


async def _connected(server: Address, context: ssl.SSLContext, closed: asyncio.Event) -> Client:
    """Return a connected client; `closed` is set when the connection ends."""
    connected = False

    async def closing() -> None:
        closed.set()

    async def failed(error: Exception) -> None:
        """Raise an error of the handshake: the library itself would try again for minutes. Ignore later ones."""
        if not connected:
            raise error

    client = _EncryptedClient() if server.url.startswith("tls:") else Client()
    try:
        await client.connect(
            [server.url],
            name="boomerang",
            allow_reconnect=False,  # a message of a failed attempt must not be sent later
            connect_timeout=SERVER_TIMEOUT,
            error_cb=failed,
            disconnected_cb=closing,
            closed_cb=closing,
            tls=context,
            **_credentials(server),
        )
    except BaseException:
        await _abandon(client)
        raise
    connected = True
    return client


async def _abandon(client: Client) -> None:
    """Close what could not be opened; after a failed TLS handshake the library would wait for its end for ever."""
    with suppress(Exception):
        async with asyncio.timeout(ABANDON_TIMEOUT):
            await client.close()


def _credentials(server: Address) -> dict[str, Any]:
    """Return what the server is given; the library itself would send a percent-encoded password as it is written."""
    if server.user is None:
        return {}
    if server.password is None:
        return {"token": server.user}
    return {"user": server.user, "password": server.password}


class _EncryptedClient(Client):
    """A client of an address tls://: the library would send the password in plain text if the server asked for it."""

    def _connect_command(self) -> bytes:
        if not self._server_info.get("tls_required"):
            raise Error("nats: the server does not offer TLS, which the address tls:// demands")
        return super()._connect_command()


class NatsConnection:
    """A connection to a server."""

    def __init__(self, client: Client, subject: str, closed: asyncio.Event) -> None:
        self._client, self._subject, self._closed = client, subject, closed
        self._stream: JetStreamContext = client.jetstream(timeout=PUBLISH_TIMEOUT)

    @property
    def alive(self) -> bool:
        """Whether the server has not closed it."""
        return self._client.is_connected and not self._closed.is_set()

    async def publish(self, message: Message) -> None:
        """Publish to `{subject}.{event type}`; a stream that has the message already confirms it too."""
        headers, body = message.nats_binary()
        headers["Nats-Msg-Id"] = message.id
        subject = f"{self._subject}.{message.type}"
        for attempt in range(1, LEADER_ATTEMPTS + 1):
            try:
                await self._unless_closed(self._stream.publish(subject, body, headers=headers))
            except NoStreamResponseError:
                if attempt == LEADER_ATTEMPTS:
                    raise Retry(_no_stream(subject, self._subject)) from None
                await asyncio.sleep(LEADER_PAUSE)
            except APIError as error:
                raise Retry(f"JetStream did not store the message: {error.description}") from error
            except (ValueError, TypeError, KeyError) as error:  # an answer of something else that listens there
                raise Retry(f"the answer to {subject} is not that of a JetStream stream") from error
            else:
                return

    async def _unless_closed(self, publishing: Coroutine[Any, Any, object]) -> None:
        """Wait for an acknowledgement; the library itself would wait for it after the connection has ended, too."""
        waits = [asyncio.create_task(publishing), asyncio.create_task(self._closed.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            if not waits[0].done():
                raise ConnectionResetError("the server closed the connection")
            await waits[0]
        finally:
            for wait in waits:
                wait.cancel()
            await asyncio.gather(*waits, return_exceptions=True)

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


def _no_stream(subject: str, prefix: str) -> str:
    return (
        f"no JetStream stream stores the subject {subject}: create one with "
        f"`nats stream add BOOMERANG --subjects '{prefix}.>' --storage file`, or set BOOMERANG_BROKER_SUBJECT"
    )
