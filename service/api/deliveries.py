"""The endpoints of deliveries: list, show, replay."""

from dataclasses import dataclass, field
from typing import Literal, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.audit import DETAIL
from service.api.authentication import caller_of
from service.api.delivery_views import delivery_object
from service.api.endpoints import json_response, route
from service.api.pages import PageTurns, page_response
from service.api.ports import DeliveryLookup
from service.api.problems import NOT_REQUESTED, ProblemError
from service.api.query_params import MAX_ROWS, QueryParams, path_id
from service.api.replays import replay_request, replay_text, report_object
from service.api.request_bodies import BodyReader, require_json
from service.api.request_context import TASK
from service.api.request_work import RequestWork
from service.api.window_reader import delivery_reader
from service.domain.errors import Conflict, Fault, InvalidParams, NotFound
from service.domain.ports.deliveries import DeliverySelection, DeliveryView
from service.domain.ports.queues import ResponsibleParty
from service.domain.ports.replays import Replayer
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import TaskQueries
from service.domain.strict_json import parse_json
from service.domain.task import Json
from service.tasks.bulk_replay import BulkReplay

DeliveryStatus = Literal["pending", "delivered", "dead"]
STATUSES: tuple[DeliveryStatus, ...] = get_args(DeliveryStatus)
FAULTS: tuple[ResponsibleParty, ...] = get_args(ResponsibleParty)

RUNNING = "an attempt of the delivery is running now"
ERASED = "its task was erased: there is nothing left to deliver"
SECRET_DELETED = "its secret was deleted with the last delivery of the task: it can no longer be signed"  # noqa: S105
NOT_REPLAYED = {"running": RUNNING, "erased": ERASED}


@dataclass(kw_only=True, slots=True)
class DeliveryApi:
    """The endpoints under `/v1/deliveries`."""

    queries: TaskQueries
    lookup: DeliveryLookup
    replayer: Replayer
    clock: Clock
    turns: PageTurns
    bodies: BodyReader
    work: RequestWork
    _bulk: BulkReplay = field(init=False)

    def __post_init__(self) -> None:
        self._bulk = BulkReplay(replays=self.replayer, clock=self.clock)

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/v1/deliveries", get=self.list_deliveries),
            route("/v1/deliveries/replay", post=self.replay_many),
            route("/v1/deliveries/{id}", get=self.show),
            route("/v1/deliveries/{id}/replay", post=self.replay),
        ]

    async def list_deliveries(self, request: Request) -> Response:
        """List deliveries, newest first."""
        query = QueryParams(request, "status", "handler", "fault", "limit", "cursor")
        status, handler = query.choice("status", STATUSES), query.text("handler")
        fault = query.choice("fault", FAULTS)
        limit = query.integer("limit", 50, minimum=1, maximum=MAX_ROWS)
        cursor = query.cursor("delivery")
        query.reject_errors()
        if fault is not None and status not in {None, "dead"}:
            raise InvalidParams([Fault(loc=("query", "fault"), msg="is for dead letters: give status=dead, or none")])
        caller = caller_of(request)
        wanted = DeliverySelection(client=caller.scope, status=status, handler=handler, fault=fault, cursor=cursor)
        reader = delivery_reader(self.queries, wanted)

        def render(found: DeliveryView) -> Json:
            return delivery_object(found, caller)

        async with self.turns.turn(caller.name) as pause:
            return await page_response(
                "delivery", reader.read, render, limit=limit, cursor=cursor, pause=pause, rest=reader.rest
            )

    async def show(self, request: Request) -> Response:
        """Show one delivery."""
        QueryParams(request).reject_errors()
        return json_response(delivery_object(await self._visible(request), caller_of(request)))

    async def replay(self, request: Request) -> Response:
        """Replay one delivery, or try a pending one now: respond 202 with the delivery after that.

        A client replays only what a `notify` entry of its own task asked for.
        """
        QueryParams(request).reject_errors()
        delivery = await self._visible(request)
        if not (delivery.requested or caller_of(request).admin):
            raise ProblemError(NOT_REQUESTED)
        outcomes = await self.replayer.replay([delivery.id], now=self.clock.now())
        if outcomes.get(delivery.id) != "replayed":
            raise Conflict(NOT_REPLAYED.get(outcomes.get(delivery.id, ""), SECRET_DELETED))
        await self.work.drive(delivery.task_id)
        return json_response(delivery_object(await self._visible(request), caller_of(request)), status=202)

    async def replay_many(self, request: Request) -> Response:
        """Replay the deliveries that a filter selects, or count them: respond with the counts."""
        QueryParams(request).reject_errors()
        require_json(request)
        async with self.bodies.read(request) as body:
            data = parse_json(body)
        caller = caller_of(request)
        wanted = replay_request(data, caller, self.clock.now())
        report = await self._bulk.run(wanted.wanted, cursor=wanted.cursor, dry_run=wanted.dry_run, caller=caller.name)
        setattr(request.state, DETAIL, None if wanted.dry_run else replay_text(wanted.wanted, report))
        return json_response(report_object(report))

    async def _visible(self, request: Request) -> DeliveryView:
        """Return the delivery of the path; raises NotFound for an unknown one and for that of another client."""
        delivery = await self.lookup.delivery(path_id(request))
        if delivery is None or not caller_of(request).sees(delivery.client):
            raise NotFound("there is no such delivery")
        request.scope["state"][TASK] = delivery.task_id
        return delivery
