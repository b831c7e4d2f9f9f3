"""The deliveries of the API: dead letters and their replay."""

from typing import Literal, get_args

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import caller_of
from service.api.ports import DeliveryLookup, Replayer
from service.api.query_params import MOST_ROWS, QueryParams, cursor_of, path_id
from service.api.request_context import TASK
from service.api.responses import delivery_object, json_response, page_answer
from service.api.routing import route
from service.domain.errors import Conflict, NotFound
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import DeliveryView, TaskQueries

DeliveryStatus = Literal["pending", "delivered", "dead"]
STATUSES: tuple[DeliveryStatus, ...] = get_args(DeliveryStatus)


class DeliveryApi:
    """Answers everything under `/v1/deliveries`."""

    def __init__(self, queries: TaskQueries, lookup: DeliveryLookup, replayer: Replayer, clock: Clock) -> None:
        self._queries = queries
        self._lookup = lookup
        self._replayer = replayer
        self._clock = clock

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/v1/deliveries", get=self.list_deliveries),
            route("/v1/deliveries/{id}", get=self.show),
            route("/v1/deliveries/{id}/replay", post=self.replay),
        ]

    async def list_deliveries(self, request: Request) -> Response:
        """List deliveries, newest first."""
        query = QueryParams(request, "status", "handler", "limit", "cursor")
        status, handler = query.choice("status", STATUSES), query.text("handler")
        limit = query.whole("limit", 50, minimum=1, maximum=MOST_ROWS)
        cursor = query.cursor("delivery")
        query.done()
        found = await self._queries.deliveries(
            client=caller_of(request).scope, status=status, handler=handler, limit=limit + 1, cursor=cursor
        )
        more = cursor_of("delivery", found[limit - 1].id) if len(found) > limit else None
        return page_answer([delivery_object(each) for each in found[:limit]], more)

    async def show(self, request: Request) -> Response:
        """Show one delivery."""
        QueryParams(request).done()
        return json_response(delivery_object(await self._owned(request)))

    async def replay(self, request: Request) -> Response:
        """Put one delivery through again: 202 with the delivery as it is now."""
        QueryParams(request).done()
        delivery = await self._owned(request)
        if not await self._replayer.replay([delivery.id], now=self._clock.now()):
            raise Conflict("the delivery is still pending: only a dead or delivered one can be replayed")
        return json_response(delivery_object(await self._owned(request)), status=202)

    async def _owned(self, request: Request) -> DeliveryView:
        """Return the delivery in the path; raises NotFound for an unknown one and for another client's."""
        delivery = await self._lookup.delivery(path_id(request))
        if delivery is None or not caller_of(request).sees(delivery.client):
            raise NotFound("there is no such delivery")
        request.scope["state"][TASK] = delivery.task_id
        return delivery
