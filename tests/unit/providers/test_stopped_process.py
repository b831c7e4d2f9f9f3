"""Requests of a process that is stopped for a while: a paid answer is not lost, a dead connection is not used."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from service.concurrency import late_timeout
from service.providers import PooledTransport
from service.providers.bounded_request import HttpExchange, Timeouts
from service.providers.connection_pool import SUSPENDED
from tests.unit.providers.test_connection_pool import URL, FakeNetwork

REPLY = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{"id": "up"}'
DELAY = 0.1
"""Seconds until the provider answers."""


@pytest.fixture
def provider() -> Iterator[str]:
    """Yield the address of a provider in a thread, which answers one request while the event loop is blocked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(65536)
                time.sleep(DELAY)
                connection.sendall(REPLY)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join(5)


@pytest.mark.parametrize("interrupted", [False, True])
async def test_a_reply_that_arrived_during_a_stop_is_read(
    provider: str, monkeypatch: pytest.MonkeyPatch, interrupted: bool
) -> None:
    """A submission whose time limits passed while the process was stopped gets its reply, and is not in doubt.

    A stop in the middle of epoll_wait(2) interrupts it (signal(7)): the time is up, and no event is reported yet.
    """
    monkeypatch.setattr(late_timeout, "LATE", 0.1)
    async with PooledTransport() as transport:
        exchange = HttpExchange(transport=transport, base_url=provider, scheme="Bearer", key="key")
        sending = asyncio.create_task(exchange.send("POST", "/tasks", Timeouts(total=0.5), body={}))
        while not transport._all:  # noqa: ASYNC110 - the pool offers no event
            await asyncio.sleep(0)
        await asyncio.sleep(DELAY / 2)  # it is sent
        if interrupted:
            monkeypatch.setattr(asyncio.get_running_loop()._selector, "select", _stopped_once(monkeypatch))  # type: ignore[attr-defined]
        else:
            time.sleep(1)  # noqa: ASYNC251 - the event loop is blocked, as it does in a stopped process
        response = await sending
    assert (response.status, response.body, response.error) == (200, b'{"id": "up"}', None)


def _stopped_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[float | None], list[object]]:
    """Return a wait for events that the process is stopped in, after which the loop waits as before."""
    selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]
    select = selector.select

    def wait(timeout: float | None) -> list[object]:
        assert timeout is None or timeout >= 0
        monkeypatch.setattr(selector, "select", select)
        time.sleep(1)
        return []

    return wait


@pytest.mark.parametrize(("passed", "connections"), [(0.0, 1), (SUSPENDED - 1, 1), (SUSPENDED + 1, 2)])
async def test_no_connection_outlasts_a_suspended_machine(
    passed: float, connections: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that has moved on more than the loop's time shows that the machine was suspended: connections are new."""
    network, ahead = FakeNetwork(), [0.0]
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    async with network.client() as client:
        await client.get(URL)
        ahead[0] = passed
        await client.get(URL)
    assert len(network.opened) == connections
