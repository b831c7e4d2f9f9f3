"""A task in the form of an OpenAI-shaped video API, and sizes in pixels as a model's parameters. Only computes."""

from collections.abc import Mapping
from typing import get_args

from service.domain.models.catalog import MODELS
from service.domain.task import Json, Status, Task
from service.domain.task_view import task_json

QUEUED, IN_PROGRESS, COMPLETED, FAILED = "queued", "in_progress", "completed", "failed"
STATUSES: Mapping[Status, str] = {
    Status.QUEUED: QUEUED,
    Status.SUBMITTING: QUEUED,
    Status.IN_PROGRESS: IN_PROGRESS,
    Status.IN_DOUBT: IN_PROGRESS,
    Status.COMPLETED: COMPLETED,
    Status.FAILED: FAILED,
    Status.CANCELED: FAILED,
    Status.EXPIRED: FAILED,
}
"""The word for each status. There are no others: clients end their wait at an unknown one."""

SHORT_SIDES = {"540p": 540, "720p": 720, "1080p": 1080}
RATIO, RESOLUTION, DURATION = "aspect_ratio", "resolution", "duration"
NEAREST_SIZES = {"1024x1792": "1080x1920", "1792x1024": "1920x1080"}
"""Sizes of OpenAI's own models that no model here makes, with the nearest one."""

CANCELED = {"code": "canceled", "message": "the task was canceled"}
FULL = 100


def sizes_of(model: str) -> dict[str, tuple[str, str]]:
    """Return the sizes that a model makes, like `1280x720`, each with its aspect ratio and resolution."""
    ratios, resolutions = (_choices(model, name) for name in (RATIO, RESOLUTION))
    pairs = [(ratio, resolution) for ratio in ratios for resolution in resolutions]
    return {size: pair for pair in pairs if (size := size_of(*pair))}


def size_of(ratio: object, resolution: object) -> str | None:
    """Return the size in pixels of a video, None if the parameters do not determine it."""
    side = SHORT_SIDES.get(resolution) if isinstance(resolution, str) else None
    across, _, down = str(ratio).partition(":")
    if side is None or not (across.isdecimal() and down.isdecimal()) or "0" in (across, down):
        return None
    short = min(int(across), int(down))
    return f"{int(across) * side // short}x{int(down) * side // short}"


def video_object(task: Task) -> Json:
    """Return `task` as a video: times in seconds, progress in percent, duration as text, size in pixels."""
    status = STATUSES[task.status]
    duration = _effective(task, DURATION)
    settled = task.settled_at if status in {COMPLETED, FAILED} else None
    return {
        "id": task.id,
        "object": "video",
        "model": task.model,
        "status": status,
        "progress": FULL if status == COMPLETED else int(FULL * (task.progress or 0)),
        "created_at": int(task.created_at.timestamp()),
        "completed_at": int(settled.timestamp()) if settled else None,
        "expires_at": None,
        "error": _error(task) if status == FAILED else None,
        "prompt": _text(task.params.get("prompt")),
        "remixed_from_video_id": None,
        "seconds": "" if duration is None else str(duration),
        "size": size_of(_effective(task, RATIO), _effective(task, RESOLUTION)) or "",
    }


def _error(task: Task) -> Json:
    error = task_json(task)["error"] or CANCELED
    return {"code": error["code"], "message": error["message"]}


def _effective(task: Task, name: str) -> object:
    """Return the value of a parameter, or the model's default."""
    if name in task.params:
        return task.params[name]
    known = MODELS.get(task.model)
    field = known.model_fields.get(name) if known else None
    return None if field is None else field.default


def _choices(model: str, name: str) -> tuple[str, ...]:
    known = MODELS.get(model)
    field = known.model_fields.get(name) if known else None
    return get_args(field.annotation) if field else ()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
