"""Say the same things in each provider's words: refusals, create replies, polls."""

import json
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from starlette.responses import HTMLResponse, JSONResponse, Response

from service.sandbox import request_checks as checks
from service.sandbox.bodies import credits_of, native_body, vtrix_body, vtrix_error, with_loose_types
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.state import SandboxState
from service.sandbox.task_runner import FAILED
from service.sandbox.tasks import Provider, Task, TaskSpec

_BAD_REQUEST, _UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND = 400, 401, 403, 404
_UNKNOWN_STATUS = "warming_up"

REASONS: Mapping[str, tuple[int, str]] = {
    "BadRequest": (_BAD_REQUEST, "the body is no JSON object of the right form"),
    "Unauthorized": (_UNAUTHORIZED, "the API key is missing or wrong"),
    "CreditInsufficient": (_FORBIDDEN, "the balance is insufficient"),
    "TaskNotFound": (_NOT_FOUND, "the task is not found"),
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
    """Stop a request with the provider's own refusal."""

    def __init__(self, reason: str, message: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status, standard = REASONS.get(reason, (_BAD_REQUEST, reason))
        self.message = message or standard


class ProviderShape(Protocol):
    """Speak as one provider does."""

    provider: Provider
    scheme: str

    def error_response(self, refused: Refused, trace: str) -> Response:
        """Return the answer that refuses a request."""

    def read_create(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Return a create's model and parameters, or raise `Refused`."""

    def created(self, task: Task, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the create reply."""

    def failed_on_create(self) -> dict[str, Any]:
        """Return a create reply that has failed and has no id."""

    def poll_reply(self, task: Task, occasion: str) -> dict[str, Any]:
        """Return the answer to a poll, with the faults of its content."""


class Vtrix:
    """Speak as the Vtrix gateway does."""

    provider: Provider = "vtrix"
    scheme = "Bearer"

    def __init__(self, state: SandboxState, signer: UrlSigner) -> None:
        self._state = state
        self._signer = signer

    def error_response(self, refused: Refused, trace: str) -> Response:
        """Return an error in the gateway's usual shape, or in any shape seen when errors are mixed."""
        if self._state.switches.mixed_errors:
            shape = _ERROR_SHAPES[int(self._state.faults.draw("shape", trace) * len(_ERROR_SHAPES))]
            return shape(refused.status, refused.reason, refused.message, trace)
        error = {"code": refused.reason, "message": refused.message}
        return JSONResponse({"error": error, "request_id": trace}, refused.status)

    def read_create(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Read `{"model", "input": [{"params"}]}`; unknown keys at the top are tolerated."""
        entries = body.get("input")
        first = entries[0] if isinstance(entries, list) and entries else None
        params = first.get("params") if isinstance(first, dict) else None
        if not isinstance(params, dict):
            raise Refused("BadRequest", "input[0].params is required")
        if body.get("model") != checks.VTRIX_MODEL:
            raise Refused("ModelUnavailable", f"model {str(body.get('model'))[:80]!r} is not found")
        _refuse_invalid(params, strict=False)
        return checks.VTRIX_MODEL, params

    def created(self, task: Task, params: Mapping[str, Any]) -> dict[str, Any]:  # noqa: ARG002 - the port's shape
        """Return the task body."""
        return self._body(task, f"create/{task.number}")

    def failed_on_create(self) -> dict[str, Any]:
        """Return a failed task body without an id."""
        body = {"created_at": int(self._state.now().timestamp()), "status": "failed", "model": checks.VTRIX_MODEL}
        return body | {"error": vtrix_error(FAILED["vtrix"])}

    def poll_reply(self, task: Task, occasion: str) -> dict[str, Any]:
        """Return the task body."""
        body = self._body(task, occasion)
        return body | ({"status": _UNKNOWN_STATUS} if self._state.hits("unknown_status", occasion) else {})

    def _body(self, task: Task, occasion: str) -> dict[str, Any]:
        body = vtrix_body(task, self._signer, self._state.now())
        return with_loose_types(body) if self._state.hits("loose_types", occasion) else body


class Vidu:
    """Speak as Vidu's own API does."""

    provider: Provider = "vidu"
    scheme = "Token"

    def __init__(self, state: SandboxState, signer: UrlSigner) -> None:
        self._state = state
        self._signer = signer

    def error_response(self, refused: Refused, trace: str) -> Response:
        """Return `{code, reason, message, metadata}`; want of money is a 400 here."""
        status = _BAD_REQUEST if refused.reason == "CreditInsufficient" else refused.status
        body = {"code": status, "reason": refused.reason, "message": refused.message, "metadata": {"trace_id": trace}}
        return JSONResponse(body, status)

    def read_create(self, body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        """Read the flat body; unknown fields are refused."""
        if "model" not in body:
            raise Refused("FieldLacking", "field model is lacking")
        if body["model"] != checks.VIDU_MODEL:
            raise Refused("FieldInvalid", "field model is invalid")
        _refuse_invalid(body, strict=True)
        return checks.VIDU_MODEL, body

    def created(self, task: Task, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the id under `task_id`, and the inputs again."""
        given = dict(params)
        if not self._state.switches.echo_inline:
            given |= {name: _addresses(params[name]) for name in ("images", "videos") if name in params}
        created = {"task_id": task.id, "state": str(task.state), "credits": credits_of(task)}
        defaults = {"duration": task.spec.seconds, "bgm": False, "off_peak": False, "payload": ""}
        return {**defaults, **given, **created, "created_at": task.created_at.isoformat()}

    def failed_on_create(self) -> dict[str, Any]:
        """Return a failed create reply without an id."""
        return {"state": "failed", "err_code": FAILED["vidu"][0], "credits": 0}

    def poll_reply(self, task: Task, occasion: str) -> dict[str, Any]:
        """Return the query body."""
        body = native_body(task, self._signer)
        if self._state.hits("unknown_status", occasion):
            body["state"] = _UNKNOWN_STATUS
        if self._state.hits("loose_types", occasion):
            body["credits"] = str(body["credits"])
        return body


def read_object(content: bytes | bytearray) -> dict[str, Any]:
    """Return the JSON object in a body, or raise `Refused`."""
    try:
        body = json.loads(content)
    except (ValueError, RecursionError) as fault:
        raise Refused("BadRequest") from fault
    if not isinstance(body, dict):
        raise Refused("BadRequest")
    return body


def spec_of(params: Mapping[str, Any]) -> tuple[TaskSpec, tuple[str, ...]]:
    """Return the order and the references that checked parameters make."""
    return TaskSpec.of(params), (*(params.get("images") or ()), *(params.get("videos") or ()))


def _refuse_invalid(params: Mapping[str, Any], *, strict: bool) -> None:
    for flaw in checks.find_errors(params, strict=strict):
        raise Refused(flaw.reason, flaw.message)


def _addresses(media: list[str]) -> list[str]:
    return [item for item in media if not item.startswith("data:")]
