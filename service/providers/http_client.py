"""What the providers' adapters share: sending one request within bounds, and saying what became of it.

The one rule that costs money: a submission is sent again only when it surely never left, or when the application itself
said that it did nothing. Whatever else goes wrong with it is ReplyLost: in doubt.
"""

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
    ASKING,
    CREATING,
    LISTING,
    NOT_SENT_ERRORS,
    TRANSPORT,
    Answer,
    HttpExchange,
    Timeouts,
    retry_after,
)

ErrorReader = Callable[[object], tuple[str, str]]

OURS = frozenset({"payload", "meta_data", "callback_url"})

THROTTLES = frozenset({"QuotaExceeded", "TooManyRequests", "SystemThrottling", "OperationInProcess"})
"""Reasons that ask for fewer requests, whatever the HTTP status."""

WRITTEN_BY_APPLICATION = frozenset({500, 503})
"""Statuses that an application may write itself, to say that it did nothing; gateways write them, too."""

NO_PERMISSION = frozenset({401, 403})
"""Statuses that say that our key is not good."""


class ProviderHttp:
    """One provider's address and key, and the words of its error answers.

    `scheme` stands before the key in `Authorization`; `words` reads code and message out of an error answer. Raises
    BadSetting for a key that cannot be written in a header and for an address that is not http or https.
    """

    def __init__(self, client: httpx.AsyncClient, *, base_url: str, scheme: str, key: str, words: ErrorReader) -> None:
        if not key or not key.isascii() or not key.isprintable() or " " in key:
            raise BadSetting("BOOMERANG_UPSTREAM_KEY holds characters that cannot stand in a header, or is empty")
        self._exchange = HttpExchange(client, base_url=_checked_base(base_url), scheme=scheme, key=key)
        self._words = words

    async def create(self, path: str, body: Json, read: Callable[[object], Fact]) -> Fact:
        """Send a submission and return what its reply says; raises NeverLeft, Refused, ReplyLost or Throttled.

        `body` is encoded once, and the bytes are dropped as soon as they are sent: at the peak they are held beside the
        caller's parameters, with two copies of the largest single value; while the reply is awaited, nothing is.
        """
        try:
            answer = await self._exchange.send("POST", path, CREATING, body=body)
        except NOT_SENT_ERRORS as error:
            raise NotSent(f"the upstream could not be reached: {type(error).__name__}") from error
        except TRANSPORT as error:
            raise ReplyLost(f"no whole reply came: {type(error).__name__}") from error
        if not answer.fine:
            raise self._create_problem(answer)
        return _created(answer, read)

    async def fetch(self, path: str, upstream_id: UpstreamId, read: Callable[[object], Fact]) -> Fact:
        """Ask for the task whose id stands for `{id}` in `path`; raises UnknownTask, Unwell, Refused or Throttled."""
        answer = await self._ask("GET", path.format(id=_segment(upstream_id)), ASKING)
        if answer.fine:
            return _same_task(_understood(answer, read), upstream_id)
        code, message = self._said(answer)
        _refuse_unknown(answer, code, message)
        raise self._question_problem(answer)

    async def listed(self, path: str, query: Mapping[str, str | int]) -> object:
        """Return one page of a list as parsed JSON; raises Unwell, Refused or Throttled."""
        answer = await self._ask("GET", path, LISTING, query=query)
        if not answer.fine:
            raise self._question_problem(answer)
        return _parsed(answer)

    async def cancel(self, path: str, upstream_id: UpstreamId, body: Json) -> None:
        """Ask to cancel the task whose id stands for `{id}` in `path`.

        Raises Conflict with the provider's reason, UnknownTask, Unwell or Throttled.
        """
        answer = await self._ask("POST", path.format(id=_segment(upstream_id)), ASKING, body=body)
        if answer.fine:
            return
        code, message = self._said(answer)
        _refuse_unknown(answer, code, message)
        if _is_throttle(answer, code):
            raise _throttled(answer, message)
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
            return await self._exchange.send(method, path, patience, query=query, body=body)
        except TRANSPORT as error:
            raise ProviderUnavailable(f"no whole answer came: {type(error).__name__}") from error

    def _said(self, answer: Answer) -> tuple[str, str]:
        code, message = self._words(answer.body)
        said = message or code or httpx.codes.get_reason_phrase(answer.status) or "no reason given"
        return code or str(answer.status), said

    def _create_problem(self, answer: Answer) -> UpstreamError:
        code, message = self._said(answer)
        if _is_throttle(answer, code):
            return _throttled(answer, message)
        if answer.status in WRITTEN_BY_APPLICATION and self._own(answer):
            return NotSent(f"HTTP {answer.status}, {code}: {message}")
        if not httpx.codes.is_client_error(answer.status) or answer.status == httpx.codes.REQUEST_TIMEOUT:
            return ReplyLost(f"HTTP {answer.status}: {message}")
        return Refused(code, message)

    def _question_problem(self, answer: Answer) -> UpstreamError:
        code, message = self._said(answer)
        if _is_throttle(answer, code):
            return _throttled(answer, message)
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


def _created(answer: Answer, read: Callable[[object], Fact]) -> Fact:
    """Return what the reply to a submission says; raises ReplyLost when it cannot be read or names no task."""
    try:
        fact = _understood(answer, read)
    except ProviderUnavailable as error:
        raise ReplyLost(f"HTTP {answer.status}: {error}") from error
    if fact.upstream_id is None and not fact.settles:
        raise ReplyLost("the reply names no task")
    return fact


def _understood(answer: Answer, read: Callable[[object], Fact]) -> Fact:
    """Return what an answer about a task says; raises Unwell when it cannot be read."""
    return read(_parsed(answer))


def _parsed(answer: Answer) -> object:
    """Return the JSON value in an answer; raises Unwell when there is none."""
    try:
        return parse_json(answer.body)
    except UnreadableBody as error:
        raise ProviderUnavailable(str(error)) from error


def _is_throttle(answer: Answer, code: str) -> bool:
    """Return whether an answer asks for fewer requests, by its status or by its reason `code`."""
    return answer.status == httpx.codes.TOO_MANY_REQUESTS or code in THROTTLES


def _throttled(answer: Answer, message: str) -> Throttled:
    """Return the error for an answer that asks for fewer requests, with the pause that it names."""
    return Throttled(message, retry_after=retry_after(answer.headers))


def with_tokens(order: ProviderRequest) -> Json:
    """Return the order's parameters without what is empty, with our payload, meta_data and callback_url.

    Values are shared with the order, not copied: inline media is held once.
    """
    asked = {name: value for name, value in order.params.items() if name not in OURS and value not in (None, [])}
    tokens = {"payload": order.payload, "meta_data": order.meta_data, "callback_url": order.callback_url}
    return asked | {name: value for name, value in tokens.items() if value is not None}


def _segment(upstream_id: UpstreamId) -> str:
    """Return the id as one segment of a path; raises UnknownTask for one that no provider would give."""
    if not UPSTREAM_ID.fullmatch(upstream_id):
        raise UnknownTask("that is no upstream id")
    return str(upstream_id)


def _same_task(fact: Fact, asked: UpstreamId) -> Fact:
    """Return the fact with the id that was asked for; raises Unwell when it speaks of another task."""
    if fact.upstream_id not in (None, asked):
        raise ProviderUnavailable("the upstream answered about another task than the one asked for")
    return replace(fact, upstream_id=asked)
