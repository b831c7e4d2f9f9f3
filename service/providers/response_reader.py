"""Reads a provider's responses: which fact each reports, and what each error means.

Wrong classification costs money: a submission may be repeated only if it was certainly not sent, or if the application
itself reports that it had no effect. A reply that names the task's id by any reading is never lost.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import httpx

from service.domain.error_kinds import error_kind, is_credit_code
from service.domain.errors import (
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
from service.domain.lenient_json import IncompleteJson, parse_lenient
from service.domain.task import Fact, Status, TaskError, UpstreamId
from service.providers.answer import Answer, Reading
from service.providers.bounded_request import HttpResponse, retry_after
from service.providers.reasons import refusal
from service.providers.status_words import meaning, plain_word
from service.providers.task_bodies import TaskShape
from service.providers.task_ids import id_in_location

ErrorReader = Callable[[object, Reading], tuple[str, str]]
"""Reads code and message of an error response, "" for each that is missing."""

THROTTLE_CODES = frozenset({"429", "QuotaExceeded", "TooManyRequests", "SystemThrottling", "OperationInProcess"})
"""Error codes that ask for fewer requests, with any HTTP status."""

UNKNOWN_TASK_CODES = frozenset({"404", "TaskNotFound"})

APPLICATION_STATUSES = frozenset({500, 503})
"""Statuses with which an application may report that a request had no effect. Gateways send them too."""

KEY_REJECTED_STATUSES = frozenset({401, 403})
"""Statuses for an invalid API key."""

LOST_WORDS = frozenset(
    {
        *("timeout", "timedout", "requesttimeout", "gatewaytimeout", "badgateway"),
        *("internalerror", "internalservererror", "servererror", "systemerror", "unknownerror"),
    }
)
"""Status words, codes and messages of a reply without an id that do not exclude that the task was created."""

MAX_TEXT = 120
_HTTP_STATUS_DIGITS = 3


@dataclass(frozen=True, kw_only=True)
class ResponseReader:
    """Reads the responses of one provider; `error_reader` reads its error responses."""

    shape: TaskShape
    error_reader: ErrorReader
    reading: Reading

    # ── submissions ──────────────────────────────────────────────────────────

    def create_reply(self, response: HttpResponse) -> Fact:
        """Return the fact in the reply to a submission; raises NotSent, Refused, ReplyLost or Throttled.

        A reply with an id is accepted whatever else it holds, also if it is cut off, has no status, or comes with a
        status of a gateway; a clear refusal (4xx) only if it reports a task that is not failed.
        """
        body, complete = _parsed(response)
        answer = self.shape.answer(body, self.reading)
        fact = self._accepted(response, answer, complete=complete)
        if fact:
            return fact
        if response.error:
            raise ReplyLost(f"no complete reply: {type(response.error).__name__}")
        if not httpx.codes.is_success(response.status):
            raise self._create_error(response, names_task=answer.id is not None)
        refused = self._error_in(response, answer) if complete else None
        if refused:
            raise self._refusal(response, *refused)
        raise ReplyLost(f"HTTP {response.status}: the reply names no task{self._text(response)}")

    def _accepted(self, response: HttpResponse, answer: Answer, *, complete: bool) -> Fact | None:
        """Return the fact in a reply that names a task or reports its end, None for any other reply."""
        success = httpx.codes.is_success(response.status)
        found = answer.id or (id_in_location(response.headers.get("Location", "")) if success else None)
        refused = httpx.codes.is_client_error(response.status) and response.status != httpx.codes.REQUEST_TIMEOUT
        if refused and not (found and complete and self._reports_a_task(answer)):
            return None
        if not complete or not success:  # a poll has to confirm any end
            return Fact(status=Status.IN_PROGRESS, upstream_id=found) if found else None
        fact = replace(self.shape.fact(answer), upstream_id=found)
        if found or (fact.status is Status.COMPLETED and fact.output):
            return fact
        if fact.status is Status.FAILED and fact.error:
            self._raise_if_lost(response, fact.error.code, fact.error.message, word=answer.word)
        return fact if fact.settles and not fact.without_result else None

    def _reports_a_task(self, answer: Answer) -> bool:
        status = meaning(answer.word, self.shape.words) if answer.word else None
        return status in {Status.IN_PROGRESS, Status.COMPLETED} and refusal(answer) is None

    def _raise_if_lost(self, response: HttpResponse, code: str, message: str, *, word: str = "") -> None:
        """Raise Throttled or ReplyLost for an error in a successful response that is not a refusal."""
        if code in THROTTLE_CODES:
            raise Throttled(message, retry_after=retry_after(response.headers))
        status = _status_of(code)
        gateway = httpx.codes.is_server_error(status) or status == httpx.codes.REQUEST_TIMEOUT
        if gateway or LOST_WORDS & {plain_word(text) for text in (word, code, message)}:
            raise ReplyLost(f"HTTP {response.status}, {code}: {message}")

    def _refusal(self, response: HttpResponse, code: str, message: str) -> UpstreamError:
        self._raise_if_lost(response, code, message)
        code = code or "refused"
        return Refused(code, message or code, of_key=_is_of_key(_status_of(code), code, message))

    def _create_error(self, response: HttpResponse, *, names_task: bool) -> UpstreamError:
        """Return the error of a submission; a code for an empty account counts more than the HTTP status."""
        code, message = self.code_and_message(response)
        if response.status == httpx.codes.PAYMENT_REQUIRED and not is_credit_code(code):
            code, message = "402", message if message == code else f"{code}: {message}"
        no_credit = is_credit_code(code) and (
            httpx.codes.is_client_error(response.status)
            or (response.status in APPLICATION_STATUSES and self._from_application(response))
        )
        if no_credit:
            return Refused(code, message, names_task=names_task)
        if _is_throttle(response, code):
            return Throttled(message, retry_after=retry_after(response.headers))
        if response.status in APPLICATION_STATUSES and self._from_application(response):
            return NotSent(f"HTTP {response.status}, {code}: {message}")
        if not httpx.codes.is_client_error(response.status) or response.status == httpx.codes.REQUEST_TIMEOUT:
            return ReplyLost(f"HTTP {response.status}: {message}")
        return Refused(code, message, names_task=names_task, of_key=_is_of_key(response.status, code, message))

    def _from_application(self, response: HttpResponse) -> bool:
        """Return whether the application itself wrote the error: a JSON object with a code of the provider's own.

        Gateways write a bare `{"message": ...}` in front of an application that may have processed the request.
        """
        body, complete = _parsed(response)
        code, _ = self.error_reader(body, self.reading)
        return complete and isinstance(body, dict) and bool(code)

    # ── polls and cancels ────────────────────────────────────────────────────

    def poll_reply(self, response: HttpResponse, upstream_id: UpstreamId) -> Fact:
        """Return the fact about one task; raises UnknownTask, ProviderUnavailable, Refused or Throttled.

        A response about another task, or without a status, reports nothing about this one.
        """
        self.raise_for_status(response)
        answer = self.shape.answer(self.body(response), self.reading)
        named = answer.ids
        if named and upstream_id not in named:
            other = answer.text(next(iter(named)), 40)
            raise ProviderUnavailable(f"the response is about another task than the requested one: {other}")
        if not answer.word or self.shape.reports_error_alone(answer):
            self.raise_if_error(response, answer)
        fact = self.shape.read_answer(answer, named=True)
        return replace(fact, upstream_id=upstream_id)

    def body(self, response: HttpResponse) -> object:
        """Return the JSON value of a complete response; raises ProviderUnavailable for anything else."""
        value, complete = _parsed(response)
        if not complete:
            raise ProviderUnavailable(f"HTTP {response.status}: the body is not complete JSON{self._text(response)}")
        return value

    def _text(self, response: HttpResponse) -> str:
        """Return the text of a response that is not the expected one, for people."""
        _, message = self.error_reader(response.body, self.reading)
        return f": {message[:MAX_TEXT]}" if message else ""

    def raise_for_status(self, response: HttpResponse) -> None:
        """Raise what a response without success means for a poll or a search."""
        if response.error:
            raise ProviderUnavailable(f"no complete response: {type(response.error).__name__}")
        if not httpx.codes.is_success(response.status):
            code, message = self.code_and_message(response)
            raise _query_error(response, code, message, status=response.status)

    def raise_if_error(self, response: HttpResponse, answer: Answer) -> None:
        """Raise what an error in a successful response means for a poll or a search."""
        refused = self._error_in(response, answer)
        if refused:
            code, message = refused
            raise _query_error(response, code, message or code, status=int(code) if code.isdigit() else 0)

    def raise_if_not_canceled(self, response: HttpResponse) -> None:
        """Raise Conflict with the provider's reason, UnknownTask, ProviderUnavailable or Throttled, or nothing."""
        if response.error:
            raise ProviderUnavailable(f"no complete response: {type(response.error).__name__}")
        code, message = self.code_and_message(response)
        status = response.status
        if httpx.codes.is_success(status):
            refused = self._not_canceled(response, self.shape.answer(_parsed(response)[0], self.reading))
            if not refused:
                return
            code, message = refused[0], refused[1] or refused[0]
            status = _status_of(code) or httpx.codes.BAD_REQUEST
        error = _query_error(response, code, message, status=status)
        if httpx.codes.is_client_error(status) and not isinstance(error, Throttled | UnknownTask):
            raise Conflict(f"{code}: {message}")
        raise error

    def _not_canceled(self, response: HttpResponse, answer: Answer) -> tuple[str, str] | None:
        """Return why a task is not canceled in spite of a successful response: an error, or an end of another kind."""
        fact = self.shape.fact(answer)
        if fact.status is Status.CANCELED:
            return None
        if fact.status is Status.FAILED and fact.error:
            return fact.error.code, fact.error.message
        if fact.status is Status.COMPLETED and answer.id:
            return answer.text(answer.word), f"the task is {answer.text(answer.word)}"
        return self._error_in(response, answer)

    def _error_in(self, response: HttpResponse, answer: Answer) -> tuple[str, str] | None:
        """Return code and message of an error in a successful response, None for a response without one."""
        found = refusal(answer)
        if found is None:
            return None
        code, message = self.error_reader(response.body, self.reading)
        return code or found[0], message or found[1]

    def code_and_message(self, response: HttpResponse) -> tuple[str, str]:
        """Return the provider's error code and message; the HTTP status and its phrase replace missing ones."""
        code, message = self.error_reader(response.body, self.reading)
        reason = message or code or httpx.codes.get_reason_phrase(response.status) or "no reason given"
        return code or str(response.status), reason


