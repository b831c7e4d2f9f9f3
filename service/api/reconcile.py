"""The API's address for cron jobs: one pass over everything that is due."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.authentication import require_admin
from service.api.ports import SinglePassRunner
from service.api.query_params import QueryParams
from service.api.responses import json_response
from service.api.routing import route

PASS_LIMIT = timedelta(minutes=1)
"""How long a round that was asked for goes on beginning work; what is left is for the next one."""


class ReconcileApi:
    """Answers `/v1/reconcile`."""

    def __init__(self, single_pass: SinglePassRunner) -> None:
        self._rounds = single_pass

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/v1/reconcile", post=self.reconcile)]

    async def reconcile(self, request: Request) -> Response:
        """Run one full round of submit, poll and dispatch; only for an admin."""
        require_admin(request)
        QueryParams(request).reject_errors()
        return json_response(dict(await self._rounds.reconcile_once(begin_for=PASS_LIMIT)))
