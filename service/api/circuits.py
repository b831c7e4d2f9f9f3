"""The address `/v1/circuits`: destinations for which deliveries wait, for admins."""

from dataclasses import dataclass
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import require_admin
from service.api.endpoints import json_response, route
from service.api.query_params import MAX_ROWS, QueryParams, cursor_of
from service.domain.circuit import Circuit
from service.domain.ports.circuits import Circuits
from service.domain.task import Json
from service.domain.task_view import rfc3339

FIELDS = ("key", "handler", "host", "client", "state", "failures", "failing_since", "opened_at", "retry_at", "probes")
KIND = "circuit"


@dataclass(kw_only=True, slots=True)
class CircuitApi:
    """The endpoint of circuits."""

    circuits: Circuits

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/v1/circuits", get=self.list_circuits)]

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


def circuit_object(circuit: Circuit) -> Json:
    """Return a circuit as the API shows it."""
    plain = {name: getattr(circuit, name) for name in FIELDS} | {"last_error": circuit.last_error}
    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in plain.items()}
