"""Model list and model specification of the gateway, with its one model."""

from collections.abc import Callable
from dataclasses import dataclass
from math import ceil
from typing import Any

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from service.sandbox.request_checks import MAX_PROMPT, RATIOS, RESOLUTIONS, VTRIX_MODEL

LIST_PATH = "/api/v1/skill/models"
CREATE_PATH = "/model/v1/generation"

_NAME = "Vidu Q2 Pro Reference"
_ABOUT = "Make a video whose subjects are those of the reference images and videos."
_NOT_FOUND = 404
_PAGE_SIZE, _MAX_PAGE_SIZE = 20, 100


def _parameter(name: str, kind: str, about: str, *, required: bool = False, **constraints: Any) -> dict[str, Any]:
    return {
        "name": name,
        "path": f"input[0].params.{name}",
        "type": kind,
        "required": required,
        "description": about,
        "constraints": constraints,
        "example": None,
        "children": [],
    }


PARAMETERS = (
    _parameter("images", "array", "Image references.", required=True, max_items=7),
    _parameter("videos", "array", "Video references.", max_items=2),
    _parameter("prompt", "string", "Text prompt describing the video.", required=True, max_length=MAX_PROMPT),
    _parameter("bgm", "boolean", "Whether to add background music.", default="false"),
    _parameter("duration", "integer", "Seconds; 0 is automatic.", default="5", min=0, max=10),
    _parameter("seed", "integer", "Random seed; 0 is random."),
    _parameter("aspect_ratio", "string", "Aspect ratio.", default="16:9", enum=list(RATIOS)),
    _parameter("resolution", "string", "Resolution.", default="720p", enum=list(RESOLUTIONS)),
    _parameter("payload", "string", "Passed through.", max_length=1_048_576),
    _parameter("off_peak", "boolean", "Off-peak mode; temporarily unavailable.", default="false"),
    _parameter("watermark", "boolean", "Whether to add a watermark.", default="false"),
    _parameter("wm_position", "integer", "Watermark position.", default="3", min=1, max=4),
    _parameter("wm_url", "string", "Watermark image address."),
    _parameter("meta_data", "string", "Metadata identifier."),
    _parameter("callback_url", "string", "Callback address."),
)

_LISTED = {
    "id": VTRIX_MODEL,
    "name": _NAME,
    "type": "video",
    "description": _ABOUT,
    "input_modalities": ["text", "image", "video"],
    "output_modalities": ["video"],
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
        found = [_LISTED] if _matches(query) else []
        size = min(_MAX_PAGE_SIZE, _whole(query.get("page_size"), _PAGE_SIZE))
        page = _whole(query.get("page"), 1)
        shown = found[(page - 1) * size : page * size]
        counts = {"total": len(found), "page": page, "page_size": size, "total_pages": ceil(len(found) / size)}
        return _enveloped({"models": shown, **counts})

    async def spec(self, request: Request) -> Response:
        """Return the specification of the model, or 404 in the same envelope."""
        if request.path_params["model"] != VTRIX_MODEL:
            return not_found("model not found")
        base = self.public_url() or str(request.base_url)
        return _enveloped(_spec(f"{base.rstrip('/')}{CREATE_PATH}"))


def not_found(message: str) -> Response:
    """Return 404 in the envelope of the list and the specifications."""
    return JSONResponse({"status": {"code": _NOT_FOUND, "message": message}, "data": None}, _NOT_FOUND)


def _spec(endpoint: str) -> dict[str, Any]:
    names = ", ".join(parameter["name"] for parameter in PARAMETERS if parameter["required"])
    prompt = (
        f"{_NAME}: {_ABOUT}\n"
        f"1. POST {endpoint} with Authorization: Bearer YOUR_API_KEY and "
        f'{{"model": "{VTRIX_MODEL}", "input": [{{"params": {{...}}}}]}}; required: {names}.\n'
        f"2. GET {endpoint}/task/ID until status is completed or failed; the result is output[].content[].url."
    )
    return {
        "model_id": VTRIX_MODEL,
        "name": _NAME,
        "vendor": "vidu",
        "type": "video",
        "api": {
            "endpoint": endpoint,
            "method": "POST",
            "headers": {"Authorization": "Bearer YOUR_API_KEY", "Content-Type": "application/json"},
        },
        "parameters": list(PARAMETERS),
        "agent_prompt": prompt,
    }


def _matches(query: QueryParams) -> bool:
    text = f"{VTRIX_MODEL} {_NAME} {_ABOUT}".lower()
    kind = query.get("type", "").strip().lower()
    return kind in {"", _LISTED["type"]} and all(word in text for word in query.get("keywords", "").lower().split())


def _whole(text: str | None, default: int) -> int:
    """Return the number in a query, at least 1; the default for anything else."""
    return int(text) if text and text.isascii() and text.isdigit() and int(text) else default


def _enveloped(data: dict[str, Any]) -> Response:
    return JSONResponse({"status": {"code": 200, "message": "success"}, "data": data})
