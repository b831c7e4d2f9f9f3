"""The endpoint of cron jobs: a single pass over everything that is due."""

from dataclasses import dataclass
from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import require_admin
from service.api.endpoints import json_response, route
from service.api.ports import SinglePassRunner
from service.api.query_params import QueryParams

PASS_LIMIT = timedelta(minutes=1)
"""How long a requested pass starts new work; the next pass does the rest."""


@dataclass(slots=True)
class ReconcileApi:
    """The endpoint `/v1/reconcile`."""

    single_pass: SinglePassRunner

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/v1/reconcile", post=self.reconcile)]

    async def reconcile(self, request: Request) -> Response:
        """Run a single pass of submit, poll and dispatch; only for an admin."""
        require_admin(request)
        QueryParams(request).reject_errors()
        return json_response(dict(await self.single_pass.reconcile_once(start_within=PASS_LIMIT)))
