"""The models that can be asked for, and the round that a cron job can ring for."""

from datetime import timedelta

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.core.task import Json
from service.domain.models.catalog import known_models
from service.domain.models.json_schema import json_schema
from service.errors import NotFound
from service.web.answers import json_answer
from service.web.keys import require_admin
from service.web.query import Query
from service.web.routing import route
from service.web.uses import Rounds

BEGIN_FOR = timedelta(minutes=1)
"""How long a round that was asked for goes on beginning work; what is left is for the next one."""


class ModelApi:
    """Answers everything under `/v1/models`."""

    def __init__(self, *, allow_off_peak: bool) -> None:
        self._allow_off_peak = allow_off_peak

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/v1/models", get=self.list_models), route("/v1/models/{id}", get=self.show)]

    async def list_models(self, request: Request) -> Response:
        """List the models with their parameters as JSON Schema."""
        Query(request).done()
        return json_answer({"data": [self._model(name) for name in known_models()]})

    async def show(self, request: Request) -> Response:
        """Show one model."""
        Query(request).done()
        name = str(request.path_params["id"])
        if name not in known_models():
            raise NotFound(f"there is no such model; known are {', '.join(known_models())}")
        return json_answer(self._model(name))

    def _model(self, name: str) -> Json:
        return {"id": name, "parameters": json_schema(name, allow_off_peak=self._allow_off_peak)}


class RoundApi:
    """Answers `/v1/reconcile`."""

    def __init__(self, rounds: Rounds) -> None:
        self._rounds = rounds

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/v1/reconcile", post=self.reconcile)]

    async def reconcile(self, request: Request) -> Response:
        """Run one full round of submit, poll and dispatch; only for an admin."""
        require_admin(request)
        Query(request).done()
        return json_answer(dict(await self._rounds.reconcile_once(begin_for=BEGIN_FOR)))
