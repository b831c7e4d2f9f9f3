"""A callback that arrived completely is answered without ASGI's messages, with the same bytes as any other."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from unittest.mock import Mock

import pytest
import structlog
from structlog.testing import capture_logs

from service.api import request_bodies, request_context
from service.api.app import WebLimits
from service.api.http_protocol import BoundedProtocol
from service.api.request_bodies import SMALL, BodyLimits
from service.api.server import listen, serving
from service.api.whole_request import WholeRequest
from service.domain.errors import BadToken, StoreUnavailable, UnreadableBody
from tests.unit.api.fakes import FakeApplication, app_of

LIMITS = BodyLimits(max_bytes=2 * SMALL, max_total_bytes=8 * SMALL, receive_timeout=5, memory_timeout=5)
BODIES = (b"", b"{}", b"x" * SMALL, b"x" * (SMALL + 1), b"x" * (LIMITS.max_bytes + 1))
VARYING = re.compile(rb"date: [^\r]*|[0-9a-f]{16}(-[0-9]+)?")
"""The parts of a response that differ each time."""

HEADS = {
    "plain": b"POST /callbacks/abc HTTP/1.1\r\nHost: a\r\n",
    "HTTP/1.0": b"POST /callbacks/abc HTTP/1.0\r\nHost: a\r\n",
    "last of its connection": b"POST /callbacks/abc HTTP/1.1\r\nHost: a\r\nConnection: close\r\n",
    "request id": b"POST /callbacks/abc HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-1.a_b\r\n",
    "other request id": b"POST /callbacks/abc HTTP/1.1\r\nHost: a\r\nX-Request-Id: r 1\r\n",
    "no token": b"POST /callbacks/a%20b HTTP/1.1\r\nHost: a\r\n",
    "repeated host": b"POST /callbacks/abc HTTP/1.1\r\nHost: a\r\nHost: b\r\n",
    "continue": b"POST /callbacks/abc HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n",
}


Address = tuple[str, int]


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the ids of the requests that were answered without messages."""
    answered: list[str] = []
    send = WholeRequest.send_no_content

    async def noting(request: WholeRequest, request_id: str) -> None:
        answered.append(request_id)
        await send(request, request_id)

    monkeypatch.setattr(WholeRequest, "send_no_content", noting)
    return answered


@asynccontextmanager
async def served(fake: FakeApplication) -> AsyncIterator[Address]:
    """Yield the address of a server of the application."""
    listener = listen("127.0.0.1", 0)
    async with serving(app_of(fake, limits=WebLimits(callbacks=LIMITS)), listener):
        yield listener.getsockname()


