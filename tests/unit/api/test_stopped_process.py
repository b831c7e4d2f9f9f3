"""Idle connections of a process that was stopped: a balancer may send its next request on one of them."""

import asyncio
import time

import pytest

from service.api import http_protocol
from service.api.server import listen, serving
from tests.unit.api.test_connections import GET, CountingApp

KEEP_ALIVE = 0.2


@pytest.mark.parametrize(("stopped", "kept"), [(0.0, False), (3 * KEEP_ALIVE, True)])
async def test_a_connection_that_was_idle_during_a_stop_serves_the_next_request(
    monkeypatch: pytest.MonkeyPatch, stopped: float, kept: bool
) -> None:
    """A request that arrives just after the stop is answered; without a stop, the idle connection is closed in time."""
    monkeypatch.setattr(http_protocol, "LATE", KEEP_ALIVE)
    app = CountingApp()
    app.release.set()
    async with asyncio.timeout(10), serving(app, listen("127.0.0.1", 0), keep_alive=KEEP_ALIVE) as url:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\nxx")
        time.sleep(stopped)  # noqa: ASYNC251 - the event loop is blocked, as it does in a stopped process
        if not stopped:
            assert await reader.read() == b""
        for _ in range(3):
            await asyncio.sleep(0)
        writer.write(GET)
        assert (await reader.read(1) != b"") is kept
        writer.close()
