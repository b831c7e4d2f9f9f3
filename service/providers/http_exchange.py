"""One HTTP request to a provider, within limits of time and size."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO

import httpx

from service.domain.task import Json

KIB = 1024
MIB = 1024 * KIB
CHUNK = 64 * KIB

MAX_RETRY_AFTER = timedelta(hours=1)

CONNECT_SECONDS = 10.0


class TooLarge(httpx.StreamError):
    """An answer is longer than what is read of it."""


class UnsupportedEncoding(httpx.StreamError):
    """An answer is packed in a way that we neither asked for nor read."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long and how much: seconds for one read or write, seconds in all, bytes of the answer."""

    read: float
    total: float
    max_bytes: int = 4 * MIB


CREATE_TIMEOUTS = Timeouts(read=120, total=180, max_bytes=32 * MIB)  # up to 20 MB out, and the inputs may come back
QUERY_TIMEOUTS = Timeouts(read=20, total=20)
LIST_TIMEOUTS = Timeouts(read=20, total=30, max_bytes=16 * MIB)


@dataclass(frozen=True, kw_only=True)
class HttpResponse:
    """A whole answer: what HTTP says, and the body as it came."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @property
    def is_success(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.status < 300  # noqa: PLR2004 - HTTP's own class of statuses


class HttpExchange:
    """One provider's address and key. Sends a request and returns the whole answer, without the key."""

    def __init__(self, client: httpx.AsyncClient, *, base_url: str, scheme: str, key: str) -> None:
        self._client = client
        self._base = base_url
        self._scheme = scheme
        self._key = key

    async def send(
        self,
        method: str,
        path: str,
        timeouts: Timeouts,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
    ) -> HttpResponse:
        """Send one request; raises an error of TRANSPORT when no whole answer comes."""
        request = self._request(method, path, timeouts, query, body)
        async with asyncio.timeout(timeouts.total):
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                content = await _read_limited(response, timeouts.max_bytes)
            finally:
                await response.aclose()
        redacted = content.replace(self._key.encode(), b"[key]")  # an upstream may quote what it was sent
        return HttpResponse(status=response.status_code, headers=response.headers, body=redacted)

    def _request(
        self, method: str, path: str, timeouts: Timeouts, query: Mapping[str, str | int] | None, body: Json | None
    ) -> httpx.Request:
        content, headers = (None, {}) if body is None else _encode_body(body)
        headers |= {"Authorization": f"{self._scheme} {self._key}", "Accept-Encoding": "identity"}
        return self._client.build_request(
            method,
            self._base + path,
            params=query,
            content=content,
            headers=headers,
            timeout=httpx.Timeout(timeouts.read, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
        )


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return the pause that `Retry-After` asks for, in seconds or as a date, from 0 to 1 hour; None without one.

    A date is measured against the answer's own `Date`, so that no clock of ours has to agree with the provider's.
    """
    written = headers.get("Retry-After", "").strip()
    if written.isascii() and written.isdigit():
        return min(timedelta(seconds=int(written[:9])), MAX_RETRY_AFTER)
    try:
        pause = parsedate_to_datetime(written) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):  # no date at all, or only one of the two with a time zone
        return None
    return min(max(pause, timedelta()), MAX_RETRY_AFTER)


def _encode_body(body: Json) -> tuple[AsyncIterator[bytes], dict[str, str]]:
    """Return `body` as a stream that owns the only reference to its bytes, and the headers that describe it."""
    buffer = BytesIO()
    for chunk in json.JSONEncoder(allow_nan=False, separators=(",", ":")).iterencode(body):
        buffer.write(chunk.encode("ascii"))
    headers = {"Content-Type": "application/json", "Content-Length": str(buffer.tell())}
    return _chunks(buffer), headers


async def _chunks(buffer: BytesIO) -> AsyncIterator[bytes]:
    buffer.seek(0)
    while piece := buffer.read(CHUNK):
        yield piece


async def _read_limited(response: httpx.Response, limit: int) -> bytes:
    """Read an answer of at most `limit` bytes, unpacked: httpx would unpack a bomb as a whole before we could count."""
    content, unpack = bytearray(), _decompressor(response)
    whole = response.is_stream_consumed  # a transport without a wire gives it so
    async for chunk in response.aiter_bytes() if whole else response.aiter_raw():
        content += unpack(chunk, limit + 1)
        if len(content) > limit:
            raise TooLarge(f"the answer is longer than {limit} bytes")
    return bytes(content)


def _decompressor(response: httpx.Response) -> Callable[[bytes, int], bytes]:
    """Return what makes plain bytes, at most so many, of a piece; some answer gzip though we ask for plain."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in {"", "identity"}:
        return lambda chunk, _most: chunk
    if coding not in {"gzip", "x-gzip"}:
        raise UnsupportedEncoding(f"the answer is packed as {coding[:40]!r}, though it was asked for as it is")
    packed = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    return packed.decompress
