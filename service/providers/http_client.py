"""What the providers' adapters share: sending one request within bounds, and saying what became of it.

The one rule that costs money: a submission is sent again only when it surely never left, or when the application itself
said that it did nothing. Whatever else goes wrong with it is ReplyLost: in doubt.
"""

import asyncio
import json
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from io import BytesIO

import httpx

from service.domain.errors import (
    BadSetting,
    Conflict,
    NotSent,
    ProviderUnavailable,
    Refused,
    ReplyLost,
    UnknownTask,
    UnreadableBody,
    UpstreamError,
)
from service.domain.strict_json import parse_json
from service.domain.task import Fact, Json
from service.providers.responses import Answer, created, is_throttle, parsed, throttled, understood

ErrorReader = Callable[[object], tuple[str, str]]

KIB = 1024
MIB = 1024 * KIB
SLICE = 64 * KIB

NOT_SENT_ERRORS = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""Transport errors that are raised before the first byte of a request is written."""

TRANSPORT = (httpx.HTTPError, httpx.StreamError, OSError, EOFError, zlib.error)
"""Every transport error; OSError includes TimeoutError and what TLS raises."""

WRITTEN_BY_APPLICATION = frozenset({500, 503})
"""Statuses that an application may write itself, to say that it did nothing; gateways write them, too."""

NO_PERMISSION = frozenset({401, 403})
"""Statuses that say that our key is not good."""

CONNECT_SECONDS = 10.0


class TooLarge(httpx.StreamError):
    """An answer is longer than what is read of it."""


class Coded(httpx.StreamError):
    """An answer is packed in a way that we neither asked for nor read."""


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """How long and how much: seconds for one read or write, seconds in all, bytes of the answer."""

    read: float
    total: float
    answer: int = 4 * MIB


CREATING = Timeouts(read=120, total=180, answer=32 * MIB)  # up to 20 MB out, and the inputs may come back
ASKING = Timeouts(read=20, total=20)
LISTING = Timeouts(read=20, total=30, answer=16 * MIB)


class ProviderHttp:
    """One provider's address and key, and the words of its error answers.

    `scheme` stands before the key in `Authorization`; `words` reads code and message out of an error answer. Raises
    BadSetting for a key that cannot be written in a header and for an address that is not http or https.
    """

    def __init__(self, client: httpx.AsyncClient, *, base_url: str, scheme: str, key: str, words: ErrorReader) -> None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise BadSetting("BOOMERANG_UPSTREAM_KEY holds characters that cannot stand in a header, or is empty")
        self._client = client
        self._base = _checked_base(base_url)
        self._key = key
        self._scheme = scheme
        self._words = words

    async def create(self, path: str, body: Json, read: Callable[[object], Fact]) -> Fact:
        """Send a submission and return what its reply says; raises NeverLeft, Refused, ReplyLost or Throttled.

        `body` is encoded once, and the bytes are dropped as soon as they are sent: at the peak they are held beside the
        caller's parameters, with two copies of the largest single value; while the reply is awaited, nothing is.
        """
        try:
            answer = await self._exchange("POST", path, CREATING, body=body)
        except NOT_SENT_ERRORS as error:
            raise NotSent(f"the upstream could not be reached: {type(error).__name__}") from error
        except TRANSPORT as error:
            raise ReplyLost(f"no whole reply came: {type(error).__name__}") from error
        if not answer.fine:
            raise self._create_problem(answer)
        return created(answer, read)

    async def fetch(self, path: str, read: Callable[[object], Fact]) -> Fact:
        """Ask for one task; raises UnknownTask, Unwell, Refused or Throttled."""
        answer = await self._ask("GET", path, ASKING)
        if answer.fine:
            return understood(answer, read)
        code, message = self._said(answer)
        _refuse_unknown(answer, code, message)
        raise self._question_problem(answer)

    async def listed(self, path: str, query: Mapping[str, str | int]) -> object:
        """Return one page of a list as parsed JSON; raises Unwell, Refused or Throttled."""
        answer = await self._ask("GET", path, LISTING, query=query)
        if not answer.fine:
            raise self._question_problem(answer)
        return parsed(answer)

    async def cancel(self, path: str, body: Json) -> None:
        """Ask to cancel; raises Conflict with the provider's reason, UnknownTask, Unwell or Throttled."""
        answer = await self._ask("POST", path, ASKING, body=body)
        if answer.fine:
            return
        code, message = self._said(answer)
        _refuse_unknown(answer, code, message)
        if is_throttle(answer, code):
            raise throttled(answer, message)
        if httpx.codes.is_client_error(answer.status):
            raise Conflict(f"{code}: {message}")
        raise ProviderUnavailable(f"HTTP {answer.status}: {message}")

    async def _ask(
        self,
        method: str,
        path: str,
        patience: Timeouts,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
    ) -> Answer:
        try:
            return await self._exchange(method, path, patience, query=query, body=body)
        except TRANSPORT as error:
            raise ProviderUnavailable(f"no whole answer came: {type(error).__name__}") from error

    async def _exchange(
        self,
        method: str,
        path: str,
        patience: Timeouts,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
    ) -> Answer:
        request = self._request(method, path, patience, query, body)
        async with asyncio.timeout(patience.total):
            response = await self._client.send(request, stream=True, follow_redirects=False)
            try:
                content = await _capped(response, patience.answer)
            finally:
                await response.aclose()
        hidden = content.replace(self._key.encode(), b"[key]")  # an upstream may quote what it was sent
        return Answer(status=response.status_code, headers=response.headers, body=hidden)

    def _request(
        self, method: str, path: str, patience: Timeouts, query: Mapping[str, str | int] | None, body: Json | None
    ) -> httpx.Request:
        content, headers = (None, {}) if body is None else _content(body)
        headers |= {"Authorization": f"{self._scheme} {self._key}", "Accept-Encoding": "identity"}
        return self._client.build_request(
            method,
            self._base + path,
            params=query,
            content=content,
            headers=headers,
            timeout=httpx.Timeout(patience.read, connect=CONNECT_SECONDS, pool=CONNECT_SECONDS),
        )

    def _said(self, answer: Answer) -> tuple[str, str]:
        code, message = self._words(answer.body)
        said = message or code or httpx.codes.get_reason_phrase(answer.status) or "no reason given"
        return code or str(answer.status), said

    def _create_problem(self, answer: Answer) -> UpstreamError:
        code, message = self._said(answer)
        if is_throttle(answer, code):
            return throttled(answer, message)
        if answer.status in WRITTEN_BY_APPLICATION and self._own(answer):
            return NotSent(f"HTTP {answer.status}, {code}: {message}")
        if not httpx.codes.is_client_error(answer.status) or answer.status == httpx.codes.REQUEST_TIMEOUT:
            return ReplyLost(f"HTTP {answer.status}: {message}")
        return Refused(code, message)

    def _question_problem(self, answer: Answer) -> UpstreamError:
        code, message = self._said(answer)
        if is_throttle(answer, code):
            return throttled(answer, message)
        if answer.status in NO_PERMISSION:
            return Refused(code, message)
        return ProviderUnavailable(f"HTTP {answer.status}: {message}")

    def _own(self, answer: Answer) -> bool:
        """Return whether the application itself wrote this: a JSON object with an error code of the provider's.

        A bare `{"message": ...}` is also what gateways write before an application that may have done the work.
        """
        try:
            body = parse_json(answer.body)
        except UnreadableBody:
            return False
        code, _ = self._words(body)
        return isinstance(body, dict) and bool(code)


