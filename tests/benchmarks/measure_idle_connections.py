"""Count the submissions that a server's idle limit loses: `python -m tests.benchmarks.measure_idle_connections`.

A server closes idle connections after 2 s or 5 s, and a network delays every byte and every close by 100 ms. Clients
submit, wait nearly as long as the server does, and submit again. A submission is lost if it never arrived and the
client cannot know that: its task would be in doubt, and end as `submission_unknown`.
"""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from service.domain.errors import NotSent, ReplyLost
from service.domain.ports.provider import ProviderRequest
from service.providers import PooledTransport, Vtrix, connection_pool

DELAY = 0.1
SERVER_LIMITS = (2.0, 5.0)
CLIENTS = 60
SPREAD = 0.3
"""Seconds around the server's limit over which the pauses of the clients are spread."""

BEFORE = 5.0
"""Seconds for which any request used an idle connection in the previous release."""

WIDTH = 36
REPLY = b'HTTP/1.1 200 OK\r\nContent-Length: 33\r\n\r\n{"id":"abc123","status":"queued"} '


@dataclass(kw_only=True)
class KeepAliveServer:
    """A server that closes connections which are idle for `limit` seconds; it counts the requests that arrive."""

    limit: float
    arrived: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer requests until the connection is idle for too long."""
        try:
            while True:
                async with asyncio.timeout(self.limit):
                    head = await reader.readuntil(b"\r\n\r\n")
                length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length"))
                await reader.readexactly(int(length.partition(b":")[2]))
                self.arrived += 1
                writer.write(REPLY)
        except (TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@dataclass(kw_only=True)
class DelayedNetwork:
    """Forwards connections to `port`; every byte and every close arrives DELAY seconds later."""

    port: int
    _pipes: set[asyncio.Task[None]] = field(default_factory=set)

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward both directions of one connection."""
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port)
        for source, target in ((reader, far_writer), (far_reader, writer)):
            pipe = asyncio.create_task(self._pipe(source, target))
            self._pipes.add(pipe)
            pipe.add_done_callback(self._pipes.discard)

    async def _pipe(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await source.read(65536):
                loop.call_later(DELAY, target.write, data)
        except ConnectionError:
            pass
        loop.call_later(DELAY, target.close)

    async def close(self) -> None:
        """End every connection."""
        for pipe in list(self._pipes):
            pipe.cancel()


@contextmanager
def idle_seconds(seconds: float | None) -> Iterator[None]:
    """Let any request use a connection that was idle for this long inside the block; None is this release."""
    own = connection_pool.IDLE_SECONDS, connection_pool.POST_IDLE_SECONDS
    if seconds is not None:
        connection_pool.IDLE_SECONDS = connection_pool.POST_IDLE_SECONDS = seconds
    try:
        yield
    finally:
        connection_pool.IDLE_SECONDS, connection_pool.POST_IDLE_SECONDS = own


async def lost_submissions(limit: float, clients: int = CLIENTS) -> tuple[int, int, int]:
    """Return how many submissions were sent, arrived, and were lost without the client's knowledge."""
    server = KeepAliveServer(limit=limit)
    async with AsyncExitStack() as stack:
        listener = await stack.enter_async_context(await asyncio.start_server(server.serve, "127.0.0.1", 0))
        network = DelayedNetwork(port=listener.sockets[0].getsockname()[1])
        stack.push_async_callback(network.close)
        front = await stack.enter_async_context(await asyncio.start_server(network.forward, "127.0.0.1", 0))
        url = f"http://127.0.0.1:{front.sockets[0].getsockname()[1]}"
        pauses = [limit - SPREAD + 2 * SPREAD * number / clients for number in range(clients)]
        lost = sum(await asyncio.gather(*map(partial(_submit_twice, url), pauses)))
        await asyncio.sleep(3 * DELAY)  # until every connection has ended
    return 2 * clients, server.arrived, lost


async def _submit_twice(url: str, pause: float) -> int:
    """Submit, wait for `pause` seconds, and submit again; return how many replies were lost."""
    async with PooledTransport() as transport:
        vtrix = Vtrix(transport, base_url=url, key="a-key-of-this-measurement")
        lost = 0
        for wait in (0.0, pause):
            await asyncio.sleep(wait)
            try:
                await vtrix.create(ProviderRequest(model="viduq2_pro_reference", params={}, payload="token"))
            except ReplyLost:
                lost += 1
            except NotSent:
                continue
        return lost


def main() -> None:
    """Print a line for each release and each limit of a server."""
    head = ("idle connections serve a POST for", "server closes after", "sent", "arrived", "lost")
    sys.stdout.write("".join(f"{name:<{WIDTH}}" for name in head).rstrip() + "\n")
    for seconds in (BEFORE, None):
        for limit in SERVER_LIMITS:
            with idle_seconds(seconds):
                row = (
                    f"{connection_pool.POST_IDLE_SECONDS:g} s",
                    f"{limit:g} s",
                    *asyncio.run(lost_submissions(limit)),
                )
            sys.stdout.write("".join(f"{value!s:<{WIDTH}}" for value in row).rstrip() + "\n")


if __name__ == "__main__":
    main()
