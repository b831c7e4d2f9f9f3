"""Renders problems in the form of the API that a request addresses: our own (RFC 9457), or that of a drop-in API.

A client that was written for another API reads only that API's errors. A person in a browser gets a page.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Scope

from service.api.endpoints import CALLBACK_PREFIX, HANDLER_PREFIX, json_response
from service.api.problems import REQUEST_ID, Problem, internal_error, problem_of
from service.domain.errors import Fault
from service.domain.task import Json

VTRIX_CODES: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "TaskNotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    413: "BodyTooLarge",
    415: "BadRequest",
    422: "BadRequest",
    429: "TooManyRequests",
    503: "ServiceUnavailable",
}
"""The provider's code for each status; `InternalServiceFailure` for others."""

OPENAI_CODES: Mapping[int, str] = {401: "invalid_api_key", 404: "not_found", 422: "invalid_value"}

MAY_EXIST = "may_exist"
"""Key of the request's state: whether a task of it may be stored already."""

VIDEOS_PREFIX, VERSION_PREFIX = "/v1/videos", "/v1/"
NOT_SUPPORTED = "not-supported"
"""Kind of the problem of an address or a method that only OpenAI's own API has."""

NO_SUCH_OPERATION: tuple[tuple[str, str], ...] = (
    (
        VIDEOS_PREFIX,
        (
            "this operation is not supported here: videos are created, retrieved, listed, deleted and downloaded; there"
            " is no remix, no edit, no extension and no character"
        ),
    ),
    (VERSION_PREFIX, "this operation is not supported here: of OpenAI's API there are only videos and models"),
    ("", "there is nothing at this address: base_url must be the address of this service with /v1 at its end"),
)
"""The beginnings of paths with the message for an address or a method that is not there; the first match applies."""

SDK_HEADER = b"x-stainless-lang"
"""Header that the SDKs of OpenAI send with every request. They show only errors in the form of OpenAI's API."""

UNPROCESSABLE, BAD_REQUEST = 422, 400
"""The provider answers 400 to what our own API answers 422."""

NOT_FOUND, NOT_ALLOWED, CONFLICT, TOO_MANY, INTERNAL = 404, 405, 409, 429, 500


def vtrix_response(problem: Problem, scope: Scope) -> Response:
    """Return `problem` as the provider's gateway writes an error; `errors` has every fault, as in our own problems."""
    error = {"code": _vtrix_code(problem), "message": _message(problem)}
    body: Json = {"error": error, "request_id": scope.get("state", {}).get(REQUEST_ID, "")}
    if problem.faults:
        body["errors"] = [{"loc": list(_vtrix_loc(fault)), "msg": fault.msg} for fault in problem.faults]
    return json_response(body, status=_vtrix_status(problem), headers=problem.headers)


def vtrix_envelope(problem: Problem, scope: Scope) -> Response:
    """Return `problem` in the envelope of the provider's lists and specifications of models."""
    del scope
    status = _vtrix_status(problem)
    body = {"status": {"code": status, "message": _message(problem)}, "data": None}
    return json_response(body, status=status, headers=problem.headers)


def openai_response(problem: Problem, scope: Scope) -> Response:
    """Return `problem` as OpenAI's API writes an error.

    Its SDK repeats a request after 408, 409, 429 and 5xx by itself: a header forbids that where a task may exist, and
    where nothing changes by itself.
    """
    problem = replace(problem, faults=tuple(_without_part(fault) for fault in problem.faults))
    first = problem.faults[0] if problem.faults else None
    if not problem.kind and problem.status in {NOT_FOUND, NOT_ALLOWED}:
        detail = next(text for prefix, text in NO_SUCH_OPERATION if scope["path"].startswith(prefix))
        problem = replace(problem, kind=NOT_SUPPORTED, detail=detail)
    error = {
        "message": _message(problem),
        "type": _openai_type(problem.status),
        "param": ".".join(map(str, first.loc)) or None if first else None,
        "code": _openai_code(problem),
    }
    headers = dict(problem.headers)
    if problem.status == CONFLICT or scope.get("state", {}).get(MAY_EXIST):
        headers["x-should-retry"] = "false"
    return json_response({"error": error}, status=_vtrix_status(problem), headers=headers)


def _openai_code(problem: Problem) -> str | None:
    kind = problem.kind.replace("-", "_")
    return kind if problem.kind == NOT_SUPPORTED else OPENAI_CODES.get(problem.status) or kind or None


def _without_part(fault: Fault) -> Fault:
    """Return a fault with the name of its parameter alone: the SDK does not say `query` either."""
    return replace(fault, loc=fault.loc[1:]) if fault.loc[:1] == ("query",) else fault


def _openai_type(status: int) -> str:
    if status == TOO_MANY:
        return "rate_limit_error"
    return "server_error" if status >= INTERNAL else "invalid_request_error"


SHAPES: tuple[tuple[str, Callable[[Problem, Scope], Response]], ...] = (
    ("/model/v1/", vtrix_response),
    ("/api/v1/skill/", vtrix_envelope),
    (VIDEOS_PREFIX, openai_response),
)
"""The beginnings of the paths of drop-in APIs, with the form of their errors."""


PROBLEM_PAGE = "problem_page"
"""Key of the request's state: what makes a page of a problem, where there is a dashboard."""

FOR_PROGRAMS = ("/v1/", "/model/", "/api/", "/mcp", CALLBACK_PREFIX, HANDLER_PREFIX)
"""The beginnings of the paths at which a problem is JSON for everybody."""


def problem_response(problem: Problem, scope: Scope) -> Response:
    """Return the response for `problem` in the form of the API that the path belongs to.

    An SDK of OpenAI gets the form that it reads at every other address too, a browser gets a page.
    """
    for prefix, render in SHAPES:
        if scope["path"].startswith(prefix):
            return render(problem, scope)
    if any(name == SDK_HEADER for name, _ in scope["headers"]):
        return openai_response(problem, scope)
    page: Callable[[Problem, Scope], Response] | None = scope.get("state", {}).get(PROBLEM_PAGE)
    if page is None or not _is_of_person(scope):
        return problem.response()
    try:
        return page(problem, scope)
    except Exception as error:  # noqa: BLE001 - what is wrong with the page may be the problem
        return internal_error(error, status=INTERNAL).response()


def _is_of_person(scope: Scope) -> bool:
    accepted = Headers(scope=scope).get("accept", "")
    return "text/html" in accepted and not f"{scope['path']}/".startswith(FOR_PROGRAMS)


async def error_response(request: Request, error: Exception) -> Response:
    """Return the response for an error of an endpoint or the router."""
    return problem_response(problem_of(error), request.scope)


def _vtrix_status(problem: Problem) -> int:
    return BAD_REQUEST if problem.status == UNPROCESSABLE else problem.status


def _vtrix_code(problem: Problem) -> str:
    if not problem.faults:
        return VTRIX_CODES.get(problem.status, "InternalServiceFailure")
    first = problem.faults[0]
    if first.msg.startswith("is required"):
        return "FieldLacking"
    return "ModelUnavailable" if first.loc == ("model",) else "FieldInvalid"


def _vtrix_loc(fault: Fault) -> tuple[str | int, ...]:
    """Return where in the provider's body a fault is: its parameters are those of the first input."""
    return ("input", 0, *fault.loc) if fault.loc[:1] == ("params",) else fault.loc


def _message(problem: Problem) -> str:
    """Return one text: every fault with its parameter, or the detail."""
    faults = [f"{'.'.join(map(str, fault.loc))} {fault.msg}".strip() for fault in problem.faults]
    return "; ".join(faults) or problem.detail or "the request failed"
