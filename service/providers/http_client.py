"""HTTP client that both provider adapters share: sends requests, and returns what their responses report."""

from collections.abc import Mapping

import httpx

from service.domain.errors import BadSetting, NotSent, ProviderUnavailable, ReplyLost
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Fact, Json, UpstreamId
from service.network.connection_errors import transport_reason
from service.providers.answer import Answer, Reading
from service.providers.bounded_request import (
    CREATE_TIMEOUTS,
    LIST_TIMEOUTS,
    QUERY_TIMEOUTS,
    TRANSPORT_ERRORS,
    HttpExchange,
    HttpResponse,
    Timeouts,
)
from service.providers.response_reader import ErrorReader, ResponseReader
from service.providers.task_bodies import TaskShape
from service.providers.task_ids import path_segment

NOT_SENT_ERRORS = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
    httpx.UnsupportedProtocol,
)
"""Transport errors after which the request has certainly not reached the provider.

All but one are raised before its first byte is written. A ProxyError may follow a request to a proxy that forwards: it
wants a password, and has not forwarded anything.
"""

TOKEN_FIELDS = frozenset({"payload", "meta_data", "callback_url"})
"""Parameters that carry this service's tokens in place of the caller's values."""


class ProviderHttp:
    """Client of one provider's HTTP API.

    `scheme` precedes the key in the header `Authorization`; `shape` and `error_reader` read the provider's responses.
    Raises BadSetting for a key that a header cannot hold, and for an address that is not http or https.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        base_url: str,
        scheme: str,
        key: str,
        shape: TaskShape,
        error_reader: ErrorReader,
    ) -> None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise BadSetting("BOOMERANG_UPSTREAM_KEY is empty or contains characters that a header cannot hold")
        base_url = _validate_base_url(base_url)
        self._exchange = HttpExchange(transport=transport, base_url=base_url, scheme=scheme, key=key)
        self.reading = Reading(base_url=base_url, key=key)
        self._reader = ResponseReader(shape=shape, error_reader=error_reader, reading=self.reading)

    async def create(self, path: str, body: Json) -> Fact:
        """Send a submission and return the fact in its reply; raises NotSent, Refused, ReplyLost or Throttled.

        `body` is encoded once, and the bytes are released when they are sent. At the peak, memory holds the bytes, the
        caller's parameters and two copies of the largest single value; during the wait for the reply, no bytes.
        """
        try:
            response = await self._exchange.send("POST", path, CREATE_TIMEOUTS, body=body)
        except NOT_SENT_ERRORS as error:
            raise NotSent(f"the provider could not be reached: {transport_reason(error)}") from error
        except TRANSPORT_ERRORS as error:
            raise ReplyLost(f"no complete reply: {transport_reason(error)}") from error
        return self._reader.create_reply(response)

    async def fetch(self, path: str, upstream_id: UpstreamId) -> Fact:
        """Return the fact about one task; `{id}` in `path` stands for its id.

        Raises UnknownTask, ProviderUnavailable (also for a response about another task), Refused or Throttled.
        """
        response = await self._query("GET", path.format(id=path_segment(upstream_id)), QUERY_TIMEOUTS)
        return self._reader.poll_reply(response, upstream_id)

    async def list_page(self, path: str, query: Mapping[str, str | int]) -> Answer:
        """Return the fields of one page of a list; raises ProviderUnavailable, Refused or Throttled."""
        response = await self._query("GET", path, LIST_TIMEOUTS, query=query)
        self._reader.raise_for_status(response)
        body = self._reader.body(response)
        if not isinstance(body, dict):
            raise ProviderUnavailable("the provider's list is not a JSON object")
        answer = self._reader.shape.answer(body, self.reading)
        if not isinstance(answer.get("tasks"), list):  # the errors of listed tasks are not errors of the list
            self._reader.raise_if_error(response, answer)
        return answer

    async def cancel(self, path: str, upstream_id: UpstreamId, body: Json) -> None:
        """Cancel one task; `{id}` in `path` stands for its id.

        Raises Conflict with the provider's reason, UnknownTask, ProviderUnavailable or Throttled.
        """
        response = await self._query("POST", path.format(id=path_segment(upstream_id)), QUERY_TIMEOUTS, body=body)
        self._reader.raise_if_not_canceled(response)

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
            raise ProviderUnavailable(f"no complete response: {transport_reason(error)}") from error


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
