"""The addresses under `/v1/endpoints`: the standing webhook addresses of clients."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.audit import DETAIL, counts_text
from service.api.authentication import caller_of
from service.api.body_models import given, validated
from service.api.endpoint_request_schemas import (
    DEFAULT_OVERLAP,
    EndpointPatch,
    EndpointRequest,
    MissedRequest,
    RotateRequest,
)
from service.api.endpoint_views import KIND, endpoint_object, missed_object, test_object
from service.api.endpoints import json_response, route
from service.api.pages import PageTurns, page_response
from service.api.ports import EndpointTester
from service.api.query_params import MAX_ROWS, QueryParams, path_id, row_id_of
from service.api.request_bodies import BodyReader, read_optional_json, require_json
from service.domain.endpoint import Endpoint
from service.domain.errors import Conflict, Fault, InvalidParams, NotFound
from service.domain.ports.signals import Clock
from service.domain.strict_json import parse_json
from service.tasks.endpoints import EndpointChanges, EndpointService, NewEndpoint
from service.tasks.missed_replay import MissedCursor, MissedReplay, read_missed_cursor

ONLY_ENABLE = "must be false, which enables the endpoint: to stop it, set paused"
SECRET_HEADERS = {"Cache-Control": "no-store"}
"""Headers of a response with a secret: no cache keeps it."""


@dataclass(kw_only=True, slots=True)
class WebhookEndpointApi:
    """The routes of endpoints. A client sees its own, an admin all."""

    service: EndpointService
    missed: MissedReplay
    tester: EndpointTester
    clock: Clock
    turns: PageTurns
    bodies: BodyReader
    _testing: set[str] = field(init=False, default_factory=set)
    _replaying: set[str] = field(init=False, default_factory=set)

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/v1/endpoints", get=self.list_endpoints, post=self.create),
            route("/v1/endpoints/{id}", get=self.show, patch=self.change, delete=self.remove),
            route("/v1/endpoints/{id}/rotate", post=self.rotate),
            route("/v1/endpoints/{id}/test", post=self.test),
            route("/v1/endpoints/{id}/replay", post=self.replay),
        ]

    async def list_endpoints(self, request: Request) -> Response:
        """List endpoints, newest first; an admin may ask for those of one client."""
        query = QueryParams(request, "client", "limit", "cursor")
        client = query.text("client")
        limit = query.integer("limit", 50, minimum=1, maximum=MAX_ROWS)
        cursor = query.cursor("endpoint")
        query.reject_errors()
        caller = caller_of(request)
        if client is not None and not caller.sees(client):
            raise InvalidParams([Fault(loc=("query", "client"), msg="only an admin may name another client")])

        async def read(count: int, after: str | None) -> list[Endpoint]:
            return await self.service.listed(client=client or caller.scope, limit=count, cursor=after)

        now = self.clock.now()
        async with self.turns.turn(caller.name) as pause:
            return await page_response(
                "endpoint",
                read,
                lambda endpoint: endpoint_object(endpoint, caller, now),
                limit=limit,
                cursor=cursor,
                pause=pause,
            )

    async def create(self, request: Request) -> Response:
        """Create an endpoint: respond 201 with it and its secret, which is never shown again."""
        body = validated(EndpointRequest, await self._json(request))
        caller = caller_of(request)
        fields = given(body)
        endpoint, secret = await self.service.create(NewEndpoint(client=caller.name, **fields))
        setattr(request.state, DETAIL, endpoint.id)
        shown = endpoint_object(endpoint, caller, self.clock.now()) | {"secret": secret}
        return json_response(
            shown, status=HTTPStatus.CREATED, headers={"Location": f"/v1/endpoints/{endpoint.id}", **SECRET_HEADERS}
        )

    async def show(self, request: Request) -> Response:
        """Show one endpoint."""
        QueryParams(request).reject_errors()
        return self._response(request, await self._visible(request))

    async def change(self, request: Request) -> Response:
        """Change the fields that are given; respond with the endpoint."""
        fields = given(validated(EndpointPatch, await self._json(request)))
        if fields.get("disabled"):
            raise InvalidParams([Fault(loc=("disabled",), msg=ONLY_ENABLE)])
        endpoint = await self._visible(request)
        return self._response(request, await self.service.change(endpoint, EndpointChanges(given=fields)))

    async def remove(self, request: Request) -> Response:
        """Delete an endpoint; what waits for it is dropped."""
        QueryParams(request).reject_errors()
        await self.service.remove((await self._visible(request)).id)
        return Response(status_code=HTTPStatus.NO_CONTENT)

    async def rotate(self, request: Request) -> Response:
        """Replace the secret: respond with the endpoint and the new one, which is never shown again."""
        fields = given(validated(RotateRequest, await read_optional_json(self.bodies, request)))
        overlap = timedelta(seconds=fields.get("overlap_seconds", DEFAULT_OVERLAP))
        endpoint, secret = await self.service.rotate(await self._visible(request), fields.get("secret"), overlap)
        shown = endpoint_object(endpoint, caller_of(request), self.clock.now()) | {"secret": secret}
        return json_response(shown, headers=SECRET_HEADERS)

    async def test(self, request: Request) -> Response:
        """Send one test event now, also to a paused or disabled endpoint; respond with what became of it."""
        QueryParams(request).reject_errors()
        endpoint, caller = await self._visible(request), caller_of(request)
        with _one_at_a_time(self._testing, caller.name, "a test of this client is running: wait for it"):
            result = await self.tester.send(endpoint)
        return json_response(test_object(result, caller))

    async def replay(self, request: Request) -> Response:
        """Replay the events that the endpoint has not got since a time, or count them."""
        fields = given(validated(MissedRequest, await self._json(request)))
        since, until = fields["since"], fields.get("until")
        cursor = self._cursor(fields.get("cursor"))
        if since >= (until or self.clock.now()):
            raise InvalidParams([Fault(loc=("since",), msg="must be before now and before until")])
        endpoint, name = await self._visible(request), caller_of(request).name
        with _one_at_a_time(self._replaying, name, "a replay of this client is running: wait for it"):
            report = await self.missed.run(
                endpoint, since=since, until=until, cursor=cursor, dry_run=fields.get("dry_run", False)
            )
        counts = {"created": report.created, "replayed": report.replayed}
        setattr(request.state, DETAIL, None if report.dry_run else counts_text(counts.items()))
        return json_response(missed_object(report))

    def _cursor(self, text: str | None) -> MissedCursor | None:
        if text is None:
            return None
        row_id = row_id_of(KIND, text)
        found = read_missed_cursor(row_id, self.clock.now()) if row_id else None
        if found is None:
            raise InvalidParams([Fault(loc=("cursor",), msg="is not a next_cursor of a replay: start without it")])
        return found

    async def _json(self, request: Request) -> object:
        """Return the JSON body of a request without query parameters."""
        QueryParams(request).reject_errors()
        require_json(request)
        async with self.bodies.read(request) as body:
            return parse_json(body)

    async def _visible(self, request: Request) -> Endpoint:
        """Return the endpoint of the path; raises NotFound for an unknown one and for that of another client."""
        endpoint = await self.service.get(path_id(request))
        if not caller_of(request).sees(endpoint.client):
            raise NotFound("there is no such endpoint")
        return endpoint

    def _response(self, request: Request, endpoint: Endpoint) -> Response:
        return json_response(endpoint_object(endpoint, caller_of(request), self.clock.now()))


@contextmanager
def _one_at_a_time(running: set[str], client: str, reason: str) -> Iterator[None]:
    """Run the block for one request of a client at a time; raises Conflict with `reason` for another one."""
    if client in running:
        raise Conflict(reason)
    running.add(client)
    try:
        yield
    finally:
        running.discard(client)
