"""The audit log of changes over the API: which calls are recorded, and when.

An entry is stored after the change and before its answer. If it cannot be stored, the answer is sent all the same,
since the change was made, and the log has an error.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.authentication import Caller
from service.domain.errors import BoomerangError
from service.domain.ports.audit import AuditEntry, AuditLog
from service.domain.ports.signals import Clock

ACTIONS: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/tasks/{id}/cancel"): "task.cancel",
    ("POST", "/v1/tasks/{id}/resubmit"): "task.resubmit",
    ("DELETE", "/v1/tasks/{id}"): "task.erase",
    ("DELETE", "/v1/videos/{id}"): "task.erase",
    ("POST", "/v1/deliveries/{id}/replay"): "delivery.replay",
    ("POST", "/v1/deliveries/replay"): "delivery.replay_many",
    ("POST", "/v1/endpoints"): "endpoint.create",
    ("PATCH", "/v1/endpoints/{id}"): "endpoint.change",
    ("DELETE", "/v1/endpoints/{id}"): "endpoint.delete",
    ("POST", "/v1/endpoints/{id}/rotate"): "endpoint.rotate",
    ("POST", "/v1/endpoints/{id}/replay"): "endpoint.replay",
    ("POST", "/v1/handlers/{name}/pause"): "handler.pause",
    ("POST", "/v1/handlers/{name}/resume"): "handler.resume",
    ("POST", "/v1/circuits/{key}/close"): "circuit.close",
    ("POST", "/v1/login-links"): "login.link",
}
"""The action of each method and route that is recorded. An action of several rows has its counts in the detail."""

DETAIL = "audit_detail"
"""Key of the request's state: what an endpoint adds to the entry, None for a call that changed nothing."""

log = structlog.get_logger("boomerang.api")


@dataclass(frozen=True, kw_only=True)
class Auditor:
    """Writes entries of the audit log."""

    audit_log: AuditLog
    clock: Clock

    async def record(
        self, caller: Caller, action: str, target: str = "", detail: str = "", *, road: Literal["api", "dashboard"]
    ) -> None:
        """Store that `caller` did something; an error is logged."""
        entry = AuditEntry(
            at=self.clock.now(), actor=caller.name, road=road, action=action, target=target, detail=detail
        )
        try:
            await self.audit_log.add(entry)
        except BoomerangError as error:
            log.warning("audit entry not stored", action=action, target=target, error=type(error).__qualname__)


class AuditMiddleware:
    """Records the changes of identified callers whose method and route have an action."""

    def __init__(self, app: ASGIApp, *, auditor: Auditor) -> None:
        self._app = app
        self._auditor = auditor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "OPTIONS"}:
            await self._app(scope, receive, send)
            return

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < HTTPStatus.MULTIPLE_CHOICES:
                await self._record(scope)
            await send(message)

        await self._app(scope, receive, send_recorded)

    async def _record(self, scope: Scope) -> None:
        state = scope["state"]
        caller, action = state.get("caller"), ACTIONS.get((scope["method"], state.get("route", "")))
        detail = state.get(DETAIL, "")
        if isinstance(caller, Caller) and action and detail is not None:
            names = scope.get("path_params", {})
            target = str(names.get("id") or names.get("name") or names.get("key") or "")
            await self._auditor.record(caller, action, target, detail, road="api")
