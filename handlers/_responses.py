"""Opens the address of a result: redirects, status codes, and bodies that are compressed or only claim to be."""

import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus

import httpx

from service import Reject, Retry, Tools

from ._file_types import HEAD, file_type_of

MAX_REDIRECTS = 10

DELAYS = (1, 3, 10, 30, 120, 600, 1800, 7200, 21_600, 57_600)
"""Seconds between attempts for a file that does not exist yet."""

COMPLETE = frozenset({HTTPStatus.OK, HTTPStatus.NON_AUTHORITATIVE_INFORMATION})
NOT_YET = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.TOO_EARLY})
BUSY = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})
MAX_NOT_FOUND = 3
"""Up to this attempt "not found" is taken for "not yet"; later ones fetch a fresh URL."""

GZIP = b"\x1f\x8b\x08"
GZIP_BITS = 16 + zlib.MAX_WBITS
NOT_UNPACKED = ("br", "zstd", "compress")


class UrlExpired(Exception):
    """A URL no longer serves its file; a fresh one may."""


def not_yet(reason: str, tools: Tools) -> Retry:
    """Return the error for a file that does not exist yet: the delay grows with each attempt."""
    return Retry(reason, after=DELAYS[min(tools.attempt, len(DELAYS)) - 1])


def failure_of(failures: Mapping[int, Exception], *, count: int) -> Exception:
    """Return the error of an attempt after which the results at some positions, of `count` outputs, are not stored.

    That of a task's only output is returned as it is. Of several, an error that a later attempt can remedy decides
    before a Reject; the text names each output that failed, and the type shows who is responsible.
    """
    errors = [*failures.values()]
    if count == 1:
        return errors[0]
    text = "; ".join(f"output {position + 1} of {count}: {_text(error)}" for position, error in failures.items())
    remediable = [error for error in errors if not isinstance(error, Reject)]
    if not remediable:
        return Reject(text)
    delays = [error.after for error in remediable if isinstance(error, Retry) and error.after is not None]
    if all(isinstance(error, Retry) for error in remediable):
        return Retry(text, after=min(delays) if len(delays) == len(remediable) else None)
    error = next(error for error in remediable if not isinstance(error, Retry))
    if isinstance(error, OSError):
        return type(error)(text)
    error.args = (text,)
    return error


def _text(error: Exception) -> str:
    if isinstance(error, Reject | Retry):
        return str(error)
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


@asynccontextmanager
async def open_result(url: str, tools: Tools) -> AsyncIterator[httpx.Response]:
    """Open `url`, following at most MAX_REDIRECTS redirects; the egress guard checks each of them."""
    target = _web_url(url)
    for _ in range(MAX_REDIRECTS + 1):
        async with tools.http.stream(
            "GET", target, headers={"accept-encoding": "identity"}, timeout=30, follow_redirects=False
        ) as response:
            if not response.has_redirect_location:
                _raise_for_status(response.status_code, tools)
                yield response
                return
            target = _web_url(str(target.join(response.headers["location"])))
    raise Retry(f"the address redirects more than {MAX_REDIRECTS} times")


def _web_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL as error:
        raise Reject("the result's address cannot be read") from error
    if url.scheme not in {"http", "https"} or not url.host:
        raise Reject("the result's address is not http or https")
    return url


def _raise_for_status(status: int, tools: Tools) -> None:
    reason = f"the result's address answered {status}"
    if status in COMPLETE:
        return
    if status in NOT_YET and tools.attempt <= MAX_NOT_FOUND:
        raise not_yet(reason, tools)
    if status in BUSY or not 400 <= status < 500:  # noqa: PLR2004 - the client errors of HTTP
        raise Retry(reason)
    raise UrlExpired(reason)


# ── bodies ───────────────────────────────────────────────────────────────────


async def body_parts(response: httpx.Response, size: int) -> AsyncIterator[bytes]:
    """Yield the file that the body holds, in parts of at most `size` bytes.

    Storage services keep whatever `Content-Encoding` a file was uploaded with (`UTF-8`, `aws-chunked`), so the first
    bytes decide: those of a video or image are the file itself, and what is compressed is decompressed. Raises Retry
    for a body that ends too early, is damaged or is compressed in another way.
    """
    declared = response.headers.get("content-length", "")
    encoding = response.headers.pop("content-encoding", "").lower()  # httpx would decode by it, or fail
    chunks, head = response.aiter_bytes(size), b""
    async for chunk in chunks:
        head += chunk
        if len(head) >= HEAD:
            break
    unpacker, received = _unpacker(head, encoding), len(head)
    for part in unpacker.parts(head, size):
        yield part
    async for chunk in chunks:
        received += len(chunk)
        for part in unpacker.parts(chunk, size):
            yield part
    if declared.isascii() and declared.isdigit() and int(declared) != received:
        raise Retry(f"the result was cut off after {received} of {declared} bytes")
    if not unpacker.complete:
        raise Retry("the compressed result was cut off")


def _unpacker(head: bytes, encoding: str) -> "Unpacker":
    """Return what turns a body into its file, by the first bytes of the body and its Content-Encoding."""
    if file_type_of(head):
        return Unpacker()
    if head.startswith(GZIP):
        return Unpacker(GZIP_BITS)
    if "deflate" in encoding:
        return Unpacker(zlib.MAX_WBITS if int.from_bytes(head[:2], "big") % 31 == 0 else -zlib.MAX_WBITS)
    if unknown := next((name for name in NOT_UNPACKED if name in encoding), None):
        raise Retry(f"the result is compressed with {unknown}, though the request excluded it")
    return Unpacker()


class Unpacker:
    """Decompresses gzip, also several members in a row, or deflate; without `bits` of zlib all stays as it is."""

    def __init__(self, bits: int | None = None) -> None:
        self._bits = bits
        self._stream = None if bits is None else zlib.decompressobj(bits)

    @property
    def complete(self) -> bool:
        """Whether compressed data have reached their end."""
        return self._stream is None or self._stream.eof

    def parts(self, data: bytes, size: int) -> Iterator[bytes]:
        """Yield what `data` adds to the file, at most `size` bytes at a time; bytes after the end are left out."""
        if self._bits is None or self._stream is None:
            yield data
            return
        more = True
        while more:
            if self._stream.eof:
                if not data.startswith(GZIP):
                    return
                self._stream = zlib.decompressobj(self._bits)
            try:
                part = self._stream.decompress(data, size)
            except zlib.error as error:
                raise Retry("the compressed result is damaged") from error
            data = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            more = bool(data) or len(part) == size  # zlib may hold back output after it has taken all input
            yield part