def _refuse_unknown(answer: Answer, code: str, message: str) -> None:
    if answer.status == httpx.codes.NOT_FOUND or code == "TaskNotFound":
        raise UnknownTask(message)


def _checked_base(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise BadSetting(f"BOOMERANG_UPSTREAM_URL is no address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
        raise BadSetting("BOOMERANG_UPSTREAM_URL must be an http or https address without query or fragment")
    return base_url.rstrip("/")


def _content(body: Json) -> tuple[AsyncIterator[bytes], dict[str, str]]:
    """Return `body` as a stream that owns the only reference to its bytes, and the headers that describe it."""
    buffer = BytesIO()
    for chunk in json.JSONEncoder(allow_nan=False, separators=(",", ":")).iterencode(body):
        buffer.write(chunk.encode("ascii"))
    headers = {"Content-Type": "application/json", "Content-Length": str(buffer.tell())}
    return _slices(buffer), headers


async def _slices(buffer: BytesIO) -> AsyncIterator[bytes]:
    buffer.seek(0)
    while piece := buffer.read(SLICE):
        yield piece


async def _capped(response: httpx.Response, limit: int) -> bytes:
    """Read an answer of at most `limit` bytes, unpacked: httpx would unpack a bomb as a whole before we could count."""
    content, unpack = bytearray(), _unpacker(response)
    whole = response.is_stream_consumed  # a transport without a wire gives it so
    async for chunk in response.aiter_bytes() if whole else response.aiter_raw():
        content += unpack(chunk, limit + 1)
        if len(content) > limit:
            raise TooLarge(f"the answer is longer than {limit} bytes")
    return bytes(content)


def _unpacker(response: httpx.Response) -> Callable[[bytes, int], bytes]:
    """Return what makes plain bytes, at most so many, of a piece; some answer gzip though we ask for plain."""
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding in {"", "identity"}:
        return lambda chunk, _most: chunk
    if coding not in {"gzip", "x-gzip"}:
        raise Coded(f"the answer is packed as {coding[:40]!r}, though it was asked for as it is")
    packed = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    return packed.decompress
