"""The list of deliveries: dead letters first, with their attempts, and the replay of one."""

from dataclasses import dataclass
from urllib.parse import urlencode

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.deliveries import FAULTS, RUNNING, SECRET_DELETED, STATUSES
from service.api.delivery_views import delivery_object, history_object
from service.api.problems import NOT_REQUESTED, ProblemError
from service.api.query_params import QueryParams, cursor_of, path_id
from service.api.window_reader import delivery_reader
from service.dashboard.forms import Form
from service.dashboard.layout import Layout, Page
from service.dashboard.request_checks import own_path
from service.domain.errors import Conflict, Fault, InvalidParams, NotFound
from service.domain.ports.deliveries import DeliverySelection, DeliveryView
from service.domain.ports.delivery_details import DeliveryDetail, DeliveryDetails
from service.domain.task import Json
from service.domain.task_view import rfc3339

ROWS = 50
ALL = "all"
TABS = (("dead", "Dead letters"), ("pending", "Waiting"), ("delivered", "Delivered"), (ALL, "All"))


@dataclass(frozen=True, kw_only=True)
class DeliveryFilter:
    """The filters of the list: `client` None for all that the caller may see; the names are those in the address.

    `endpoint` is the id of an endpoint.
    """

    status: str = "dead"
    handler: str | None = None
    client: str | None = None
    fault: str | None = None
    endpoint: str | None = None

    def address(self, path: str = "/deliveries", **more: str | None) -> str:
        """Return the address of the list, or another `path`, with these filters and `more` parameters."""
        pairs = {**vars(self), **more}
        given = {name: value for name, value in pairs.items() if value and (name, value) != ("status", "dead")}
        return f"{path}?{urlencode(given)}" if given else path


def read_filter(query: QueryParams, request: Request, caller: Caller) -> DeliveryFilter:
    """Return the filters in the query; empty ones count as left out. Raises InvalidParams for another's client."""

    def text(name: str) -> str | None:
        return query.text(name) if request.query_params.get(name) else None

    client = text("client")
    if client is not None and not caller.sees(client):
        raise InvalidParams([Fault(loc=("query", "client"), msg="only an admin may name another client")])
    status = query.choice("status", [*STATUSES, ALL]) or "dead"
    fault = query.choice("fault", FAULTS) if request.query_params.get("fault") else None
    return DeliveryFilter(
        status=status,
        handler=text("handler"),
        client=client,
        fault=fault if status == "dead" else None,
        endpoint=text("endpoint"),
    )


@dataclass(frozen=True, kw_only=True)
class DeliveriesPage:
    """The page at `/deliveries`."""

    layout: Layout
    services: Services
    details: DeliveryDetails

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            self.layout.route("/deliveries", get=self.show),
            self.layout.route("/deliveries/{id}/replay", post=self.replay),
        ]

    async def show(self, request: Request, caller: Caller) -> Page:
        """Show one page of deliveries, newest first."""
        query = QueryParams(request, "status", "handler", "client", "fault", "endpoint", "cursor", "format")
        wanted, cursor = read_filter(query, request, caller), query.cursor("delivery")
        query.reject_errors()
        selection = DeliverySelection(
            client=wanted.client or caller.scope,
            status=None if wanted.status == ALL else wanted.status,
            handler=wanted.handler,
            fault=wanted.fault,
            endpoint_id=wanted.endpoint,
            cursor=cursor,
        )
        reader = delivery_reader(self.services.queries, selection)
        found = await reader.read(ROWS + 1, cursor)
        rows = found[:ROWS]
        details = await self.details.details([row.id for row in rows]) if rows else {}
        position = rows[-1].id if len(found) > ROWS else reader.rest()
        more = cursor_of("delivery", position) if position else None
        shown = [_shown(row, details.get(row.id), caller) for row in rows]
        values = {
            "rows": shown,
            "filter": wanted,
            "tabs": [(key, name, DeliveryFilter(**{**vars(wanted), "status": key}).address()) for key, name in TABS],
            "more": wanted.address(cursor=more) if more else None,
            "here": wanted.address(cursor=request.query_params.get("cursor")),
            "may_replay": not caller.read_only,
        }
        data: Json = {"data": shown, "next_cursor": more}
        return Page(template="deliveries.html", title="Deliveries", values=values, data=data)

    async def replay(self, request: Request, caller: Caller, form: Form) -> Response:
        """Replay one delivery, or try a pending one now."""
        delivery = await self.services.deliveries.delivery(path_id(request))
        if delivery is None or not caller.sees(delivery.client):
            raise NotFound("there is no such delivery")
        if not (delivery.requested or caller.admin):
            raise ProblemError(NOT_REQUESTED)
        async with self.layout.recording(caller, "delivery.replay", delivery.id):
            outcomes = await self.services.replayer.replay([delivery.id], now=self.layout.now())
            if outcomes.get(delivery.id) != "replayed":
                raise Conflict(RUNNING if outcomes.get(delivery.id) == "running" else SECRET_DELETED)
        await self.services.work.drive(delivery.task_id)
        text = f"The delivery of {delivery.event_type} to {delivery.handler} is tried again now."
        return self.layout.done(request, own_path(form.get("back"), "/deliveries"), text)


def _shown(row: DeliveryView, detail: DeliveryDetail | None, caller: Caller) -> Json:
    """Return a delivery for `caller`, as the API shows it, with its host and its last attempts."""
    tried = detail.attempts if detail else ()
    attempts = [
        history_object(
            {
                **vars(each),
                "kind": "attempt",
                "requested": row.requested,
                "started_at": rfc3339(each.started_at),
                "finished_at": rfc3339(each.finished_at),
                "seconds": round((each.finished_at - each.started_at).total_seconds(), 3),
            },
            caller,
        )
        for each in tried
    ]
    host = detail.host if detail and (row.requested or caller.sees_all) else None
    return {
        **delivery_object(row, caller),
        "host": host,
        "message_id": detail.message_id if detail else None,
        "attempted": detail.attempted if detail else row.attempts,
        "last_attempts": attempts,
    }
