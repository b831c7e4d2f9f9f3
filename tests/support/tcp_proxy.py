"""A TCP proxy between the service and its database: it can forward nothing, cut connections and lead elsewhere."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from sqlalchemy import make_url

HOST = "127.0.0.1"


@dataclass(kw_only=True)
class TcpProxy:
    """Forwards connections to `target`, a port on loopback, from `port`."""

    target: int
    port: int = 0
    accepted: int = 0
    _flowing: asyncio.Event = field(default_factory=asyncio.Event, repr=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, repr=False)

    def __post_init__(self) -> None:
        self._flowing.set()

    def address(self, url: str) -> str:
        """Return the database address `url` with the proxy as its server."""
        return make_url(url).set(port=self.port).render_as_string(hide_password=False)

    def freeze(self) -> None:
        """Forward nothing any more, on old connections and new ones, without closing them."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Forward again, also what was held back."""
        self._flowing.set()

    def abandon(self) -> None:
        """Forward nothing on the connections of now, for ever and without closing them; new ones are forwarded."""
        self._flowing.clear()
        self._flowing = asyncio.Event()
        self._flowing.set()

    def switch(self, url: str, *, cut: bool = True) -> None:
        """Lead new connections to the server of the database address `url`; with `cut`, close those of now."""
        self.target = make_url(url).port or 5432
        if cut:
            self.cut()

    def cut(self) -> None:
        """Close every connection."""
        for task in self._tasks:
            task.cancel()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one connection until it ends."""
        self.accepted += 1
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is served by a task")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        writers, flowing = [writer], self._flowing
        with suppress(OSError, asyncio.CancelledError):
            await flowing.wait()
            server_reader, server_writer = await asyncio.open_connection(HOST, self.target)
            writers.append(server_writer)
            directions = [_forward(reader, server_writer, flowing), _forward(server_reader, writer, flowing)]
            tasks = [asyncio.create_task(each) for each in directions]
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for each in tasks:
                    each.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
        for one in writers:
            one.transport.abort()


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flowing: asyncio.Event) -> None:
    while data := await reader.read(65536):
        await flowing.wait()
        writer.write(data)
        await writer.drain()


@asynccontextmanager
async def tcp_proxy(target_url: str) -> AsyncIterator[TcpProxy]:
    """Yield a proxy before the server of the database address `target_url`; its connections end with the block."""
    proxy = TcpProxy(target=make_url(target_url).port or 5432)
    server = await asyncio.start_server(proxy.serve, HOST, 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        proxy.cut()
        server.close()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)
