"""HTTP client that both provider adapters share: sends requests and classifies the responses.

Wrong classification costs money: a submission may be repeated only if it was certainly not sent, or if the application
itself reports that it had no effect. Every other failure of a submission is ReplyLost: in doubt.
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
from service.providers.bounded_request import (
    CREATE_TIMEOUTS,
    LIST_TIMEOUTS,
    QUERY_TIMEOUTS,
    HttpExchange,
    HttpResponse,
    Timeouts,
    retry_after,
)
from service.providers.fields import UPSTREAM_ID

ErrorReader = Callable[[object], tuple[str, str]]
"""Reads code and message of an error response, "" for each that is missing."""

NOT_SENT_ERRORS = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""Transport errors that are raised before the first byte of a request is written."""

TRANSPORT_ERRORS = (httpx.HTTPError, httpx.StreamError, OSError, EOFError, zlib.error)
"""Every transport error. OSError includes TimeoutError and the errors of TLS."""

TOKEN_FIELDS = frozenset({"payload", "meta_data", "callback_url"})
"""Parameters that carry this service's tokens in place of the caller's values."""

THROTTLE_CODES = frozenset({"QuotaExceeded", "TooManyRequests", "SystemThrottling", "OperationInProcess"})
"""Error codes that ask for fewer requests, with any HTTP status."""

APPLICATION_STATUSES = frozenset({500, 503})
"""Statuses with which an application may report that a request had no effect. Gateways send them too."""

KEY_REJECTED_STATUSES = frozenset({401, 403})
"""Statuses for an invalid API key."""


class ProviderHttp:
    """Client of one provider's HTTP API.

    `scheme` precedes the key in the header `Authorization`; `error_reader` reads the provider's error responses. Raises
    BadSetting for a key that a header cannot hold, and for an address that is not http or https.
    """

    def __init__(
        self, client: httpx.AsyncClient, *, base_url: str, scheme: str, key: str, error_reader: ErrorReader
    ) -> None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise BadSetting("BOOMERANG_UPSTREAM_KEY is empty or contains characters that a header cannot hold")
        base_url = _validate_base_url(base_url)
        self._exchange = HttpExchange(client=client, base_url=base_url, scheme=scheme, key=key)
        self._error_reader = error_reader

    async def create(self, path: str, body: Json, read: Callable[[object], Fact]) -> Fact:
        """Send a submission and return the fact in its reply; raises NotSent, Refused, ReplyLost or Throttled.

        `body` is encoded once, and the bytes are released when they are sent. At the peak, memory holds the bytes, the
        caller's parameters and two copies of the largest single value; during the wait for the reply, no bytes.
        """
        try:
            response = await self._exchange.send("POST", path, CREATE_TIMEOUTS, body=body)
        except NOT_SENT_ERRORS as error:
            raise NotSent(f"the provider could not be reached: {type(error).__name__}") from error
        except TRANSPORT_ERRORS as error:
            raise ReplyLost(f"no complete reply: {type(error).__name__}") from error
        if not httpx.codes.is_success(response.status):
            raise self._create_error(response)
        try:
            fact = read(_parse(response))
        except ProviderUnavailable as error:
            raise ReplyLost(f"HTTP {response.status}: {error}") from error
        if fact.upstream_id is None and not fact.settles:
            raise ReplyLost("the reply names no task")
        return fact

    async def fetch(self, path: str, upstream_id: UpstreamId, read: Callable[[object], Fact]) -> Fact:
        """Return the fact about one task; `{id}` in `path` stands for its id.

        Raises UnknownTask, ProviderUnavailable (also for a response about another task), Refused or Throttled.
        """
        response = await self._query("GET", path.format(id=_path_segment(upstream_id)), QUERY_TIMEOUTS)
        if not httpx.codes.is_success(response.status):
            self._raise_if_unknown(response)
            raise self._query_error(response)
        fact = read(_parse(response))
        if fact.upstream_id not in (None, upstream_id):
            raise ProviderUnavailable("the response is about another task than the requested one")
        return replace(fact, upstream_id=upstream_id)

    async def list_page(self, path: str, query: Mapping[str, str | int]) -> object:
        """Return one page of a list as parsed JSON; raises ProviderUnavailable, Refused or Throttled."""
        response = await self._query("GET", path, LIST_TIMEOUTS, query=query)
        if not httpx.codes.is_success(response.status):
            raise self._query_error(response)
        return _parse(response)

    async def cancel(self, path: str, upstream_id: UpstreamId, body: Json) -> None:
        """Cancel one task; `{id}` in `path` stands for its id.

        Raises Conflict with the provider's reason, UnknownTask, ProviderUnavailable or Throttled.
        """
        response = await self._query("POST", path.format(id=_path_segment(upstream_id)), QUERY_TIMEOUTS, body=body)
        if httpx.codes.is_success(response.status):
            return
        self._raise_if_unknown(response)
        code, message = self._code_and_message(response)
        if _is_throttle(response, code):
            raise Throttled(message, retry_after=retry_after(response.headers))
        if httpx.codes.is_client_error(response.status):
            raise Conflict(f"{code}: {message}")
        raise ProviderUnavailable(f"HTTP {response.status}: {message}")

    async def _query(
        self,
        method: str,
        path: str,
        timeouts: Timeouts,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Json | None = None,
    ) -> HttpResponse:
        """Send a request that costs nothing when it is repeated: every transport error is ProviderUnavailable."""
        try:
            return await self._exchange.send(method, path, timeouts, query=query, body=body)
        except TRANSPORT_ERRORS as error:
            raise ProviderUnavailable(f"no complete response: {type(error).__name__}") from error

    def _code_and_message(self, response: HttpResponse) -> tuple[str, str]:
        """Return the provider's error code and message; the HTTP status and its phrase replace missing ones."""
        code, message = self._error_reader(response.body)
        reason = message or code or httpx.codes.get_reason_phrase(response.status) or "no reason given"
        return code or str(response.status), reason

    def _create_error(self, response: HttpResponse) -> UpstreamError:
        code, message = self._code_and_message(response)
        if _is_throttle(response, code):
            return Throttled(message, retry_after=retry_after(response.headers))
        if response.status in APPLICATION_STATUSES and self._from_application(response):
            return NotSent(f"HTTP {response.status}, {code}: {message}")
        if not httpx.codes.is_client_error(response.status) or response.status == httpx.codes.REQUEST_TIMEOUT:
            return ReplyLost(f"HTTP {response.status}: {message}")
        return Refused(code, message)

    def _query_error(self, response: HttpResponse) -> UpstreamError:
        code, message = self._code_and_message(response)
        if _is_throttle(response, code):
            return Throttled(message, retry_after=retry_after(response.headers))
        if response.status in KEY_REJECTED_STATUSES:
            return Refused(code, message)
        return ProviderUnavailable(f"HTTP {response.status}: {message}")

    def _raise_if_unknown(self, response: HttpResponse) -> None:
        code, message = self._code_and_message(response)
        if response.status == httpx.codes.NOT_FOUND or code == "TaskNotFound":
            raise UnknownTask(message)

    def _from_application(self, response: HttpResponse) -> bool:
        """Return whether the application itself wrote the error: a JSON object with a code of the provider's own.

        Gateways write a bare `{"message": ...}` in front of an application that may have processed the request.
        """
        try:
            body = parse_json(response.body)
        except UnreadableBody:
            return False
        code, _ = self._error_reader(body)
        return isinstance(body, dict) and bool(code)


