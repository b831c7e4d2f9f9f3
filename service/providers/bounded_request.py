"""One HTTP request to a provider, with limits on time and response size."""

import json
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from functools import lru_cache

import httpx

from service.concurrency.late_timeout import timeout_after
from service.domain.media.limits import InlineMedia
from service.domain.task import Json

KIB = 1024
MIB = 1024 * KIB
CHUNK = 64 * KIB
"""Bytes of a response that are decompressed at once."""

SENT_AT_ONCE = 512 * KIB
"""Bytes of a request that are given to the connection at once: each part costs a turn of the event loop."""

CONNECT_SECONDS = 10.0
CONNECT_TIMEOUTS = httpx.Timeout(None, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS).as_dict()
USER_AGENT = f"python-httpx/{httpx.__version__}"
MAX_RETRY_AFTER = timedelta(hours=1)


class TooLarge(httpx.StreamError):
    """The response exceeds the size limit."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """Limits of one request: seconds in total, bytes of the response after decompression.

    There is no limit for a single read: in a process that continues after a stop it would fire before the answer that
    came meanwhile is read (see `timeout_after`).
    """

    total: float
    max_bytes: int = 16 * MIB


CREATE_TIMEOUTS = Timeouts(total=180, max_bytes=32 * MIB)  # sends up to 20 MB, which the reply may echo
QUERY_TIMEOUTS = Timeouts(total=20)
LIST_TIMEOUTS = Timeouts(total=30)

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.StreamError, OSError, EOFError, zlib.error)
"""Every transport error. OSError includes TimeoutError and the errors of TLS."""

_ENCODER = json.JSONEncoder(allow_nan=False, separators=(",", ":"))

COMPRESSED = (b"\x1f\x8b", b"x")
"""First bytes of gzip and of zlib data; no JSON begins with them."""

MAX_LAYERS = 2
"""How often a response may be compressed."""


@dataclass(frozen=True, kw_only=True)
class HttpResponse:
    """A response: status, headers and decompressed body; after `error` the body is what had arrived before it."""

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    error: Exception | None = None


@dataclass(kw_only=True, slots=True)
class HttpExchange:
    """Sends requests to `base_url`. `scheme` precedes the key in the header `Authorization`.

    Requests go to `transport` without the client of httpx, whose cookies, redirects and hooks no provider needs: they
    take as long as the request itself. The caller closes `transport`.
    """

    transport: httpx.AsyncBaseTransport
    base_url: str
    scheme: str
    key: str = field(repr=False)
    _headers: dict[str, str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._headers = {
            "Host": httpx.URL(self.base_url).netloc.decode("ascii"),
            "Accept": "*/*",
            "Accept-Encoding": "identity",
            "Connection": "keep-alive",
            "User-Agent": USER_AGENT,
            "Authorization": f"{self.scheme} {self.key}",
        }

    async def send(
        self,
        method: str,
        path: str,
        timeouts: Timeouts,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
    ) -> HttpResponse:
        """Send one request and return the response, which is incomplete if it has an error.

        Raises one of TRANSPORT_ERRORS if not even its status arrived.
        """
        request = self._request(method, path, query, body)
        received, response, failure = bytearray(), None, None
        try:
            async with timeout_after(timeouts.total):
                response = await self.transport.handle_async_request(request)
                try:
                    await _receive(response, received, timeouts.max_bytes)
                finally:
                    await response.aclose()
        except TRANSPORT_ERRORS as error:
            if response is None:
                raise
            failure = error
        try:
            decoded = _decompress(bytes(received), timeouts.max_bytes)
        except TooLarge as error:
            decoded, failure = b"", error
        return HttpResponse(status=response.status_code, headers=response.headers, body=decoded, error=failure)

    def _request(
        self, method: str, path: str, query: Mapping[str, str | int] | None, body: Json | None
    ) -> httpx.Request:
        url = _parsed(self.base_url + path)
        if query:
            url = url.copy_merge_params(query)
        if body is None:
            content: httpx.AsyncByteStream = httpx.ByteStream(b"")
            described = {}
        else:
            content = _JsonStream(body)
            described = {"Content-Type": "application/json", "Content-Length": str(content.size)}
        return httpx.Request(
            method, url, headers=self._headers | described, stream=content, extensions={"timeout": CONNECT_TIMEOUTS}
        )


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


def _json_parts(value: object) -> Iterator[bytes]:
    """Yield the parts of `value` as compact JSON; inline media need no escape."""
    if isinstance(value, InlineMedia):
        yield from (b'"data:', value.media_type.encode("ascii"), b";base64,", value.base64(), b'"')
    elif isinstance(value, dict):
        yield b"{"
        for number, (name, each) in enumerate(value.items()):
            yield from (b"," if number else b"", _ENCODER.encode(name).encode("ascii"), b":")
            yield from _json_parts(each)
        yield b"}"
    elif isinstance(value, list):
        yield b"["
        for number, each in enumerate(value):
            yield b"," if number else b""
            yield from _json_parts(each)
        yield b"]"
    else:
        yield _ENCODER.encode(value).encode("ascii")


@lru_cache(64)
def _parsed(address: str) -> httpx.URL:
    """Return the address of a request: all submissions have the same one."""
    return httpx.URL(address)


class _JsonStream(httpx.AsyncByteStream):
    """A request's body as JSON of `size` bytes, which are released when they are sent."""

    def __init__(self, body: Json) -> None:
        self._content: bytes | None = b"".join(_json_parts(body))
        self.size = len(self._content)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        content, self._content = self._content, None
        if content is None:
            raise httpx.StreamConsumed
        for start in range(0, len(content), SENT_AT_ONCE):
            yield content[start : start + SENT_AT_ONCE]


async def _receive(response: httpx.Response, received: bytearray, limit: int) -> None:
    """Append the body as it arrives to `received`; raises TooLarge above `limit` bytes.

    The header `Content-Encoding` is not used: some servers name an encoding that the body does not have.
    """
    if not isinstance(response.stream, httpx.AsyncByteStream):
        raise TypeError("an asynchronous transport returns an asynchronous body")
    async for chunk in response.stream:
        received += chunk
        if len(received) > limit:
            raise TooLarge(f"the response is longer than {limit} bytes")


def _decompress(body: bytes, limit: int) -> bytes:
    """Return the body without gzip or zlib compression; raises TooLarge if it is longer than `limit` bytes then.

    httpx would decompress a compression bomb completely before its size is known. Some servers compress although the
    request asks them not to. Of damaged data, what precedes the damage is returned.
    """
    for _ in range(MAX_LAYERS):
        if not body.startswith(COMPRESSED):
            break
        body = _inflate(body, limit) or body
    return body


def _inflate(packed: bytes, limit: int) -> bytes:
    content = bytearray()
    try:
        while packed:  # gzip data may consist of several members
            member = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)
            while chunk := member.decompress(packed, CHUNK):
                content += chunk
                packed = member.unconsumed_tail
                if len(content) > limit:
                    raise TooLarge(f"the response is longer than {limit} bytes")
            packed = member.unused_data
    except zlib.error:
        return bytes(content)
    return bytes(content)
