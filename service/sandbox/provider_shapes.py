"""Responses in each provider's shape: errors, create replies and polls."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from starlette.responses import HTMLResponse, JSONResponse, Response

from service.sandbox import request_checks as checks
from service.sandbox.bodies import described, native_body, vtrix_body, vtrix_error, with_loose_types
from service.sandbox.request_checks import RATIOS
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.state import SandboxState
from service.sandbox.task_runner import FAILED
from service.sandbox.tasks import Provider, Task, TaskSpec
from service.sandbox.vidu_models import MODELS, TEMPLATE_MODEL, TEMPLATES, resolution_of, rules_of
from service.sandbox.vtrix_models import VTRIX_MODELS

_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 400, 401, 403, 404
_UNKNOWN_STATUS = "warming_up"
_MAX_SEED = 2**31 - 1

REASONS: Mapping[str, tuple[int, str]] = {
    "BadRequest": (_BAD_REQUEST, "the body is not a valid JSON object"),
    "Unauthorized": (_UNAUTHORIZED, "the API key is missing or wrong"),
    "CreditInsufficient": (_FORBIDDEN, "the balance is insufficient"),
    "TaskNotFound": (_NOT_FOUND, "the task is not found"),
    "NotFound": (_NOT_FOUND, "there is nothing at this address"),
    "MethodNotAllowed": (405, "this method is not allowed here"),
    "BodyTooLarge": (413, "the request body exceeds 20 MB"),
    "TooManyRequests": (429, "too many requests, try again later"),
}

_ERROR_SHAPES: tuple[Callable[[int, str, str, str], Response], ...] = (
    lambda status, _reason, message, _trace: JSONResponse({"message": message}, status),
    lambda status, _reason, message, _trace: JSONResponse({"error": message}, status),
    lambda status, _reason, message, _trace: JSONResponse({"detail": message}, status),
    lambda status, _reason, message, _trace: JSONResponse(
        {"status": {"code": status, "message": message, "error_code": 40201}, "data": None}, status
    ),
    lambda status, _reason, message, _trace: HTMLResponse(f"<html><body>{message}</body></html>", status),
    lambda status, _reason, _message, _trace: Response(b"", status),
)


class Refused(Exception):
    """Raised to end a request with the provider's own error response."""

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status, standard = REASONS.get(reason, (_BAD_REQUEST, reason))
        self.message = message or standard


@dataclass(frozen=True, kw_only=True, slots=True)
class CreateRequest:
    """A checked create: its model, its parameters as sent, and the specification of the task."""

    model: str
    params: dict[str, Any]
    spec: TaskSpec


