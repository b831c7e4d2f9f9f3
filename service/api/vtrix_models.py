"""The provider's list of models and their specifications, for clients that read those before they submit."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.endpoints import json_response, route
from service.api.query_params import MAX_INTEGER, QueryParams
from service.api.vtrix_tasks import CREATE_PATH
from service.domain.errors import NotFound
from service.domain.models.catalog import MODELS
from service.domain.models.json_schema import json_schema
from service.domain.task import Json

LIST_PATH = "/api/v1/skill/models"
PAGE_SIZE, MAX_PAGE_SIZE = 20, 100
VENDOR = "vidu"
CONSTRAINTS = {
    "minimum": "min",
    "maximum": "max",
    "minLength": "min_length",
    "maxLength": "max_length",
    "maxItems": "max_items",
}
"""The provider's name of each limit in JSON Schema."""

MODALITIES = {"prompt": "text", "images": "image", "subjects": "image", "videos": "video"}
"""What a parameter takes."""


@dataclass(kw_only=True, slots=True)
class VtrixModelApi:
    """`GET /api/v1/skill/models` and `GET /api/v1/skill/models/{id}/spec`.

    `models` are those that the provider can run. `public_url` is the beginning of the address to submit to, None for
    that of the request.
    """

    allow_off_peak: bool
    models: Sequence[str]
    public_url: str | None

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route(LIST_PATH, get=self.list_models), route(f"{LIST_PATH}/{{id}}/spec", get=self.spec)]

    async def list_models(self, request: Request) -> Response:
        """List the models of a `type` that have every word of `keywords`."""
        query = QueryParams(request, "type", "keywords", "page", "page_size", lenient=True)
        kind, words = query.text("type"), (query.text("keywords") or "").lower().split()
        page = query.integer("page", 1, minimum=1, maximum=MAX_INTEGER)
        size = query.integer("page_size", PAGE_SIZE, minimum=1, maximum=MAX_PAGE_SIZE)
        query.reject_errors()
        listed = [self._listed(name) for name in self.models]
        found = [each for each in listed if kind in {None, each["type"]} and _has(each, words)]
        counts = {"total": len(found), "page": page, "page_size": size, "total_pages": ceil(len(found) / size)}
        return _enveloped({"models": found[(page - 1) * size : page * size], **counts})

    async def spec(self, request: Request) -> Response:
        """Show the specification of a model; raises NotFound for an unknown one."""
        name = str(request.path_params["id"])
        if name not in self.models:
            raise NotFound("model not found")
        base = (self.public_url or str(request.base_url)).rstrip("/")
        schema: dict[str, Any] = json_schema(name, allow_off_peak=self.allow_off_peak)
        required = schema["required"]
        return _enveloped(
            {
                "model_id": name,
                "name": _title(name),
                "vendor": VENDOR,
                "type": _kind(name),
                "api": {
                    "endpoint": f"{base}{CREATE_PATH}",
                    "method": "POST",
                    "headers": {"Authorization": "Bearer YOUR_API_KEY", "Content-Type": "application/json"},
                },
                "parameters": [
                    parameter(each, schema["properties"][each], required=each in required)
                    for each in schema["properties"]
                ],
            }
        )

    def _listed(self, name: str) -> Json:
        schema: dict[str, Any] = json_schema(name, allow_off_peak=self.allow_off_peak)
        taken = [MODALITIES[each] for each in schema["properties"] if each in MODALITIES]
        return {
            "id": name,
            "name": _title(name),
            "type": _kind(name),
            "description": schema["description"],
            "input_modalities": sorted(set(taken)),
            "output_modalities": [_kind(name)],
        }


def parameter(name: str, schema: Json, *, required: bool, path: str = "input[0].params") -> Json:
    """Return one parameter as the provider's specifications describe it; defaults are texts there.

    The children of a list of objects are the properties of each of them. `path` leads to what has the parameter.
    """
    constraints = {new: schema[old] for old, new in CONSTRAINTS.items() if old in schema}
    if "enum" in schema:
        constraints["enum"] = schema["enum"]
    if "default" in schema:
        default = schema["default"]
        constraints["default"] = default if isinstance(default, str) else json.dumps(default)
    return {
        "name": name,
        "path": f"{path}.{name}",
        "type": schema["type"],
        "required": required,
        "description": schema["description"],
        "constraints": constraints,
        "example": None,
        "children": _children(schema.get("items", {}), f"{path}.{name}[0]"),
    }


def _children(items: Json, path: str) -> list[Json]:
    """Return the parameters that each object in a list has, none where the list has no objects."""
    needed = items.get("required", ())
    properties: Json = items.get("properties", {})
    return [parameter(name, each, required=name in needed, path=path) for name, each in properties.items()]


def _kind(name: str) -> str:
    return MODELS[name].produces


def _title(name: str) -> str:
    return name.replace("_", " ").title()


def _has(listed: Json, words: list[str]) -> bool:
    text = " ".join(str(listed[name]) for name in ("id", "name", "description")).lower()
    return all(word in text for word in words)


def _enveloped(data: Json) -> Response:
    return json_response({"status": {"code": 200, "message": "success"}, "data": data})
