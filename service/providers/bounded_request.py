"""One HTTP request to a provider, with limits on time and response size."""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from io import BytesIO

import httpx

from service.domain.task import Json

KIB = 1024
MIB = 1024 * KIB
CHUNK = 64 * KIB
CONNECT_SECONDS = 10.0
MAX_RETRY_AFTER = timedelta(hours=1)


class TooLarge(httpx.StreamError):
    """The response exceeds the size limit."""


class UnsupportedEncoding(httpx.StreamError):
    """The response has a content encoding that the client neither requests nor reads."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Limits of one request: seconds per read or write, seconds in total, bytes of the response."""

    read: float
    total: float
    max_bytes: int = 4 * MIB


CREATE_TIMEOUTS = Timeouts(read=120, total=180, max_bytes=32 * MIB)  # sends up to 20 MB, which the reply may echo
QUERY_TIMEOUTS = Timeouts(read=20, total=20)
LIST_TIMEOUTS = Timeouts(read=20, total=30, max_bytes=16 * MIB)


@dataclass(frozen=True, kw_only=True)
class HttpResponse:
    """A complete response: status, headers and raw body."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)


@dataclass(kw_only=True, slots=True)
class HttpExchange:
    """Sends requests to `base_url` and removes the API key from the responses.

    `scheme` precedes the key in the header `Authorization`. The caller closes `client`.
    """

    client: httpx.AsyncClient
    base_url: str
    scheme: str
    key: str = field(repr=False)

    async def send(
        self,
        method: str,
        path: str,
        timeouts: Timeouts,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
    ) -> HttpResponse:
        """Send one request and return the complete response.

        Raises httpx.HTTPError, httpx.StreamError, OSError, EOFError or zlib.error if there is no complete response.
        """
        content, headers = (None, {}) if body is None else _encode_body(body)
        headers |= {"Authorization": f"{self.scheme} {self.key}", "Accept-Encoding": "identity"}
        request = self.client.build_request(
            method,
            self.base_url + path,
            params=query,
            content=content,
            headers=headers,
            timeout=httpx.Timeout(timeouts.read, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
        )
        async with asyncio.timeout(timeouts.total):
            response = await self.client.send(request, stream=True, follow_redirects=False)
            try:
                received = await _read_limited(response, timeouts.max_bytes)
            finally:
                await response.aclose()
        redacted = received.replace(self.key.encode(), b"[key]")  # a provider may quote the request
        return HttpResponse(status=response.status_code, headers=response.headers, body=redacted)


def retry_after(headers: Mapping[str, str]) -> timedelta | None:
    """Return the pause in `Retry-After`, in seconds or as a date, from 0 to 1 hour; None without a valid one.

    A date is compared with the response's own `Date`, so that the local clock need not agree with the provider's.
    """
    value = headers.get("Retry-After", "").strip()
    if value.isascii() and value.isdigit():
        return min(timedelta(seconds=int(value[:9])), MAX_RETRY_AFTER)
    try:
        pause = parsedate_to_datetime(value) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):  # no date at all, or only one of the two with a time zone
        return None
    return min(max(pause, timedelta()), MAX_RETRY_AFTER)


def _encode_body(body: Json) -> tuple[AsyncIterator[bytes], dict[str, str]]:
    """Return `body` as a stream that holds the only reference to its bytes, and the headers that describe it."""
    buffer = BytesIO()
    for chunk in json.JSONEncoder(allow_nan=False, separators=(",", ":")).iterencode(body):
        buffer.write(chunk.encode("ascii"))
    headers = {"Content-Type": "application/json", "Content-Length": str(buffer.tell())}
    return _chunks(buffer), headers


async def _chunks(buffer: BytesIO) -> AsyncIterator[bytes]:
    buffer.seek(0)
    while chunk := buffer.read(CHUNK):
        yield chunk


async def _read_limited(response: httpx.Response, limit: int) -> bytes:
    """Return the decompressed body; raises TooLarge above `limit` bytes and UnsupportedEncoding.

    httpx would decompress a compression bomb completely before its size is known. Some servers send gzip although the
    request asks for an uncompressed body.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in {"", "identity", "gzip", "x-gzip"}:
        raise UnsupportedEncoding(f"the response has the unsupported content encoding {encoding[:40]!r}")
    gzip = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16) if encoding.endswith("gzip") else None
    content = bytearray()
    buffered = response.is_stream_consumed  # a transport without a network returns the body with the response
    async for chunk in response.aiter_bytes() if buffered else response.aiter_raw():
        content += gzip.decompress(chunk, limit + 1) if gzip else chunk
        if len(content) > limit:
            raise TooLarge(f"the response is longer than {limit} bytes")
    return bytes(content)
