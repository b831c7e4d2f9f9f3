"""The description of one operation: a route and method with its parameters, bodies and responses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Literal

from pydantic import BaseModel

from service.api.openapi.examples import problem_example
from service.api.openapi.parameters import Parameter
from service.api.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.api.schemas import Problem

Method = Literal["get", "options", "post", "patch", "delete"]

Headers = dict[str, dict[str, Any]]
"""Headers of a response by name, as OpenAPI header objects."""


@dataclass(frozen=True)
class DeclaredResponse:
    """A response: its body, None for no body, and its headers by name.

    `example`: an example of the body, None for that of its model.
    """

    description: str
    body: type[BaseModel] | None = None
    media_type: str = "application/json"
    headers: Headers = field(default_factory=dict)
    example: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route.

    `responses` are the successful ones, by status. `errors` are the statuses of problem responses; `all_responses`
    adds those of every operation. `error_body` is the form of their bodies. `request_form` is the body as a form
    with files. `request_required`: whether the body may not be left out. `authenticated`: whether an API key is
    needed.
    """

    path: str
    method: Method
    id: str
    tag: str
    summary: str
    description: str
    responses: Mapping[int, DeclaredResponse]
    parameters: Sequence[Parameter] = ()
    request: type[BaseModel] | None = None
    request_form: type[BaseModel] | None = None
    request_required: bool = True
    errors: Sequence[int] = ()
    error_body: type[BaseModel] = Problem
    authenticated: bool = True

    def all_responses(self) -> dict[int, DeclaredResponse]:
        """Return every response by status: the successful ones, then the errors in ascending order."""
        common = {401, 403, 500, 503} if self.authenticated else {500, 503}
        statuses = sorted({*self.errors, *common})
        own = {} if statuses[0] < HTTPStatus.INTERNAL_SERVER_ERROR else {431: TOO_LONG}
        return {**self.responses, **own, **{status: self._error(status) for status in statuses}}

    def _error(self, status: int) -> DeclaredResponse:
        declared = ERRORS[status]
        if self.error_body is Problem:
            return declared
        return replace(declared, body=self.error_body, media_type="application/json", example=None)


CHALLENGE: Headers = {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}}
RETRY_AFTER: Headers = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}


TOO_LONG = DeclaredResponse("The request line and headers are too long; the server refuses it before any endpoint.")
"""The refusal of operations that refuse nothing themselves."""


def _error(status: int, description: str, headers: Headers | None = None) -> DeclaredResponse:
    example = problem_example(status, description)
    return DeclaredResponse(description, Problem, media_type=PROBLEM_TYPE, headers=headers or {}, example=example)


ERRORS: Mapping[int, DeclaredResponse] = {
    400: _error(400, "The body or a header is unreadable."),
    401: _error(401, "No valid API key.", CHALLENGE),
    403: _error(403, "Not allowed for this caller."),
    404: _error(404, "It does not exist, or it belongs to another client."),
    408: _error(408, "The body did not arrive in time."),
    409: _error(409, "Not possible in the current status; `detail` has the reason."),
    413: _error(413, "The body is too large."),
    416: _error(
        416,
        "The range begins behind the end of the content.",
        {"Content-Range": {"description": "`bytes */size`.", "schema": {"type": "string"}}},
    ),
    415: _error(415, "Not plain `application/json`."),
    422: _error(422, "Invalid request; `errors` has every fault with its location and a hint."),
    429: _error(429, "The client's unfinished tasks hold too many bytes; `detail` has the limit.", RETRY_AFTER),
    500: _error(500, "An internal error."),
    502: _error(502, "The provider gave no usable reply."),
    503: _error(503, "Temporarily unavailable; try again.", RETRY_AFTER),
}
