"""Users, passwords and TLS of brokers, against real NATS and Redis servers."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from handlers.broker import handlers
from service.testing import HandlerTest, Outcome
from tests.acceptance.processes import HOST
from tests.support.broker_consumers import NatsConsumer, SqsConsumer
from tests.support.brokers import nats_server, needs_nats, needs_redis, needs_sqs, redis_server, sqs_server
from tests.support.private_ca import PrivateCa

PASSWORD, WRITTEN = "p@ss/w#rd:%41", "p%40ss%2Fw%23rd%3A%2541"
WRONG = "not-the-password"


async def outcome(url: str, **more: str) -> Outcome:
    """Return how one delivery to this address ends."""
    async with HandlerTest(handlers, settings={"BROKER_URL": url, **more}) as test:
        return await test.deliver()


def with_user(url: str, user: str) -> str:
    """Return the address with a user, and perhaps a password."""
    return urlsplit(url)._replace(netloc=f"{user}@{urlsplit(url).netloc}").geturl()


def check_refused(found: Outcome) -> None:
    """Check that a delivery is tried again, and that its error has no password."""
    assert found.outcome == "retry"
    assert "cannot be reached" in (found.error or "")
    for secret in (WRONG, PASSWORD, WRITTEN):
        assert secret not in (found.error or "")


@needs_nats
async def test_nats_password(tmp_path: Path) -> None:
    """A percent-encoded password is sent as it is meant; a wrong one is tried again, and shown nowhere."""
    users = f'authorization {{ user: "me", password: "{PASSWORD}" }}'
    with nats_server(tmp_path, settings=users) as server:
        found = await outcome(with_user(server.url, f"me:{WRITTEN}"))
        assert "no JetStream stream stores" in (found.error or "")
        check_refused(await outcome(with_user(server.url, f"me:{WRONG}")))
        check_refused(await outcome(server.url))


@needs_nats
async def test_nats_token(tmp_path: Path) -> None:
    """A user without a password is a token."""
    with nats_server(tmp_path, settings=f'authorization {{ token: "{PASSWORD}" }}') as server:
        found = await outcome(with_user(server.url, WRITTEN))
        assert "no JetStream stream stores" in (found.error or "")
        check_refused(await outcome(with_user(server.url, WRONG)))


@needs_nats
async def test_another_nats_server_takes_over(tmp_path: Path) -> None:
    """Of several servers one that answers is enough."""
    with nats_server(tmp_path) as server:
        await NatsConsumer(server.url).create()
        for _ in range(3):
            assert (await outcome(f"nats://{HOST}:9,{server.url},nats://{HOST}:19")).delivered


@needs_nats
async def test_nats_over_tls(tmp_path: Path) -> None:
    """The server's certificate is checked against CA_FILE."""
    ca = PrivateCa(tmp_path)
    ca.server_context(HOST)
    pem = tmp_path / f"{HOST}.pem"
    settings = f'tls {{ cert_file: "{pem}", key_file: "{pem}" }}'
    with nats_server(tmp_path / "server", settings=settings) as server:
        for url in (server.url, server.url.replace("nats:", "tls:")):
            found = await outcome(url, CA_FILE=str(ca.file))
            assert "no JetStream stream stores" in (found.error or "")
            refused = await outcome(url)
            assert "CERTIFICATE_VERIFY_FAILED" in (refused.error or "")


@needs_nats
async def test_password_is_not_sent_in_plain_text() -> None:
    """A server at an address tls:// that offers no TLS, or somebody in between, receives nothing."""
    received = bytearray()

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.10.0","max_payload":1048576,"auth_required":true}\r\n')
        with suppress(ConnectionError):
            received.extend(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(plain, HOST, 0)
    port = server.sockets[0].getsockname()[1]
    found = await outcome(f"tls://me:{WRITTEN}@{HOST}:{port}")
    server.close()
    assert "does not offer TLS" in (found.error or "")
    assert bytes(received) == b""


@needs_redis
async def test_redis_password(tmp_path: Path) -> None:
    """A percent-encoded password is sent as it is meant; a wrong one is tried again, and shown nowhere."""
    with redis_server(tmp_path, "--requirepass", PASSWORD) as server:
        assert (await outcome(with_user(server.url, f":{WRITTEN}"))).delivered
        check_refused(await outcome(with_user(server.url, f":{WRONG}")))
        check_refused(await outcome(server.url))


@asynccontextmanager
async def tls_front(context: ssl.SSLContext, port: int) -> AsyncIterator[int]:
    """Yield a port on which TLS is taken off what goes to `port`."""

    async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection(HOST, port)
        await asyncio.gather(pipe(reader, behind_writer), pipe(behind_reader, writer))

    server = await asyncio.start_server(serve, HOST, 0, ssl=context)
    yield server.sockets[0].getsockname()[1]
    server.close()


@needs_redis
async def test_redis_over_tls(tmp_path: Path) -> None:
    """The server's certificate is checked against CA_FILE."""
    ca = PrivateCa(tmp_path)
    with redis_server(tmp_path / "server") as server:
        async with tls_front(ca.server_context(HOST), urlsplit(server.url).port or 0) as port:
            assert (await outcome(f"rediss://{HOST}:{port}", CA_FILE=str(ca.file))).delivered
            refused = await outcome(f"rediss://{HOST}:{port}")
    assert "CERTIFICATE_VERIFY_FAILED" in (refused.error or "")


@needs_sqs
async def test_sqs_over_tls(tmp_path: Path) -> None:
    """The endpoint's certificate is checked against CA_FILE."""
    ca = PrivateCa(tmp_path)
    with sqs_server(tmp_path / "server") as server:
        await SqsConsumer(server.url).create()
        port = urlsplit(server.url.rpartition("=")[2]).port or 0
        async with tls_front(ca.server_context(HOST), port) as front:
            url = f"sqs://key:secret@eu-west-1?endpoint_url=https://{HOST}:{front}"
            queue = f"https://{HOST}:{front}/123456789012/events"
            assert (await outcome(url, BROKER_QUEUE=queue, CA_FILE=str(ca.file))).delivered
            refused = await outcome(url, BROKER_QUEUE=queue)
    assert "CERTIFICATE_VERIFY_FAILED" in (refused.error or "")
