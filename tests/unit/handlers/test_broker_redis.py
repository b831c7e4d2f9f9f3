"""What is particular to Redis: the length of the stream, deduplication of newer servers, and its answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

pytest.importorskip("redis", reason="redis is not installed")

from redis.asyncio import Redis
from redis.exceptions import MovedError, ResponseError

from handlers.broker import handlers
from service.testing import HandlerTest, sample_event
from tests.support.brokers import BrokerServer, needs_redis, redis_server

pytestmark = needs_redis


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BrokerServer]:
    """Run a server."""
    with redis_server(tmp_path) as server:
        yield server


def client_of(server: BrokerServer) -> Any:
    """Return a client of the server, whose answers have many types."""
    return Redis.from_url(server.url, decode_responses=True, protocol=2)


def broker_of(server: BrokerServer, **more: str) -> HandlerTest:
    """Return the test of the handler with this server."""
    return HandlerTest(handlers, settings={"BROKER_URL": server.url, **more})


@pytest.mark.parametrize(
    ("version", "deduplicates"), [("8.6.0", True), ("9.0", True), ("8.4.2", False), ("7.2", False)]
)
async def test_deduplication_of_newer_servers(
    server: BrokerServer, monkeypatch: pytest.MonkeyPatch, version: str, deduplicates: bool
) -> None:
    """From 8.6 on the command names producer and message id; the version is asked once."""
    commands: list[tuple[Any, ...]] = []

    async def execute(_: Redis, *command: Any, **__: Any) -> Any:
        commands.append(command)
        return {"redis_version": version} if command[0] == "INFO" else "1-0"

    monkeypatch.setattr(Redis, "execute_command", execute)
    events = sample_event(), sample_event()
    async with broker_of(server, BROKER_STREAM="videos", BROKER_MAX_LENGTH="10") as test:
        for event in events:
            assert (await test.deliver(event)).delivered
    assert [command[0] for command in commands] == ["INFO", "XADD", "XADD"]
    start = ["XADD", "videos", *([b"IDMP", "boomerang", f"msg_{events[0].id}".encode()] if deduplicates else [])]
    length = [b"MAXLEN", b"~", "10", "*", "message_id", f"msg_{events[0].id}"]
    assert list(commands[1])[: len(start + length)] == start + length


async def test_old_server_without_deduplication(server: BrokerServer) -> None:
    """A server that knows no IDMP gets none; consumers recognize a message by its field."""
    event = sample_event()
    async with broker_of(server) as test:
        for attempt in (1, 2):
            assert (await test.deliver(event, attempt=attempt)).delivered
    async with client_of(server) as client:
        entries = await client.xrange("boomerang")
    assert [fields["message_id"] for _, fields in entries] == [f"msg_{event.id}"] * 2


async def test_server_that_only_claims_a_new_version(server: BrokerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real server refuses the command with IDMP: the message is added without it, once, and so are later ones."""
    monkeypatch.setattr(Redis, "info", AsyncMock(return_value={"redis_version": "8.6.0"}))
    async with broker_of(server) as test:
        assert [(await test.deliver(sample_event())).outcome for _ in range(2)] == ["delivered"] * 2
    monkeypatch.undo()
    async with client_of(server) as client:
        assert await client.xlen("boomerang") == 2
        found = (await client.info("commandstats"))["cmdstat_xadd"]
    assert (found["calls"], found["failed_calls"]) == (3, 1)


async def test_proxy_that_knows_no_info(server: BrokerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a version nothing is deduplicated, and messages are added."""
    monkeypatch.setattr(Redis, "info", AsyncMock(side_effect=ResponseError("unknown command 'INFO'")))
    async with broker_of(server) as test:
        assert (await test.deliver()).delivered


async def test_length_of_the_stream(server: BrokerServer) -> None:
    """Old entries are deleted by whole blocks beyond BROKER_MAX_LENGTH."""
    async with broker_of(server, BROKER_MAX_LENGTH="1") as test, client_of(server) as client:
        for _ in range(150):
            assert (await test.deliver()).delivered
        assert await client.xlen("boomerang") <= 101


async def test_answers_with_a_fix(server: BrokerServer) -> None:
    """Another type, a full memory, a missing permission and a replica are tried again, with what to do."""
    async with broker_of(server) as test, client_of(server) as client:
        await client.set("boomerang", "text")
        assert "set BOOMERANG_BROKER_STREAM to another key" in ((await test.deliver()).error or "")
        await client.delete("boomerang")
        await client.config_set("maxmemory", "1")
        assert "raise maxmemory" in ((await test.deliver()).error or "")
        await client.config_set("maxmemory", "0")
        await client.execute_command("REPLICAOF", "127.0.0.1", "9")
        assert "the server is a replica now" in ((await test.deliver()).error or "")
        await client.execute_command("REPLICAOF", "NO", "ONE")
        assert (await test.deliver()).delivered


async def test_user_with_few_permissions(server: BrokerServer) -> None:
    """A user that may only add to the stream is enough; without that, the error says which permission is missing."""
    async with client_of(server) as client:
        await client.execute_command("ACL", "SETUSER", "few", "on", ">secret-of-few", "~boomerang", "+xadd")
    few = server.url.replace("redis://", "redis://few:secret-of-few@")
    async with HandlerTest(handlers, settings={"BROKER_URL": few}) as test:
        assert (await test.deliver()).delivered
    async with HandlerTest(handlers, settings={"BROKER_URL": few, "BROKER_STREAM": "other"}) as test:
        assert "ACL SETUSER USER ~other +xadd" in ((await test.deliver()).error or "")


async def test_cluster(server: BrokerServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer of a cluster, whose keys are on several servers, says what to do."""
    async with broker_of(server) as test:
        assert (await test.deliver()).delivered
        monkeypatch.setattr(Redis, "xadd", AsyncMock(side_effect=MovedError("7365 127.0.0.1:7002")))
        assert "it is a cluster, and the key boomerang is on another node" in ((await test.deliver()).error or "")
