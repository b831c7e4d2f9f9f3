"""An HTTP proxy that stops a process whenever no request is open, as platforms do that scale to zero."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

HEAD_END = b"\r\n\r\n"


@dataclass(kw_only=True)
class FreezingProxy:
    """Forwards each request on its own connection to `target_port`, and stops `pid` between the requests.

    A request is open from its first byte until its response is complete or its client has gone. `awake` is how long the
    process ran in seconds, `stops` how often it was stopped, `requests` how many requests there were,
    `abandoned` how many clients went away before the response.
    """

    target_port: int
    port: int = 0
    pid: int | None = None
    awake: float = 0.0
    stops: int = 0
    requests: int = 0
    abandoned: int = 0
    _open: int = 0
    _since: float = 0.0

    @property
    def stopped(self) -> bool:
        """Return whether the process is stopped."""
        return self.pid is not None and not self._open

    def freeze(self, pid: int) -> None:
        """Stop the process from now on while no request is open."""
        self.pid = pid
        self._since = time.monotonic()
        if not self._open:
            self._stop()

    def release(self) -> None:
        """Let the process run."""
        pid, self.pid = self.pid, None
        if pid is not None:
            if self._open:
                self.awake += time.monotonic() - self._since
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def _stop(self) -> None:
        if self.pid is not None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGSTOP)
            self.stops += 1
            self.awake += time.monotonic() - self._since

    def _begin(self) -> None:
        self._open += 1
        self.requests += 1
        if self._open == 1 and self.pid is not None:
            self._since = time.monotonic()
            with suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGCONT)

    def _end(self) -> None:
        self._open -= 1
        if not self._open:
            self._stop()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward one request; the connection to the client ends with it."""
        try:
            request = await _request(reader)
        except (asyncio.IncompleteReadError, ConnectionError, ValueError):
            writer.close()
            return
        self._begin()
        try:
            await self._forward(request, reader, writer)
        except OSError:
            pass
        finally:
            self._end()
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _forward(self, request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from_service, to_service = await asyncio.open_connection("127.0.0.1", self.target_port)
        try:
            to_service.write(request)
            response = asyncio.ensure_future(from_service.read(-1))  # the service closes after its response
            gone = asyncio.ensure_future(reader.read(1))
            await asyncio.wait({response, gone}, return_when=asyncio.FIRST_COMPLETED)
            if response.done():
                gone.cancel()
                writer.write(response.result())
                await writer.drain()
            else:
                response.cancel()
                self.abandoned += 1
        finally:
            to_service.close()


async def _request(reader: asyncio.StreamReader) -> bytes:
    """Return one request whose response ends its connection."""
    head = await reader.readuntil(HEAD_END)
    lines = head.removesuffix(HEAD_END).split(b"\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    body = await reader.readexactly(int(headers.get(b"content-length", b"0")))
    kept = [line for line in lines if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*kept, b"Connection: close"]) + HEAD_END + body


@asynccontextmanager
async def freezing_proxy(target_port: int, port: int) -> AsyncIterator[FreezingProxy]:
    """Run a proxy on `port` inside the block; at its end the process runs again."""
    proxy = FreezingProxy(target_port=target_port, port=port)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        proxy.release()
        server.close()
