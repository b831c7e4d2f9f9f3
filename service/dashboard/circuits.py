"""The page of circuits, for admins: destinations that fail or have asked to wait, and closing one by hand."""

from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.circuits import circuit_object, close_circuit, destination_text
from service.api.query_params import QueryParams
from service.dashboard.forms import Form
from service.dashboard.layout import Layout, Page

PATH = "/deliveries/circuits"
MAX_SHOWN = 200


@dataclass(frozen=True, kw_only=True)
class CircuitsPage:
    """The page at `/deliveries/circuits`."""

    layout: Layout
    services: Services

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            self.layout.route(PATH, get=self.show, admins_only=True),
            self.layout.route(PATH + "/{key}", post=self.close, admins_only=True),
        ]

    async def show(self, request: Request, _: Caller) -> Page:
        """Show the destinations for which deliveries wait, MAX_SHOWN at most."""
        QueryParams(request, "format").reject_errors()
        found = await self.services.circuits.listed(limit=MAX_SHOWN, after=None)
        rows = [circuit_object(each) | {"destination": destination_text(each)} for each in found]
        return Page(template="circuits.html", title="Circuits", values={"rows": rows}, data={"data": rows})

    async def close(self, request: Request, caller: Caller, _: Form) -> Response:
        """Close the circuit of a destination: what waits is due at once."""
        key = str(request.path_params["key"])
        async with self.layout.recording(caller, "circuit.close", key) as note:
            circuit = await close_circuit(self.services.circuits, key, self.layout.now())
            note.detail = destination = destination_text(circuit)
        return self.layout.done(request, PATH, f"The circuit of {destination} is closed: what waits is due now.")
