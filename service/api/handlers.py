"""The addresses under `/v1/handlers`, for admins: list handlers, pause and resume one, send a test event through it."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.audit import DETAIL
from service.api.authentication import caller_of, require_admin
from service.api.body_models import given, validated
from service.api.endpoints import json_response, route
from service.api.handler_schemas import HandlerTestRequest
from service.api.ports import PendingHandlers
from service.api.query_params import QueryParams
from service.api.request_bodies import BodyReader, read_optional_json
from service.domain.errors import Fault, InvalidParams, NotFound
from service.domain.event_routing import EVENT_NAMES
from service.domain.ports.handler_pauses import HandlerPause, HandlerPauses
from service.domain.ports.handler_tests import HandlerTester
from service.domain.ports.signals import Clock
from service.domain.task import Json
from service.domain.task_view import rfc3339


@dataclass(frozen=True, kw_only=True)
class LoadedHandler:
    """A handler that this process has loaded: all its names, the newest first, and the events that it receives."""

    names: tuple[str, ...]
    events: frozenset[str]
    by_request: bool


@dataclass(kw_only=True, slots=True)
class HandlerApi:
    """The endpoints of handlers. `pending` names those that have pending deliveries, loaded here or not."""

    loaded: Sequence[LoadedHandler]
    pauses: HandlerPauses
    pending: PendingHandlers
    tester: HandlerTester
    clock: Clock
    bodies: BodyReader

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/v1/handlers", get=self.list_handlers),
            route("/v1/handlers/{name}/pause", post=self.pause),
            route("/v1/handlers/{name}/resume", post=self.resume),
            route("/v1/handlers/{name}/test", post=self.test),
        ]

    async def list_handlers(self, request: Request) -> Response:
        """List the handlers, and which of them are paused."""
        require_admin(request)
        QueryParams(request).reject_errors()
        found = await self.objects()
        return json_response({"data": [found[name] for name in sorted(found)]})

    async def pause(self, request: Request) -> Response:
        """Pause a handler in every process: its deliveries wait and lose no attempt."""
        names = await self._names(request)
        by = caller_of(request).name
        pause = await self.pauses.pause(names[-1], names=names, by=by, now=self.clock.now())
        return json_response(self._object(names, pause))

    async def resume(self, request: Request) -> Response:
        """Resume a handler; what waits is due at once. One that is not paused stays as it is."""
        names = await self._names(request)
        await self.pauses.resume(names[-1])
        return json_response(self._object(names, None))

    async def test(self, request: Request) -> Response:
        """Send one sample event through a handler now, also while it is paused; respond with how that ended."""
        require_admin(request)
        fields = given(validated(HandlerTestRequest, await read_optional_json(self.bodies, request)))
        event_type, target = fields.get("event"), fields.get("target")
        if event_type is not None and event_type not in EVENT_NAMES:
            raise InvalidParams([Fault(loc=("event",), msg=f"must be one of {', '.join(EVENT_NAMES)}")])
        if "handler" in (target or {}):
            raise InvalidParams([Fault(loc=("target", "handler"), msg="is the name in the path: leave it out")])
        result = await self.tester.send(str(request.path_params["name"]), target=target, event_type=event_type)
        setattr(request.state, DETAIL, result.outcome)
        return json_response(asdict(result))

    async def _names(self, request: Request) -> tuple[str, ...]:
        """Return the names of the handler in the path, for an admin; raises NotFound for an unknown one."""
        require_admin(request)
        QueryParams(request).reject_errors()
        return await self.names_of(str(request.path_params["name"]))

    async def names_of(self, name: str) -> tuple[str, ...]:
        """Return all names of a handler, the oldest last; raises NotFound for an unknown one."""
        for handler in self.loaded:
            if name in handler.names:
                return handler.names
        if name not in await self.objects():
            raise NotFound("there is no such handler here, and no delivery waits for it")
        paused = (await self.pauses.paused()).values()
        return next((each.names for each in paused if name in each.names), (name,))

    async def objects(self) -> dict[str, Json]:
        """Return every handler that is loaded, is paused or has pending deliveries."""
        pauses = await self.pauses.paused()
        known = {handler.names: pauses.get(handler.names[-1]) for handler in self.loaded}
        named = {name for names in known for name in names}
        known |= {each.names: each for each in pauses.values() if not named.intersection(each.names)}
        named |= {name for names in known for name in names}
        known |= {(name,): None for name in await self.pending.pending_handlers() if name not in named}
        return {names[0]: self._object(names, pause) for names, pause in known.items()}

    def _object(self, names: tuple[str, ...], pause: HandlerPause | None) -> Json:
        handler = next((each for each in self.loaded if each.names == names), None)
        return {
            "name": names[0],
            "loaded": handler is not None,
            "paused": pause is not None,
            "paused_at": rfc3339(pause.since) if pause else None,
            "paused_by": pause.by if pause else None,
            "events": sorted(handler.events) if handler else None,
            "by_request": handler.by_request if handler else None,
        }
