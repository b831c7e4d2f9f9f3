"""Convert errors into RFC 9457 problem responses, and hold the fixed problems that other modules respond with."""

import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from math import ceil
from secrets import token_hex
from typing import Any

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from service.api.endpoints import encode_json
from service.domain import errors
from service.domain.errors import Fault

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:boomerang:problem:"
STORE_PAUSE = timedelta(seconds=5)
QUEUE_PAUSE = timedelta(seconds=30)
REQUEST_ID = "request_id"
"""Key of the request's state: its id, which every response has in a header."""

MAX_FRAMES = 8
"""Innermost traceback frames of an unexpected error in its log line."""

log = structlog.get_logger("boomerang.api")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A problem response; `kind` becomes its `type`, and an empty one `about:blank`."""

    status: int
    kind: str = ""
    detail: str = ""
    faults: tuple[Fault, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def response(self) -> Response:
        """Return the response as `application/problem+json`."""
        body: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind if self.kind else "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
        }
        if self.detail:
            body["detail"] = self.detail
        if self.faults:
            body["errors"] = [{"loc": list(fault.loc), "msg": fault.msg} for fault in self.faults]
        return Response(encode_json({**body, **self.extra}), self.status, self.headers, MEDIA_TYPE)


class ProblemError(errors.SenderError):
    """An error of a request that only the API detects: in its key, size, speed or media type."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


STATUS_BY_ERROR: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.InvalidParams, 422, "invalid-params"),
    (errors.BadToken, 403, "bad-token"),
    (errors.BadSignature, 403, "bad-signature"),
    (errors.BodyTooLarge, 413, "body-too-large"),
    (errors.UnreadableBody, 400, "unreadable-body"),
    (errors.NotFound, 404, "not-found"),
    (errors.QueueFull, 429, "queue-full"),
    (errors.Conflict, 409, "conflict"),
    (errors.Throttled, 503, "upstream-throttled"),
    (errors.UpstreamError, 502, "upstream-error"),
    (errors.StoreUnavailable, 503, "store-unavailable"),
    (errors.KeyMissing, 503, "key-missing"),
    (errors.ArchiveRefused, 503, "archive-unavailable"),
    (errors.ArchiveUnavailable, 503, "archive-unavailable"),
    (errors.SchemaBehind, 503, "schema-behind"),
    (ClientDisconnect, 400, "body-incomplete"),
)
"""Status and kind of the problem of each error; the first matching row applies."""

ARCHIVE_ERRORS = (errors.ArchiveRefused, errors.ArchiveUnavailable)

HIDDEN: Mapping[type[Exception], str] = {
    errors.BadToken: "the token is forged or out of date",
    errors.BadSignature: "the signature does not fit the request",
    errors.KeyMissing: "no key can verify the request now; try again",
    errors.StoreUnavailable: "the database cannot store it now; try again",
}
"""Errors whose message the caller does not get, and what it gets in its place."""


def problem_of(error: Exception) -> Problem:
    """Return the problem for `error`; an unexpected one is logged, and its problem has only the id of the log line."""
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, HTTPException):
        return _http_problem(error)
    if isinstance(error, ARCHIVE_ERRORS):
        log.warning("archive request failed", error=str(error), operator=isinstance(error, errors.ArchiveRefused))
    for error_type, status, kind in STATUS_BY_ERROR:
        if isinstance(error, error_type):
            faults = error.faults if isinstance(error, errors.InvalidParams) else ()
            return Problem(status=status, kind=kind, detail=_detail(error), faults=faults, headers=_retry_after(error))
    return internal_error(error, status=500)


def internal_error(error: Exception, *, status: int) -> Problem:
    """Log `error` under a new id, and return a problem of `status` that contains only that id.

    The log line has the type of the error and its traceback, never its message: it may quote a body.
    """
    error_id = token_hex(8)
    where = "".join(traceback.format_tb(error.__traceback__, limit=-MAX_FRAMES))
    log.error("request failed", error_id=error_id, error=type(error).__qualname__, where=where)
    return Problem(
        status=status,
        kind="internal-error",
        detail=f"an unexpected error of this service; its log has the details under {error_id}",
        headers=_pause(STORE_PAUSE) if status == HTTPStatus.SERVICE_UNAVAILABLE else {},
        extra={"error_id": error_id},
    )


async def raise_unexpected(_: Request, error: Exception) -> Response:
    """Raise an unexpected error again, for the request context, in place of Starlette's own response."""
    raise error


def _http_problem(error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    detail = {404: "there is nothing at this address", 405: f"allowed here: {headers.get('Allow', '')}"}
    return Problem(status=error.status_code, detail=detail.get(error.status_code, ""), headers=headers)


def _detail(error: Exception) -> str:
    if isinstance(error, errors.InvalidParams):
        count = len(error.faults)
        return f"{count} fault{'s' if count != 1 else ''}; see errors"
    if isinstance(error, ARCHIVE_ERRORS):
        return "the archive does not give the file now; try again"
    return next((text for kind, text in HIDDEN.items() if isinstance(error, kind)), str(error))


def _retry_after(error: Exception) -> dict[str, str]:
    if isinstance(error, errors.Throttled):
        return _pause(error.retry_after or STORE_PAUSE)
    if isinstance(error, errors.QueueFull):
        return _pause(QUEUE_PAUSE)
    return _pause(STORE_PAUSE) if isinstance(error, errors.OperatorError) else {}


def _pause(pause: timedelta) -> dict[str, str]:
    return {"Retry-After": str(max(1, ceil(pause.total_seconds())))}


TOO_MANY_OF_CLIENT = Problem(
    status=503,
    kind="too-busy",
    detail="too many requests of this client are in progress; try again",
    headers={"Retry-After": "1"},
)
TOO_BUSY = Problem(
    status=503,
    kind="too-busy",
    detail="too many large bodies at once; try again",
    headers={"Retry-After": "10", "Connection": "close"},
)


TOO_SLOW = Problem(
    status=408,
    kind="body-too-slow",
    detail="the body did not arrive in time",
    headers={"Connection": "close"},
)


NOT_JSON = Problem(status=415, kind="not-json", detail="send Content-Type: application/json, once")


NOT_UTF_8 = Problem(status=415, kind="not-utf-8", detail="send JSON in UTF-8 (RFC 8259), no other charset")


ENCODED_BODY = Problem(status=415, kind="encoded-body", detail="send the body without Content-Encoding")


UNKNOWN_KEY = Problem(
    status=401,
    kind="unknown-key",
    detail="send Authorization: Bearer KEY with a key of this service",
    headers={"WWW-Authenticate": "Bearer"},
)


LOCAL_ONLY = Problem(
    status=403,
    kind="local-only",
    detail="without BOOMERANG_API_KEYS only programs on this machine are served, at its loopback address",
)


ADMIN_ONLY = Problem(status=403, kind="admin-only", detail="this needs the API key of an admin")


READ_ONLY = Problem(
    status=403,
    kind="read-only",
    detail="this API key may only read; a key without :read in BOOMERANG_API_KEYS is needed to change something",
)


METRICS_ONLY_ADMIN = Problem(
    status=403, kind="admin-only", detail="this needs the API key of an admin, or the key of BOOMERANG_METRICS_KEY"
)

NOT_REQUESTED = Problem(
    status=403,
    kind="admin-only",
    detail="no notify entry of the task asked for this delivery; an admin can replay it",
)


REPEATED_HOST = Problem(status=400, kind="repeated-host", detail="send Host once")
