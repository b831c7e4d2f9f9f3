"""Answers to addresses that do not exist, in the error shape of the API whose address it resembles."""

from collections.abc import Callable
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox import model_specs as specs
from service.sandbox.provider_shapes import ProviderShape, Refused
from service.sandbox.state import SandboxState

VIDU_PATH = "/ent/v2"
_VIDU_PREFIX = "/ent/"
_VTRIX_PREFIX = "/model/"
_SKILL_PREFIX = "/api/v1/skill/"


def unknown_route(
    state: SandboxState, vidu: ProviderShape, vtrix: ProviderShape
) -> Callable[[Request, Exception], Response]:
    """Return the handler of the router's refusals: an unknown path, or a method that a path does not have."""

    def respond(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else HTTPStatus.NOT_FOUND
        reason = "MethodNotAllowed" if status == HTTPStatus.METHOD_NOT_ALLOWED else "NotFound"
        path = request.url.path
        trace = state.trace(f"unknown/{request.method} {path}")
        if path.startswith(_VIDU_PREFIX):
            return vidu.error_response(Refused(reason), trace)
        if path.startswith(_VTRIX_PREFIX):
            return vtrix.error_response(Refused(reason), trace)
        if path.startswith(_SKILL_PREFIX) and reason == "NotFound":
            return specs.not_found("not found")
        return JSONResponse({"error": HTTPStatus(status).phrase}, status, getattr(error, "headers", None))

    return respond
