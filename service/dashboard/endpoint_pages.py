"""The pages of endpoints: the list with their health, one endpoint, and a new one."""

from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.endpoint_views import endpoint_object, shows_address
from service.api.query_params import QueryParams, cursor_of, path_id
from service.dashboard.endpoint_forms import ADMIN_EVENTS, EVENTS, OVERLAPS, EndpointForm, form_of, read_form, values_of
from service.dashboard.forms import Form
from service.dashboard.layout import Layout, Page
from service.dashboard.plots import attempt_strip
from service.domain.endpoint import Endpoint
from service.domain.errors import Conflict, Fault, InvalidParams, NotFound
from service.domain.task import Json
from service.tasks.endpoints import NewEndpoint

ROWS = 50
ADDED = (
    "An endpoint was added since this form was opened, maybe by sending it twice: look at the list, then send it again."
)


@dataclass(frozen=True, kw_only=True)
class EndpointPages:
    """The pages at `/endpoints`."""

    layout: Layout
    services: Services

    def routes(self) -> list[Route]:
        """Return their routes."""
        return [
            self.layout.route("/endpoints", get=self.show, post=self.create),
            self.layout.route("/endpoints/{id}", get=self.show_one),
        ]

    async def show(self, request: Request, caller: Caller) -> Page:
        """Show one page of endpoints, newest first, and the form for a new one."""
        query = QueryParams(request, "client", "cursor", "format")
        client = query.text("client") if request.query_params.get("client") else None
        cursor = query.cursor("endpoint")
        query.reject_errors()
        if client is not None and not caller.sees(client):
            raise InvalidParams([Fault(loc=("query", "client"), msg="only an admin may name another client")])
        return await self._list(caller, EndpointForm(), client=client, cursor=cursor)

    async def create(self, _: Request, caller: Caller, form: Form) -> Page | Response:
        """Create an endpoint and show its secret, once."""
        sent = read_form(form)
        try:
            await self._refuse_second(caller, form)
            new = NewEndpoint(client=caller.name, **values_of(sent))
            async with self.layout.recording(caller, "endpoint.create") as note:
                endpoint, secret = await self.services.endpoints.create(new)
                note.target = endpoint.id
        except InvalidParams as invalid:
            return await self._list(caller, sent.with_faults(invalid.faults), status=HTTPStatus.UNPROCESSABLE_ENTITY)
        except Conflict as conflict:
            fault = Fault(loc=(), msg=str(conflict))
            return await self._list(caller, sent.with_faults([fault]), status=HTTPStatus.CONFLICT)
        return self.one(endpoint, caller, secret=secret, status=HTTPStatus.CREATED)

    async def show_one(self, request: Request, caller: Caller) -> Page:
        """Show one endpoint and what can be done with it."""
        QueryParams(request, "format").reject_errors()
        return self.one(await self.visible(request, caller), caller)

    async def visible(self, request: Request, caller: Caller) -> Endpoint:
        """Return the endpoint of the path; raises NotFound for an unknown one and for that of another client."""
        endpoint = await self.services.endpoints.get(path_id(request))
        if not caller.sees(endpoint.client):
            raise NotFound("there is no such endpoint")
        return endpoint

    def one(
        self,
        endpoint: Endpoint,
        caller: Caller,
        form: EndpointForm | None = None,
        *,
        secret: str | None = None,
        status: int = 200,
    ) -> Page:
        """Return the page of an endpoint; `secret` is shown on it alone, never in its JSON."""
        data = endpoint_object(endpoint, caller, self.layout.now())
        values = {
            "endpoint": data,
            "state": state_of(endpoint),
            "strip": attempt_strip(endpoint.health.recent),
            "form": form or form_of(endpoint),
            "events": ADMIN_EVENTS if caller.admin else EVENTS,
            "overlaps": OVERLAPS,
            "own": shows_address(endpoint, caller),
            "secret": secret,
            "stamp": endpoint.updated_at.isoformat(),
        }
        title = endpoint.description or data["url"].partition("?")[0]  # browsers keep titles, and a query may be secret
        return Page(template="endpoint.html", title=title, values=values, data=data, status=status)

    async def _list(
        self,
        caller: Caller,
        form: EndpointForm,
        *,
        client: str | None = None,
        cursor: str | None = None,
        status: int = 200,
    ) -> Page:
        found = await self.services.endpoints.listed(client=client or caller.scope, limit=ROWS + 1, cursor=cursor)
        rows, now = found[:ROWS], self.layout.now()
        more = cursor_of("endpoint", rows[-1].id) if len(found) > ROWS else None
        shown = [endpoint_object(row, caller, now) for row in rows]
        values = {
            "rows": [
                (data, state_of(row), attempt_strip(row.health.recent)) for data, row in zip(shown, rows, strict=True)
            ],
            "form": form,
            "events": ADMIN_EVENTS if caller.admin else EVENTS,
            "client": client,
            "newest": await self._newest(caller),
            "more": f"/endpoints?cursor={more}" + (f"&client={client}" if client else "") if more else None,
        }
        data: Json = {"data": shown, "next_cursor": more}
        return Page(template="endpoints.html", title="Endpoints", values=values, data=data, status=status)

    async def _refuse_second(self, caller: Caller, form: Form) -> None:
        """Raise Conflict for a form that was sent before."""
        if form.get("newest") != await self._newest(caller):
            raise Conflict(ADDED)

    async def _newest(self, caller: Caller) -> str:
        """Return the id of the newest endpoint of the caller: a form that is sent twice finds another one."""
        found = await self.services.endpoints.listed(client=caller.name, limit=1, cursor=None)
        return found[0].id if found else ""


def state_of(endpoint: Endpoint) -> str:
    """Return `disabled`, `paused` or `active`."""
    return "disabled" if endpoint.disabled_at else "paused" if endpoint.paused else "active"
