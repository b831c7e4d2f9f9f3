"""Model list and model specifications of the gateway."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.sandbox.request_checks import MAX_PROMPT, RATIOS, RESOLUTIONS, VTRIX_MODEL
from service.sandbox.vtrix_models import MORE_PARAMETERS, VTRIX_MODELS, VtrixModel, parameter

LIST_PATH = "/api/v1/skill/models"
CREATE_PATH = "/model/v1/generation"

_NOT_FOUND = 404
_PAGE_SIZE, _MAX_PAGE_SIZE = 20, 100


PARAMETERS = (
    parameter("images", "array", "Image references.", required=True, max_items=7),
    parameter("videos", "array", "Video references.", max_items=2),
    parameter("prompt", "string", "Text prompt describing the video.", required=True, max_length=MAX_PROMPT),
    parameter("bgm", "boolean", "Whether to add background music.", default="false"),
    parameter("duration", "integer", "Seconds; 0 is automatic.", default="5", min=0, max=10),
    parameter("seed", "integer", "Random seed; 0 is random."),
    parameter("aspect_ratio", "string", "Aspect ratio.", default="16:9", enum=list(RATIOS)),
    parameter("resolution", "string", "Resolution.", default="720p", enum=list(RESOLUTIONS)),
    parameter("payload", "string", "Passed through.", max_length=1_048_576),
    parameter("off_peak", "boolean", "Off-peak mode; temporarily unavailable.", default="false"),
    parameter("watermark", "boolean", "Whether to add a watermark.", default="false"),
    parameter("wm_position", "integer", "Watermark position.", default="3", min=1, max=4),
    parameter("wm_url", "string", "Watermark image address."),
    parameter("meta_data", "string", "Metadata identifier."),
    parameter("callback_url", "string", "Callback address."),
)

ALL_PARAMETERS = {VTRIX_MODEL: PARAMETERS, **MORE_PARAMETERS}
_INPUTS = {"prompt": "text", "images": "image", "subjects": "image", "videos": "video"}


def _listed(model_id: str, model: VtrixModel) -> dict[str, Any]:
    names = [each["name"] for each in ALL_PARAMETERS[model_id]]
    return {
        "id": model_id,
        "name": model.name,
        "type": model.kind,
        "description": model.about,
        "input_modalities": [_INPUTS[name] for name in _INPUTS if name in names],
        "output_modalities": [model.kind],
    }


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelSpecs:
    """Serve the list of models and their specifications.

    `public_url` returns the base of the addresses in them, empty for the base address of the request.
    """

    public_url: Callable[[], str]

    def routes(self) -> list[Route]:
        """Return their routes."""
        return [Route(LIST_PATH, self.models), Route(f"{LIST_PATH}/{{model}}/spec", self.spec)]

    async def models(self, request: Request) -> Response:
        """Return a page of the models that match `type`, and every word of `keywords`."""
        query = request.query_params
        listed = [_listed(model_id, model) for model_id, model in VTRIX_MODELS.items()]
        found = [each for each in listed if _matches(query, each)]
        size = min(_MAX_PAGE_SIZE, _whole(query.get("page_size"), _PAGE_SIZE))
        page = _whole(query.get("page"), 1)
        shown = found[(page - 1) * size : page * size]
        counts = {"total": len(found), "page": page, "page_size": size, "total_pages": ceil(len(found) / size)}
        return _enveloped({"models": shown, **counts})

    async def spec(self, request: Request) -> Response:
        """Return the specification of the model, or 404 in the same envelope."""
        model_id = request.path_params["model"]
        if model_id not in VTRIX_MODELS:
            return not_found("model not found")
        base = self.public_url() or str(request.base_url)
        return _enveloped(_spec(model_id, f"{base.rstrip('/')}{CREATE_PATH}"))


def not_found(message: str) -> Response:
    """Return 404 in the envelope of the list and the specifications."""
    return JSONResponse({"status": {"code": _NOT_FOUND, "message": message}, "data": None}, _NOT_FOUND)


def _spec(model_id: str, endpoint: str) -> dict[str, Any]:
    model, parameters = VTRIX_MODELS[model_id], ALL_PARAMETERS[model_id]
    names = ", ".join(each["name"] for each in parameters if each["required"])
    prompt = (
        f"{model.name}: {model.about}\n"
        f"1. POST {endpoint} with Authorization: Bearer YOUR_API_KEY and "
        f'{{"model": "{model_id}", "input": [{{"params": {{...}}}}]}}; required: {names}.\n'
        f"2. GET {endpoint}/task/ID until status is completed or failed; the result is output[].content[].url."
    )
    return {
        "model_id": model_id,
        "name": model.name,
        "vendor": "vidu",
        "type": model.kind,
        "api": {
            "endpoint": endpoint,
            "method": "POST",
            "headers": {"Authorization": "Bearer YOUR_API_KEY", "Content-Type": "application/json"},
        },
        "parameters": list(parameters),
        "agent_prompt": prompt,
    }


def _matches(query: QueryParams, listed: dict[str, Any]) -> bool:
    text = f"{listed['id']} {listed['name']} {listed['description']}".lower()
    kind = query.get("type", "").strip().lower()
    return kind in {"", listed["type"]} and all(word in text for word in query.get("keywords", "").lower().split())


def _whole(text: str | None, default: int) -> int:
    """Return the number in a query, at least 1; the default for anything else."""
    return int(text) if text and text.isascii() and text.isdigit() and int(text) else default


def _enveloped(data: dict[str, Any]) -> Response:
    return JSONResponse({"status": {"code": 200, "message": "success"}, "data": data})