class ProviderShape(Protocol):
    """Request and response shapes of one provider."""

    provider: Provider
    scheme: str

    def error_response(self, refused: Refused, trace: str) -> Response:
        """Return the error response."""

    def read_create(self, body: dict[str, Any], kind: str) -> CreateRequest:
        """Return the create in a body; `kind` is the last segment of its path. Raise `Refused` for an invalid body."""

    def create_reply(self, task: Task, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the create reply."""

    def failed_on_create(self) -> dict[str, Any]:
        """Return a create reply that reports failure and has no id."""

    def poll_reply(self, task: Task, occasion: str) -> dict[str, Any]:
        """Return the response to a poll, with the switchable faults of its content."""


@dataclass(kw_only=True, slots=True)
class Vtrix:
    """Shapes of the Vtrix gateway."""

    state: SandboxState
    signer: UrlSigner
    provider: Provider = "vtrix"
    scheme: str = "Bearer"

    def error_response(self, refused: Refused, trace: str) -> Response:
        """Return an error in the gateway's usual shape, or with `mixed_errors` in a drawn one."""
        if self.state.switches.mixed_errors:
            shape = _ERROR_SHAPES[int(self.state.faults.draw("shape", trace) * len(_ERROR_SHAPES))]
            return shape(refused.status, refused.reason, refused.message, trace)
        error = {"code": refused.reason, "message": refused.message}
        return JSONResponse({"error": error, "request_id": trace}, refused.status)

    def read_create(self, body: dict[str, Any], kind: str) -> CreateRequest:  # noqa: ARG002 - the Protocol's
        """Read `{"model", "input": [{"params"}]}`; ignores unknown keys at the top."""
        entries = body.get("input")
        first = entries[0] if isinstance(entries, list) and entries else None
        params = first.get("params") if isinstance(first, dict) else None
        if not isinstance(params, dict):
            raise Refused("BadRequest", "input[0].params is required")
        name = body.get("model")
        model = VTRIX_MODELS.get(name) if isinstance(name, str) else None
        if model is None and self.state.switches.any_model and isinstance(name, str) and name:
            return CreateRequest(model=name, params=params, spec=TaskSpec.of_unknown(params))
        if model is None:
            raise Refused("ModelUnavailable", f"model {str(name)[:80]!r} is not found")
        _refuse_invalid(params, model.rules)
        return CreateRequest(model=str(name), params=params, spec=TaskSpec.of(params, picture=model.picture))

    def create_reply(self, task: Task, params: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the Protocol's
        """Return the task body."""
        return self._body(task, f"create/{task.number}")

    def failed_on_create(self) -> dict[str, Any]:
        """Return a failed task body without an id."""
        body = {"created_at": int(self.state.now().timestamp()), "status": "failed", "model": checks.VTRIX_MODEL}
        return body | {"error": vtrix_error(FAILED["vtrix"])}

    def poll_reply(self, task: Task, occasion: str) -> dict[str, Any]:
        """Return the task body."""
        body = self._body(task, occasion)
        return body | ({"status": _UNKNOWN_STATUS} if self.state.hits("unknown_status", occasion) else {})

    def _body(self, task: Task, occasion: str) -> dict[str, Any]:
        body = vtrix_body(task, self.signer, self.state.now())
        return with_loose_types(body) if self.state.hits("loose_types", occasion) else body


@dataclass(kw_only=True, slots=True)
class Vidu:
    """Shapes of Vidu's own API."""

    state: SandboxState
    signer: UrlSigner
    provider: Provider = "vidu"
    scheme: str = "Token"

    def error_response(self, refused: Refused, trace: str) -> Response:
        """Return `{code, reason, message, metadata}`; insufficient credit has the status 400 here."""
        status = _BAD_REQUEST if refused.reason == "CreditInsufficient" else refused.status
        body = {"code": status, "reason": refused.reason, "message": refused.message, "metadata": {"trace_id": trace}}
        return JSONResponse(body, status)

    def read_create(self, body: dict[str, Any], kind: str) -> CreateRequest:
        """Read the flat body of an endpoint; refuses unknown fields."""
        name = body.get("model") or (TEMPLATE_MODEL if kind in TEMPLATES else None)
        if not name:
            raise Refused("FieldLacking", "field model is lacking")
        model = MODELS.get(name) if isinstance(name, str) else None
        if model is None:
            raise Refused("FieldInvalid", "field model is invalid")
        _refuse_invalid(body, rules_of(kind, model, body))
        spec = TaskSpec.of(
            body,
            kind="template" if kind in TEMPLATES else kind,
            template=body.get("template") or "",
            aspect_ratio=body.get("aspect_ratio") or RATIOS[0],
            seconds=body.get("duration", model.duration) or model.duration,
            resolution=resolution_of(model, body),
            seed=body.get("seed") or int(self.state.faults.draw("seed", self.state.next_task) * _MAX_SEED),
            prompt=body.get("prompt") or "",
            images=tuple(item for item in body.get("images") or () if not item.startswith("data:")),
        )
        return CreateRequest(model=name, params=body, spec=spec)

    def create_reply(self, task: Task, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the id as `task_id`, and all parameters; inline media only with `echo_inline`."""
        echoed = {name: value for name, value in params.items() if value is not None}
        if not self.state.switches.echo_inline:
            for name in ("images", "videos"):
                if name in params:
                    echoed[name] = [item for item in params[name] if not item.startswith("data:")]
        filled = {"duration": task.spec.seconds, "seed": task.spec.seed}
        return {"task_id": task.id, "state": str(task.state), **described(task), **echoed, **filled}

    def failed_on_create(self) -> dict[str, Any]:
        """Return a failed create reply without an id."""
        return {"state": "failed", "err_code": FAILED["vidu"][0], "credits": 0}

    def poll_reply(self, task: Task, occasion: str) -> dict[str, Any]:
        """Return the query body."""
        body = native_body(task, self.signer)
        if self.state.hits("unknown_status", occasion):
            body["state"] = _UNKNOWN_STATUS
        if self.state.hits("loose_types", occasion):
            body["credits"] = str(body["credits"])
        return body


def read_object(content: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object in a body; raise `Refused` for anything else."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise Refused("BadRequest") from error
    if not isinstance(body, dict):
        raise Refused("BadRequest")
    return body


def _refuse_invalid(params: Mapping[str, Any], rules: checks.Rules) -> None:
    for error in checks.find_errors(params, rules):
        raise Refused(error.reason, error.message)
