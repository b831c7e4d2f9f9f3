"""The one place where errors become RFC 9457 problem answers."""

import json
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

from service.domain import errors
from service.domain.errors import Fault

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:boomerang:problem:"
STORE_PAUSE = timedelta(seconds=5)
MAX_FRAMES = 8  # frames of an unforeseen error that the log gets

log = structlog.get_logger("service.api")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What a problem answer says; `kind` becomes its `type`, empty for `about:blank`."""

    status: int
    kind: str = ""
    detail: str = ""
    faults: tuple[Fault, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def response(self) -> Response:
        """Return the answer as `application/problem+json`."""
        body: dict[str, Any] = {
            "type": TYPE_PREFIX + self.kind if self.kind else "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
        }
        if self.detail:
            body["detail"] = self.detail
        if self.faults:
            body["errors"] = [{"loc": list(fault.loc), "msg": fault.msg} for fault in self.faults]
        return Response(encode_json({**body, **self.extra}), self.status, dict(self.headers), MEDIA_TYPE)


class ProblemError(errors.SenderError):
    """What only the HTTP edge finds wrong with a request: its key, size, speed or media type."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


def encode_json(data: object) -> bytes:
    """Return `data` as compact JSON in UTF-8; a lone surrogate comes out as its JSON escape."""
    text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.encode("utf-8", "backslashreplace")


STATUS_BY_ERROR: tuple[tuple[type[Exception], int, str], ...] = (
    (errors.InvalidParams, 422, "invalid-params"),
    (errors.BadToken, 403, "bad-token"),
    (errors.BadSignature, 403, "bad-signature"),
    (errors.UnreadableBody, 400, "unreadable-body"),
    (errors.NotFound, 404, "not-found"),
    (errors.Conflict, 409, "conflict"),
    (errors.Throttled, 503, "upstream-throttled"),
    (errors.UpstreamError, 502, "upstream-error"),
    (errors.StoreUnavailable, 503, "store-unavailable"),
    (errors.SchemaBehind, 503, "schema-behind"),
    (ClientDisconnect, 400, "body-incomplete"),
)
"""Which answer an error gets: the first row that it is an instance of."""

SILENT = (errors.BadToken, errors.BadSignature, errors.StoreUnavailable)
"""Errors whose own words are not for the one who asks."""


def problem_of(error: Exception) -> Problem:
    """Return the problem that tells of `error`; an unforeseen one is logged and told by its id alone."""
    if isinstance(error, ProblemError):
        return error.problem
    if isinstance(error, HTTPException):
        return _of_http(error)
    for kind, status, name in STATUS_BY_ERROR:
        if isinstance(error, kind):
            return _of_known(error, status, name)
    return internal_error(error, status=500)


def internal_error(error: Exception, *, status: int) -> Problem:
    """Log `error` under a fresh id, and return a problem of `status` that gives nothing away but that id.

    The log gets its type and where it was raised, never its words: they may quote a body.
    """
    error_id = token_hex(8)
    where = "".join(traceback.format_tb(error.__traceback__, limit=-MAX_FRAMES))
    log.error("request_failed", error_id=error_id, error=type(error).__qualname__, where=where)
    detail = f"an unexpected fault of ours; the log has it under {error_id}"
    return Problem(
        status=status,
        kind="internal-error",
        detail=detail,
        headers=_pause(STORE_PAUSE) if status == HTTPStatus.SERVICE_UNAVAILABLE else {},
        extra={"error_id": error_id},
    )


async def error_response(_: Request, error: Exception) -> Response:
    """Answer `error`, raised by an endpoint or the router, as a problem."""
    return problem_of(error).response()


def _of_http(error: HTTPException) -> Problem:
    headers = dict(error.headers or {})
    if "Allow" in headers:
        headers["Allow"] = ", ".join(sorted(headers["Allow"].split(", ")))
    detail = {404: "there is nothing at this address", 405: f"allowed here: {headers.get('Allow', '')}"}
    return Problem(status=error.status_code, detail=detail.get(error.status_code, ""), headers=headers)


def _of_known(error: Exception, status: int, name: str) -> Problem:
    return Problem(
        status=status,
        kind=name,
        detail=_detail(error),
        faults=error.faults if isinstance(error, errors.InvalidParams) else (),
        headers=_retry_after(error),
    )


def _detail(error: Exception) -> str:
    if isinstance(error, errors.InvalidParams):
        count = len(error.faults)
        return f"{count} fault{'s' if count != 1 else ''}; see errors"
    if isinstance(error, errors.StoreUnavailable):
        return "the database cannot take it now; try again"
    return "" if isinstance(error, SILENT) else str(error)


def _retry_after(error: Exception) -> dict[str, str]:
    if isinstance(error, errors.Throttled):
        return _pause(error.retry_after or STORE_PAUSE)
    return _pause(STORE_PAUSE) if isinstance(error, errors.OperatorError) else {}


def _pause(pause: timedelta) -> dict[str, str]:
    return {"Retry-After": str(max(1, ceil(pause.total_seconds())))}
