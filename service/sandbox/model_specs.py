"""Model list and model specification of the gateway, with its one model."""

from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from service.sandbox.request_checks import RATIOS, RESOLUTIONS, VTRIX_MODEL

_NAME = "Vidu Q2 Pro Reference"
_ABOUT = "Make a video whose subjects are those of the reference images and videos."


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
    _parameter("images", "array<string>", "Image references.", required=True, max_items=7),
    _parameter("videos", "array<string>", "Video references.", max_items=2),
    _parameter("prompt", "string", "Text prompt describing the video.", required=True, max_length=5000),
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

_SPEC = {
    "model_id": VTRIX_MODEL,
    "name": _NAME,
    "vendor": "vidu",
    "type": "video",
    "api": {
        "endpoint": "/model/v1/generation",
        "method": "POST",
        "headers": {"Authorization": "Bearer YOUR_API_KEY", "Content-Type": "application/json"},
    },
    "parameters": list(PARAMETERS),
}

_LISTED = {
    "id": VTRIX_MODEL,
    "name": _NAME,
    "type": "video",
    "description": _ABOUT,
    "input_modalities": ["text", "image", "video"],
    "output_modalities": ["video"],
}


async def models(_request: Request) -> Response:
    """Return the list of models: one page with one model."""
    return _enveloped({"models": [_LISTED], "total": 1, "page": 1, "page_size": 20, "total_pages": 1})


async def spec(request: Request) -> Response:
    """Return the specification of the model, or 404 in the same envelope."""
    if request.path_params["model"] != VTRIX_MODEL:
        return JSONResponse({"status": {"code": 404, "message": "model not found"}, "data": None}, 404)
    return _enveloped(_SPEC)


def _enveloped(data: dict[str, Any]) -> Response:
    return JSONResponse({"status": {"code": 200, "message": "success"}, "data": data})
