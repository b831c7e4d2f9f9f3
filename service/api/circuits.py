"""The address `/v1/circuits`: destinations for which deliveries wait, for admins."""

from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.audit import DETAIL
from service.api.authentication import require_admin
from service.api.endpoints import json_response, route
from service.api.query_params import MAX_ROWS, QueryParams, cursor_of
from service.domain.circuit import Circuit
from service.domain.errors import NotFound
from service.domain.ports.circuits import Circuits
from service.domain.ports.signals import Clock
from service.domain.task import Json
from service.domain.task_view import rfc3339

FIELDS = ("key", "handler", "host", "client", "state", "failures", "failing_since", "opened_at", "retry_at", "probes")
KIND = "circuit"


@dataclass(kw_only=True, slots=True)
class CircuitApi:
    """The endpoints of circuits."""

    circuits: Circuits
    clock: Clock

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [
            route("/v1/circuits", get=self.list_circuits),
            route("/v1/circuits/{key}/close", post=self.close),
        ]

    async def list_circuits(self, request: Request) -> Response:
        """List the destinations that fail or have asked to wait."""
        require_admin(request)
        query = QueryParams(request, "limit", "cursor")
        limit = query.integer("limit", 50, minimum=1, maximum=MAX_ROWS)
        after = query.cursor(KIND)
        query.reject_errors()
        found = await self.circuits.listed(limit=limit + 1, after=after)
        page = found[:limit]
        following = cursor_of(KIND, page[-1].key) if len(found) > limit else None
        return json_response({"data": [circuit_object(each) for each in page], "next_cursor": following})

    async def close(self, request: Request) -> Response:
        """Close a circuit: what waits for its destination is due at once."""
        require_admin(request)
        QueryParams(request).reject_errors()
        circuit = await close_circuit(self.circuits, str(request.path_params["key"]), self.clock.now())
        setattr(request.state, DETAIL, destination_text(circuit))
        return json_response(circuit_object(circuit))


async def close_circuit(circuits: Circuits, key: str, now: datetime) -> Circuit:
    """Close a circuit and return it; raises NotFound for an unknown one."""
    circuit = await circuits.close(key, now=now)
    if circuit is None:
        raise NotFound("there is no such circuit: its destination works, or nothing waits for it any more")
    return circuit


def destination_text(circuit: Circuit) -> str:
    """Return what a circuit is of, for a person."""
    return f"{circuit.host} of {circuit.client}" if circuit.host else f"the handler {circuit.handler}"


def circuit_object(circuit: Circuit) -> Json:
    """Return a circuit as the API shows it."""
    plain = {name: getattr(circuit, name) for name in FIELDS} | {"last_error": circuit.last_error}
    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in plain.items()}