def _query_error(response: HttpResponse, code: str, message: str, *, status: int) -> UpstreamError:
    """Return the error of a poll; `status` is the HTTP status, or the code in a successful response."""
    if status == httpx.codes.NOT_FOUND or code in UNKNOWN_TASK_CODES:
        return UnknownTask(message)
    if _is_throttle(response, code):
        return Throttled(message, retry_after=retry_after(response.headers))
    if status in KEY_REJECTED_STATUSES:
        return Refused(code, message, of_key=True)
    detail = message if code in {message, str(response.status)} else f"{code}: {message}"
    return ProviderUnavailable(f"HTTP {response.status}: {detail}")


def _status_of(code: str) -> int:
    """Return the HTTP status that a code is, 0 for another code."""
    return int(code) if code.isdigit() and len(code) == _HTTP_STATUS_DIGITS else 0


def _is_of_key(status: int, code: str, message: str) -> bool:
    """Return whether a refused submission says that our key is invalid: a 403 may be about its content too."""
    return status in KEY_REJECTED_STATUSES and error_kind("", TaskError(code=code, message=message)) == "provider"


def _parsed(response: HttpResponse) -> tuple[object, bool]:
    """Return the JSON value of the body as far as it can be read, and whether it is complete; None for no JSON."""
    try:
        return parse_lenient(response.body), response.error is None
    except IncompleteJson as error:
        return error.value, False
    except UnreadableBody:
        return None, False


def _is_throttle(response: HttpResponse, code: str) -> bool:
    """Return whether the response asks for fewer requests, by its status or its error code."""
    return response.status == httpx.codes.TOO_MANY_REQUESTS or code in THROTTLE_CODES