def params_with_tokens(request: ProviderRequest) -> Json:
    """Return the non-empty parameters, with this service's payload, meta_data and callback_url.

    Values are shared with the request, not copied, so that memory holds inline media once.
    """
    params = {
        name: value for name, value in request.params.items() if name not in TOKEN_FIELDS and value not in (None, [])
    }
    params["payload"] = request.payload
    if request.meta_data is not None:
        params["meta_data"] = request.meta_data
    if request.callback_url is not None:
        params["callback_url"] = request.callback_url
    return params


def _validate_base_url(base_url: str) -> str:
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as error:
        raise BadSetting(f"BOOMERANG_UPSTREAM_URL is not a valid address: {error}") from error
    if url.scheme not in {"http", "https"} or not url.host or url.query or url.fragment:
        raise BadSetting("BOOMERANG_UPSTREAM_URL must be an http or https address without query or fragment")
    return base_url.rstrip("/")


def _path_segment(upstream_id: UpstreamId) -> str:
    """Return the id as one segment of a path; raises UnknownTask for an id that no provider gives."""
    if not UPSTREAM_ID.fullmatch(upstream_id):
        raise UnknownTask("not a valid provider id")
    return str(upstream_id)


def _parse(response: HttpResponse) -> object:
    """Return the JSON value of the body; raises ProviderUnavailable for anything else."""
    try:
        return parse_json(response.body)
    except UnreadableBody as error:
        raise ProviderUnavailable(str(error)) from error


def _is_throttle(response: HttpResponse, code: str) -> bool:
    """Return whether the response asks for fewer requests, by its status or its error code."""
    return response.status == httpx.codes.TOO_MANY_REQUESTS or code in THROTTLE_CODES
