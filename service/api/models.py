"""The endpoints of models."""

from collections.abc import Sequence
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.endpoints import json_response, route
from service.api.query_params import QueryParams
from service.domain.errors import NotFound
from service.domain.models.json_schema import json_schema
from service.domain.task import Json

OWNER = "vidu"
"""Who made all models that are known here, whichever provider runs them."""


@dataclass(kw_only=True, slots=True)
class ModelApi:
    """The endpoints under `/v1/models`; `models` are those that the provider can run."""

    allow_off_peak: bool
    models: Sequence[str]

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/v1/models", get=self.list_models), route("/v1/models/{id}", get=self.show)]

    async def list_models(self, request: Request) -> Response:
        """List the models with their parameters as JSON Schema."""
        QueryParams(request).reject_errors()
        return json_response({"object": "list", "data": [self._model(name) for name in self.models]})

    async def show(self, request: Request) -> Response:
        """Show one model; raises NotFound for an unknown one."""
        QueryParams(request).reject_errors()
        name = str(request.path_params["id"])
        if name not in self.models:
            raise NotFound(f"there is no such model; known are {', '.join(self.models)}")
        return json_response(self._model(name))

    def _model(self, name: str) -> Json:
        parameters = json_schema(name, allow_off_peak=self.allow_off_peak)
        return {"id": name, "object": "model", "owned_by": OWNER, "parameters": parameters}
