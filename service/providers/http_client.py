"""What the providers' adapters share: sending one request within bounds, and saying what became of it.

The one rule that costs money: a submission is sent again only when it surely never left, or when the application itself
said that it did nothing. Whatever else goes wrong with it is ReplyLost: in doubt.
"""

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import httpx

from service.domain.errors import (
    BadSetting,
    Conflict,
    NotSent,
    ProviderUnavailable,
    Refused,
    ReplyLost,
    Throttled,
    UnknownTask,
    UnreadableBody,
    UpstreamError,
)
from service.domain.ports.provider import ProviderRequest
from service.domain.strict_json import parse_json
from service.domain.task import Fact, Json, UpstreamId
from service.providers.fields import UPSTREAM_ID
from service.providers.http_exchange import (
    CREATE_TIMEOUTS,
    LIST_TIMEOUTS,
    QUERY_TIMEOUTS,
    HttpExchange,
    HttpResponse,
    Timeouts,
    retry_after,
)

ErrorReader = Callable[[object], tuple[str, str]]

NOT_SENT_ERRORS = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""Transport errors that are raised before the first byte of a request is written."""

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.StreamError, OSError, EOFError, zlib.error)
"""Every transport error; OSError includes TimeoutError and what TLS raises."""

TOKEN_FIELDS = frozenset({"payload", "meta_data", "callback_url"})

THROTTLE_CODES = frozenset({"QuotaExceeded", "TooManyRequests", "SystemThrottling", "OperationInProcess"})
"""Reasons that ask for fewer requests, whatever the HTTP status."""

APPLICATION_STATUSES = frozenset({500, 503})
"""Statuses that an application may write itself, to say that it did nothing; gateways write them, too."""

KEY_REJECTED_STATUSES = frozenset({401, 403})
"""Statuses that say that our key is not good."""


class ProviderHttp:
    """One provider's address and key, and the words of its error answers.

    `scheme` stands before the key in `Authorization`; `error_reader` reads code and message out of an error answer. Raises
    BadSetting for a key that cannot be written in a header and for an address that is not http or https.
    """

    def __init__(
        self, client: httpx.AsyncClient, *, base_url: str, scheme: str, key: str, error_reader: ErrorReader
    ) -> None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise BadSetting("BOOMERANG_UPSTREAM_KEY holds characters that cannot stand in a header, or is empty")
        self._exchange = HttpExchange(client, base_url=_validate_base_url(base_url), scheme=scheme, key=key)
        self._error_reader = error_reader

    async def create(self, path: str, body: Json, read: Callable[[object], Fact]) -> Fact:
        """Send a submission and return what its reply says; raises NeverLeft, Refused, ReplyLost or Throttled.

        `body` is encoded once, and the bytes are dropped as soon as they are sent: at the peak they are held beside the
        caller's parameters, with two copies of the largest single value; while the reply is awaited, nothing is.
        """
        try:
            answer = await self._exchange.send("POST", path, CREATE_TIMEOUTS, body=body)
        except NOT_SENT_ERRORS as error:
            raise NotSent(f"the upstream could not be reached: {type(error).__name__}") from error
        except TRANSPORT_ERRORS as error:
            raise ReplyLost(f"no whole reply came: {type(error).__name__}") from error
        if not answer.is_success:
            raise self._create_error(answer)
        return _read_create_reply(answer, read)

    async def fetch(self, path: str, upstream_id: UpstreamId, read: Callable[[object], Fact]) -> Fact:
        """Ask for the task whose id stands for `{id}` in `path`; raises UnknownTask, Unwell, Refused or Throttled."""
        answer = await self._query("GET", path.format(id=_path_segment(upstream_id)), QUERY_TIMEOUTS)
        if answer.is_success:
            return _check_task_id(_read_fact(answer, read), upstream_id)
        code, message = self._code_and_message(answer)
        _refuse_unknown(answer, code, message)
        raise self._query_error(answer)

    async def list_page(self, path: str, query: Mapping[str, str | int]) -> object:
        """Return one page of a list as parsed JSON; raises Unwell, Refused or Throttled."""
        answer = await self._query("GET", path, LIST_TIMEOUTS, query=query)
        if not answer.is_success:
            raise self._query_error(answer)
        return _parse(answer)

    async def cancel(self, path: str, upstream_id: UpstreamId, body: Json) -> None:
        """Ask to cancel the task whose id stands for `{id}` in `path`.

        Raises Conflict with the provider's reason, UnknownTask, Unwell or Throttled.
        """
        answer = await self._query("POST", path.format(id=_path_segment(upstream_id)), QUERY_TIMEOUTS, body=body)
        if answer.is_success:
            return
        code, message = self._code_and_message(answer)
        _refuse_unknown(answer, code, message)
        if _is_throttle(answer, code):
            raise _throttled(answer, message)
        if httpx.codes.is_client_error(answer.status):
            raise Conflict(f"{code}: {message}")
        raise ProviderUnavailable(f"HTTP {answer.status}: {message}")

    async def _query(
        self,
        method: str,
        path: str,
        timeouts: Timeouts,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
    ) -> HttpResponse:
        try:
            return await self._exchange.send(method, path, timeouts, query=query, body=body)
        except TRANSPORT_ERRORS as error:
            raise ProviderUnavailable(f"no whole answer came: {type(error).__name__}") from error

    def _code_and_message(self, answer: HttpResponse) -> tuple[str, str]:
        code, message = self._error_reader(answer.body)
        description = message or code or httpx.codes.get_reason_phrase(answer.status) or "no reason given"
        return code or str(answer.status), description

    def _create_error(self, answer: HttpResponse) -> UpstreamError:
        code, message = self._code_and_message(answer)
        if _is_throttle(answer, code):
            return _throttled(answer, message)
        if answer.status in APPLICATION_STATUSES and self._from_application(answer):
            return NotSent(f"HTTP {answer.status}, {code}: {message}")
        if not httpx.codes.is_client_error(answer.status) or answer.status == httpx.codes.REQUEST_TIMEOUT:
            return ReplyLost(f"HTTP {answer.status}: {message}")
        return Refused(code, message)

    def _query_error(self, answer: HttpResponse) -> UpstreamError:
        code, message = self._code_and_message(answer)
        if _is_throttle(answer, code):
            return _throttled(answer, message)
        if answer.status in KEY_REJECTED_STATUSES:
            return Refused(code, message)
        return ProviderUnavailable(f"HTTP {answer.status}: {message}")

    def _from_application(self, answer: HttpResponse) -> bool:
        """Return whether the application itself wrote this: a JSON object with an error code of the provider's.

        A bare `{"message": ...}` is also what gateways write before an application that may have done the work.
        """
        try:
            body = parse_json(answer.body)
        except UnreadableBody:
            return False
        code, _ = self._error_reader(body)
        return isinstance(body, dict) and bool(code)


def _refuse_unknown(answer: HttpResponse, code: str, message: str) -> None:
    if answer.status == httpx.codes.NOT_FOUND or code == "TaskNotFound":
        raise UnknownTask(message)


def _validate_base_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise BadSetting(f"BOOMERANG_UPSTREAM_URL is no address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
        raise BadSetting("BOOMERANG_UPSTREAM_URL must be an http or https address without query or fragment")
    return base_url.rstrip("/")


def _read_create_reply(answer: HttpResponse, read: Callable[[object], Fact]) -> Fact:
    """Return what the reply to a submission says; raises ReplyLost when it cannot be read or names no task."""
    try:
        fact = _read_fact(answer, read)
    except ProviderUnavailable as error:
        raise ReplyLost(f"HTTP {answer.status}: {error}") from error
    if fact.upstream_id is None and not fact.settles:
        raise ReplyLost("the reply names no task")
    return fact


def _read_fact(answer: HttpResponse, read: Callable[[object], Fact]) -> Fact:
    """Return what an answer about a task says; raises Unwell when it cannot be read."""
    return read(_parse(answer))


def _parse(answer: HttpResponse) -> object:
    """Return the JSON value in an answer; raises Unwell when there is none."""
    try:
        return parse_json(answer.body)
    except UnreadableBody as error:
        raise ProviderUnavailable(str(error)) from error


def _is_throttle(answer: HttpResponse, code: str) -> bool:
    """Return whether an answer asks for fewer requests, by its status or by its reason `code`."""
    return answer.status == httpx.codes.TOO_MANY_REQUESTS or code in THROTTLE_CODES


def _throttled(answer: HttpResponse, message: str) -> Throttled:
    """Return the error for an answer that asks for fewer requests, with the pause that it names."""
    return Throttled(message, retry_after=retry_after(answer.headers))


def params_with_tokens(request: ProviderRequest) -> Json:
    """Return the order's parameters without what is empty, with our payload, meta_data and callback_url.

    Values are shared with the order, not copied: inline media is held once.
    """
    asked = {
        name: value for name, value in request.params.items() if name not in TOKEN_FIELDS and value not in (None, [])
    }
    tokens = {"payload": request.payload, "meta_data": request.meta_data, "callback_url": request.callback_url}
    return asked | {name: value for name, value in tokens.items() if value is not None}


def _path_segment(upstream_id: UpstreamId) -> str:
    """Return the id as one segment of a path; raises UnknownTask for one that no provider would give."""
    if not UPSTREAM_ID.fullmatch(upstream_id):
        raise UnknownTask("that is no upstream id")
    return str(upstream_id)


def _check_task_id(fact: Fact, asked: UpstreamId) -> Fact:
    """Return the fact with the id that was asked for; raises Unwell when it speaks of another task."""
    if fact.upstream_id not in (None, asked):
        raise ProviderUnavailable("the upstream answered about another task than the one asked for")
    return replace(fact, upstream_id=asked)
