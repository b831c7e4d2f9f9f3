"""A real forward proxy on loopback: CONNECT and absolute addresses, with a record of what passed and with faults."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(kw_only=True)
class ForwardProxy:
    """Connects every host to the port of `routes` for its `host:port`, or to `default`, on loopback.

    `answer` replaces the answer to CONNECT; one that is not a success makes no tunnel. `forward_answer` is sent instead
    of forwarding. With `hangs` nothing is answered; with `dies` the connection is closed after the request was read,
    with `cuts` after the answer to CONNECT. With `refuses_tls` it answers 400 to the first byte.
    With `authorization` every request needs this value of Proxy-Authorization.
    """

    default: int = 0
    routes: Mapping[str, int] = field(default_factory=dict)
    answer: bytes = ESTABLISHED
    forward_answer: bytes | None = None
    hangs: bool = False
    dies: bool = False
    cuts: bool = False
    refuses_tls: bool = False
    authorization: str | None = None
    port: int = 0
    scheme: str = "http"
    requests: list[str] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    _context: ssl.SSLContext | None = field(default=None, init=False, repr=False)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set, repr=False)

    @property
    def url(self) -> str:
        """The address of this proxy."""
        return f"{self.scheme}://{HOST}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until it ends."""
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if self._context:
                await writer.start_tls(self._context)
            while await self._one(reader, writer):
                pass
        writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if self.refuses_tls:
            await reader.read(1)
            writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return False
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, target, _ = head.split("\r\n")[0].split(" ")
        self.requests.append(f"{method} {target}")
        self.heads.append(head)
        self.reached.set()
        if self.hangs:
            await asyncio.Event().wait()
        if self.authorization and f"proxy-authorization: {self.authorization}".lower() not in head.lower():
            writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n")
            writer.write(b"Content-Length: 0\r\nConnection: close\r\n\r\n")
            await writer.drain()
            return False
        if method == "CONNECT":
            return await self._tunnel(target, reader, writer)
        return await self._forward(method, target, head, reader, writer)

    async def _tunnel(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        if self.dies:
            return False
        if b" 200 " not in self.answer or self.cuts:
            writer.write(self.answer)
            await writer.drain()
            return False
        try:
            there = await asyncio.open_connection(HOST, self.routes.get(target, self.default))
        except OSError:
            writer.write(b"HTTP/1.1 502 Bad Gateway\r\n\r\n")
            await writer.drain()
            return False
        writer.write(self.answer)
        await _both_ways(reader, writer, *there)
        return False

    async def _forward(
        self, method: str, target: str, head: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        body = await reader.readexactly(_length(head))
        if self.dies:
            return False
        if self.forward_answer is not None:
            writer.write(self.forward_answer)
            await writer.drain()
            return False
        place, _, path = target.removeprefix("http://").partition("/")
        place = place if ":" in place.rpartition("]")[2] else f"{place}:80"
        there_reader, there_writer = await asyncio.open_connection(HOST, self.routes.get(place, self.default))
        lines = [line for line in head.split("\r\n")[1:] if not line.lower().startswith("proxy-")]
        there_writer.write("\r\n".join([f"{method} /{path} HTTP/1.1", *lines]).encode() + body)
        answer = await there_reader.readuntil(b"\r\n\r\n")
        writer.write(answer + await there_reader.readexactly(_length(answer.decode())))
        await writer.drain()
        there_writer.transport.abort()
        return True

    def close(self) -> None:
        """End every connection."""
        for task in self._tasks:
            task.cancel()


async def _both_ways(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    there_reader: asyncio.StreamReader,
    there_writer: asyncio.StreamWriter,
) -> None:
    directions = [asyncio.create_task(_copy(reader, there_writer)), asyncio.create_task(_copy(there_reader, writer))]
    try:
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
    finally:
        there_writer.transport.abort()
        for each in directions:
            each.cancel()
        await asyncio.gather(*directions, return_exceptions=True)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def _length(head: str) -> int:
    lines = [line.partition(":") for line in head.split("\r\n")]
    return next((int(value) for name, _, value in lines if name.lower() == "content-length"), 0)


@asynccontextmanager
async def forward_proxy(proxy: ForwardProxy, context: ssl.SSLContext | None = None) -> AsyncIterator[ForwardProxy]:
    """Run `proxy` on a free port inside the block, over TLS if `context` is given."""
    proxy._context = context  # TLS begins in the task of a connection: `close` then ends handshakes, too
    server = await asyncio.start_server(proxy.serve, HOST, 0)
    proxy.port, proxy.scheme = server.sockets[0].getsockname()[1], "https" if context else "http"
    try:
        yield proxy
    finally:
        server.close()
        await asyncio.sleep(0)  # the tasks of the last connections begin
        proxy.close()
        await asyncio.gather(*proxy._tasks, return_exceptions=True)


@asynccontextmanager
async def tls_terminator(port: int, context: ssl.SSLContext) -> AsyncIterator[int]:
    """Accept TLS inside the block, forward what is inside to `port` on loopback, and yield the port."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            await writer.start_tls(context)
            await _both_ways(reader, writer, *await asyncio.open_connection(HOST, port))
        writer.transport.abort()

    server = await asyncio.start_server(serve, HOST, 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        await asyncio.sleep(0)
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
