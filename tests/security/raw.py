"""Raw bytes on a socket, for requests that no HTTP library sends."""

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import SocketStream

HOST = "127.0.0.1"


async def exchange(port: int, *pieces: bytes, seconds: float = 5.0, half_close: bool = False) -> bytes:
    """Send `pieces` in order; return the received bytes until the end of the connection or for `seconds`."""
    async with await anyio.connect_tcp(HOST, port) as stream:
        try:
            for piece in pieces:
                await stream.send(piece)
            if half_close:
                await stream.send_eof()
        except (anyio.BrokenResourceError, OSError):
            pass  # the service closed the connection during the request; its response may still be readable
        return await listen_to(stream, seconds)


async def listen_to(stream: SocketStream, seconds: float) -> bytes:
    """Return the received bytes until the end of the connection or for `seconds`."""
    received = b""
    with anyio.move_on_after(seconds):
        try:
            while True:
                received += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
    return received


def statuses(received: bytes) -> list[int]:
    """Return the status of each response in `received`."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 ([0-9]{3}) ", received)]


def request(method: str, path: str, *headers: str, body: bytes = b"", host: str = HOST) -> bytes:
    """Return a request with these header lines, unchanged."""
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", *headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def talking(talk: Talk, host: str = HOST, port: int = 0) -> AsyncIterator[int]:
    """Run a server inside the block that calls `talk` for each connection; yield its port."""

    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):  # the block may end before it
            await talk(reader, writer)
        writer.transport.abort()

    server = await asyncio.start_server(reply, host, port)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
