"""The audit log of changes over the API: which calls are recorded, and when.

An entry is stored before the change, so that no change is without one, and completed before its answer. If it cannot
be stored nothing is changed, and the answer is 503. If it cannot be completed, it says that the change has begun.
"""

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

import structlog
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.authentication import SAFE_METHODS, Caller
from service.api.problem_shapes import problem_response
from service.api.problems import problem_of
from service.domain.errors import BoomerangError, SenderError
from service.domain.ports.audit import AuditEntry, AuditLog
from service.domain.ports.signals import Clock

ACTIONS: Mapping[tuple[str, str], str] = {
    ("POST", "/v1/tasks/{id}/cancel"): "task.cancel",
    ("POST", "/v1/tasks/{id}/resubmit"): "task.resubmit",
    ("DELETE", "/v1/tasks/{id}"): "task.erase",
    ("DELETE", "/v1/videos/{id}"): "task.erase",
    ("POST", "/v1/tasks/{id}/links"): "task.link",
    ("POST", "/v1/deliveries/{id}/replay"): "delivery.replay",
    ("POST", "/v1/deliveries/replay"): "delivery.replay_many",
    ("POST", "/v1/endpoints"): "endpoint.create",
    ("PATCH", "/v1/endpoints/{id}"): "endpoint.change",
    ("DELETE", "/v1/endpoints/{id}"): "endpoint.delete",
    ("POST", "/v1/endpoints/{id}/rotate"): "endpoint.rotate",
    ("POST", "/v1/endpoints/{id}/replay"): "endpoint.replay",
    ("POST", "/v1/endpoints/{id}/test"): "endpoint.test",
    ("POST", "/v1/handlers/{name}/test"): "handler.test",
    ("POST", "/v1/handlers/{name}/pause"): "handler.pause",
    ("POST", "/v1/handlers/{name}/resume"): "handler.resume",
    ("POST", "/v1/circuits/{key}/close"): "circuit.close",
    ("POST", "/v1/login-links"): "login.link",
}
"""The action of each method and route that is recorded. An action of several rows has its counts in the detail."""

DETAIL = "audit_detail"
"""Key of the request's state: what an endpoint adds to the entry, None for a call that changed nothing."""

BEGUN = "begun: how it ended is not known"
"""The detail of an entry until the change has ended: a process that is killed in between leaves it."""

log = structlog.get_logger("boomerang.api")


def counts_text(counts: Iterable[tuple[str, int]]) -> str:
    """Return the detail of an action of several rows."""
    return ", ".join(f"{name} {count}" for name, count in sorted(counts) if count)


@dataclass(kw_only=True)
class AuditNote:
    """What is known of a change at its end; without a `detail` (None) nothing was changed."""

    target: str = ""
    detail: str | None = ""


@dataclass(frozen=True, kw_only=True)
class Auditor:
    """Writes entries of the audit log."""

    audit_log: AuditLog
    clock: Clock

    async def begin(
        self, caller: Caller, action: str, target: str = "", detail: str = BEGUN, *, road: Literal["api", "dashboard"]
    ) -> int:
        """Store that `caller` does something, before it is done; return the entry's number. Raises StoreUnavailable."""
        entry = AuditEntry(
            at=self.clock.now(), actor=caller.name, road=road, action=action, target=target, detail=detail
        )
        return await self.audit_log.add(entry)

    async def end(self, number: int, note: AuditNote) -> None:
        """Complete an entry, or remove it if nothing was changed; an error is logged, and the entry stays as it is."""
        try:
            if note.detail is None:
                await self.audit_log.remove(number)
            else:
                await self.audit_log.complete(number, target=note.target, detail=note.detail)
        except BoomerangError as error:
            log.warning("audit entry not completed", number=number, error=type(error).__qualname__)

    @asynccontextmanager
    async def recording(
        self, caller: Caller, action: str, target: str = "", *, road: Literal["api", "dashboard"]
    ) -> AsyncIterator[AuditNote]:
        """Store an entry before the block, which makes a change, and complete it at its end.

        A SenderError means that nothing was changed. After any other error how it ended is not known.
        """
        note = AuditNote(target=target)
        number = await self.begin(caller, action, target, road=road)
        try:
            yield note
        except SenderError:
            await self.end(number, AuditNote(detail=None))
            raise
        await self.end(number, note)


class AuditMiddleware:
    """Records the changes of identified callers whose method and path have an action."""

    def __init__(self, app: ASGIApp, *, auditor: Auditor) -> None:
        self._app = app
        self._auditor = auditor
        self._actions = [(method, compile_path(path)[0], action) for (method, path), action in ACTIONS.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        found = None if scope["type"] != "http" or scope["method"] in SAFE_METHODS else self._action(scope)
        caller = scope["state"].get("caller") if found else None
        if found is None or not isinstance(caller, Caller):
            await self._app(scope, receive, send)
            return
        action, target = found
        try:
            number = await self._auditor.begin(caller, action, target, road="api")
        except BoomerangError as error:
            await problem_response(problem_of(error), scope)(scope, receive, send)
            return

        async def send_recorded(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] < HTTPStatus.INTERNAL_SERVER_ERROR:
                done = message["status"] < HTTPStatus.MULTIPLE_CHOICES
                detail = scope["state"].get(DETAIL, "") if done else None
                await self._auditor.end(number, AuditNote(target=target, detail=detail))
            await send(message)

        await self._app(scope, receive, send_recorded)

    def _action(self, scope: Scope) -> tuple[str, str] | None:
        """Return the action of a request and the id of what it changes, None if it is not recorded."""
        for method, path, action in self._actions:
            if method == scope["method"] and (match := path.match(scope["path"])):
                return action, next(iter(match.groups()), "")
        return None
