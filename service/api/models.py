"""The models that can be asked for, and the round that a cron job can ring for."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.query_params import QueryParams
from service.api.responses import json_response
from service.api.routing import route
from service.domain.errors import NotFound
from service.domain.models.catalog import known_models
from service.domain.models.json_schema import json_schema
from service.domain.task import Json


class ModelApi:
    """Answers everything under `/v1/models`."""

    def __init__(self, *, allow_off_peak: bool) -> None:
        self._allow_off_peak = allow_off_peak

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/v1/models", get=self.list_models), route("/v1/models/{id}", get=self.show)]

    async def list_models(self, request: Request) -> Response:
        """List the models with their parameters as JSON Schema."""
        QueryParams(request).done()
        return json_response({"data": [self._model(name) for name in known_models()]})

    async def show(self, request: Request) -> Response:
        """Show one model."""
        QueryParams(request).done()
        name = str(request.path_params["id"])
        if name not in known_models():
            raise NotFound(f"there is no such model; known are {', '.join(known_models())}")
        return json_response(self._model(name))

    def _model(self, name: str) -> Json:
        return {"id": name, "parameters": json_schema(name, allow_off_peak=self._allow_off_peak)}
