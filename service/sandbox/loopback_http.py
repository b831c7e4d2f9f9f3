"""Post over plain HTTP/1.1 with kept connections: callbacks on loopback come in thousands, and must cost little."""

import asyncio
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import TypeAlias
from urllib.parse import SplitResult, urlsplit

_PLAIN_PORT = 80
_WITHOUT_BODY = frozenset({204, 304})
_LONGEST_ANSWER = 65_536
_STATUS = re.compile(rb"http/1\.[01] (\d{3})")
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+) *\r\n")

Endpoint: TypeAlias = tuple[str, int]
Streams: TypeAlias = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LoopbackHttp:
    """Keep connections to each host and port, and use them again."""

    def __init__(self) -> None:
        self._idle: dict[Endpoint, list[Streams]] = {}

    async def post(self, url: str, *, body: bytes, headers: Mapping[str, str], seconds: float) -> int:
        """Post to an `http://` address and return the answer's status.

        Raise `OSError` when no answer came within the seconds, or what came was no HTTP.
        """
        endpoint, content = _request(url, body, headers)
        try:
            async with asyncio.timeout(seconds):
                return await self._posted(endpoint, content)
        except (EOFError, ValueError, asyncio.LimitOverrunError) as fault:
            raise ConnectionError("the answer was no HTTP") from fault

    async def close(self) -> None:
        """Close every kept connection."""
        for _, writer in (streams for kept in self._idle.values() for streams in kept):
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
        self._idle.clear()

    async def _posted(self, endpoint: Endpoint, content: bytes) -> int:
        kept = self._idle.get(endpoint)
        if kept:
            # a receiver may have closed a kept connection: what it never answered is sent again on a new one
            with suppress(ConnectionError, EOFError):
                return await self._exchange(endpoint, kept.pop(), content)
        return await self._exchange(endpoint, await asyncio.open_connection(*endpoint), content)

    async def _exchange(self, endpoint: Endpoint, streams: Streams, content: bytes) -> int:
        reader, writer = streams
        keep = False
        try:
            writer.write(content)
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            status, length = _read_head(head)
            if length is not None and length <= _LONGEST_ANSWER:
                await reader.readexactly(length)
                keep = b"\r\nconnection: close" not in head
        finally:
            if keep:
                self._idle.setdefault(endpoint, []).append(streams)
            else:
                writer.close()
        return status


def _request(url: str, body: bytes, headers: Mapping[str, str]) -> tuple[Endpoint, bytes]:
    try:
        parts = urlsplit(url)
        endpoint = (parts.hostname or "", parts.port or _PLAIN_PORT)
        head = _head(parts, headers, len(body)).encode("ascii")
    except ValueError as fault:
        raise ConnectionError("no address that can be dialled") from fault
    return endpoint, head + body


def _head(parts: SplitResult, headers: Mapping[str, str], length: int) -> str:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if re.search(r"\s", target):
        raise ValueError("white space in an address")
    host = parts.netloc.rpartition("@")[2]
    lines = [f"POST {target} HTTP/1.1", f"Host: {host}", f"Content-Length: {length}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines) + "\r\n\r\n"


def _read_head(head: bytes) -> tuple[int, int | None]:
    """Return the status in a lower-case head, and the body's length; None when only the connection's end tells it."""
    started = _STATUS.match(head)
    if started is None:
        raise ValueError("no status line")
    status = int(started[1])
    found = _LENGTH.search(head)
    if status in _WITHOUT_BODY:
        return status, 0
    return status, int(found[1]) if found else None