async def exchanged(address: Address, *callbacks: bytes) -> bytes:
    """Return all that comes back for callbacks that are sent at once, with a probe after them."""
    reader, writer = await asyncio.open_connection(*address)
    writer.write(b"".join(callbacks) + b"GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    found = VARYING.sub(b"*", await reader.read())
    writer.close()
    return found


def callback(head: bytes = HEADS["plain"], body: bytes = b"{}") -> bytes:
    """Return a callback as it is sent."""
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


def without_whole_requests(patch: pytest.MonkeyPatch) -> None:
    """Serve every request with messages."""
    for module in (request_bodies, request_context):
        patch.setattr(module, "whole_request", lambda _: None)


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_response_is_the_same_as_with_messages(monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    """The bytes of the response, the end of the connection, what is received and what is counted do not differ."""
    fake, found = FakeApplication(), []
    async with served(fake) as address:
        for _ in range(2):
            responses = [await exchanged(address, callback(head, body)) for body in BODIES]
            found.append((responses, fake.received, +fake.refused, fake.due))
            fake.received, fake.due = [], []
            fake.refused.clear()
            without_whole_requests(monkeypatch)
    assert found[0] == found[1]


async def test_refusal_is_the_same_as_with_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refused callback gets the same problem, and the connection is kept."""
    fake, found = FakeApplication(), []
    async with served(fake) as address:
        for _ in range(2):
            for error in (BadToken("forged"), UnreadableBody("no JSON"), StoreUnavailable("full"), KeyError()):
                fake.error = error
                found.append(await exchanged(address, callback()))
            without_whole_requests(monkeypatch)
    assert found[:4] == found[4:]
    assert [each.count(b"HTTP/1.1 ") for each in found] == [2] * 8


async def test_pipelined_callbacks_are_answered_in_order(direct: list[str]) -> None:
    """Each gets its own response, in the order of the requests, and none waits for a further byte."""
    fake = FakeApplication()
    heads = [b"POST /callbacks/t%d HTTP/1.1\r\nHost: a\r\nX-Request-Id: r%d\r\n" % (at, at) for at in range(20)]
    async with served(fake) as address:
        found = await exchanged(address, *map(callback, heads))
    assert re.findall(rb"204 No Content\r\n(?:\*\r\n)?x-request-id: (\w+)", found) == [b"r%d" % at for at in range(20)]
    assert [token for token, _, _ in fake.received] == [f"t{at}" for at in range(20)]
    assert direct == [f"r{at}" for at in range(20)]


async def test_request_is_logged_unless_its_use_case_logged_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log line of a callback has its route, status, id and task."""
    fake = FakeApplication()
    with capture_logs() as lines:
        monkeypatch.setattr(request_context, "log", structlog.get_logger())
        async with served(fake) as address:
            await exchanged(address, callback(HEADS["request id"]))
            fake.already_logged = True
            await exchanged(address, callback())
    (line,) = [line for line in lines if line["event"] == "request" and line["route"] != "/healthz"]
    assert (line["route"], line["status"], line["request_id"]) == ("/callbacks/{token}", 204, "r-1.a_b")
    assert (line["task"], line["method"]) == ("t1", "POST")


async def test_peer_that_leaves_gets_no_response(direct: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback whose peer resets the connection while it is recorded is recorded, and nothing is sent."""
    fake, begun, lost, end = FakeApplication(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    receive, connection_lost = fake.receive, BoundedProtocol.connection_lost

    def noting(protocol: BoundedProtocol, error: Exception | None) -> None:
        connection_lost(protocol, error)
        lost.set()

    async def slow(*given: Any) -> bool:
        begun.set()
        await end.wait()
        return await receive(*given)

    fake.receive = slow  # type: ignore[method-assign,assignment]
    monkeypatch.setattr(BoundedProtocol, "connection_lost", noting)
    async with served(fake) as address:
        _, writer = await asyncio.open_connection(*address)
        writer.write(callback())
        await begun.wait()
        writer.transport.abort()
        await lost.wait()
        end.set()
    assert (len(direct), len(fake.received)) == (1, 1)


async def test_body_is_released_after_the_response() -> None:
    """An idle connection holds no body of its last request."""
    cycle = Mock(disconnected=False, waiting_for_100_continue=False, keep_alive=True, default_headers=[])
    cycle.flow.write_paused, cycle.body = False, bytearray(b"{}")
    request = WholeRequest(cycle)
    assert request.small_body(2) == b"{}"
    assert request.small_body(1) is None
    await request.send_no_content("r1")
    assert (cycle.body, cycle.response_complete) == (b"", True)
    cycle.transport.close.assert_not_called()


async def test_response_waits_while_the_peer_does_not_read() -> None:
    """Nothing is written into a full connection, and nothing after its end."""
    cycle = Mock(disconnected=False, keep_alive=True, default_headers=[])

    async def drain() -> None:
        cycle.disconnected = True

    cycle.flow.write_paused, cycle.flow.drain = True, drain
    await WholeRequest(cycle).send_no_content("r1")
    cycle.transport.write.assert_not_called()


def test_request_of_a_peer_that_left_is_not_whole() -> None:
    """Its body may have been dropped with the connection."""
    assert WholeRequest(Mock(disconnected=True, body=b"")).small_body(SMALL) is None
