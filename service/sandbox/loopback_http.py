"""Minimal HTTP/1.1 client with kept-alive connections: thousands of callbacks on loopback must cost little."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias
from urllib.parse import urlsplit

_HTTP_PORT = 80
_WITHOUT_BODY = frozenset({204, 304})
_MAX_BODY_BYTES = 65_536
_STATUS = re.compile(rb"http/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n")

Endpoint: TypeAlias = tuple[str, int]
Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LoopbackHttp:
    """Keep connections to each host and port alive, and use them again."""

    def __init__(self) -> None:
        self._idle: dict[Endpoint, list[Streams]] = {}

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
        """Post to an `http://` address; see `send`."""
        return await self.send("POST", url, body=body, headers=headers, seconds=seconds)

    async def send(self, method: str, url: str, *, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
        """Send a request to an `http://` address and return the response's status.

        Raise `OSError` if no response comes within the seconds, or if the response is not HTTP.
        """
        endpoint, content = _encode_request(method, url, body, headers)
        try:
            async with asyncio.timeout(seconds):
                if idle := self._idle.get(endpoint):
                    # the receiver may have closed an idle connection: repeat the request on a new one
                    with suppress(ConnectionError, EOFError):
                        return await self._exchange(endpoint, idle.pop(), content)
                return await self._exchange(endpoint, await asyncio.open_connection(*endpoint), content)
        except (EOFError, ValueError, asyncio.LimitOverrunError) as error:
            raise ConnectionError("the response is not HTTP") from error

    async def close(self) -> None:
        """Close every idle connection."""
        for _, writer in (streams for idle in self._idle.values() for streams in idle):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()

    async def _exchange(self, endpoint: Endpoint, streams: Streams, content: bytes) -> int:
        reader, writer = streams
        reusable = False
        try:
            writer.write(content)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            status, length = _read_head(head)
            if content.startswith(b"HEAD "):
                length = 0
            if length is not None and length <= _MAX_BODY_BYTES:
                await reader.readexactly(length)
                reusable = b"\r\nconnection: close" not in head
        finally:
            if reusable:
                self._idle.setdefault(endpoint, []).append(streams)
            else:
                writer.close()
        return status


def _encode_request(method: str, url: str, body: bytes, headers: Mapping[str, str]) -> tuple[Endpoint, bytes]:
    """Return the endpoint and the bytes of the request; raise `ConnectionError` for an invalid address."""
    try:
        parts = urlsplit(url)
        endpoint = (parts.hostname or "", parts.port or _HTTP_PORT)
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        host = parts.netloc.rpartition("@")[2]
        lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")
    except ValueError as error:
        raise ConnectionError("not a valid address") from error
    if re.search(r"\s", target):
        raise ConnectionError("not a valid address")
    return endpoint, head + body


def _read_head(head: bytes) -> tuple[int, int | None]:
    """Return the status in a lower-case head, and the body's length; None if only the connection's end shows it."""
    status_line = _STATUS.match(head)
    if status_line is None:
        raise ValueError("no status line")
    status = int(status_line[1])
    if status in _WITHOUT_BODY:
        return status, 0
    length = _LENGTH.search(head)
    return status, int(length[1]) if length else None
