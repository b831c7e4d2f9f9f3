"""A task in the form of the provider's API, for clients that were written for that API. Only computes."""

from datetime import datetime

from service.domain.task import Json, Status
from service.domain.task_view import parse_time

IN_PROGRESS, COMPLETED, FAILED = "in_progress", "completed", "failed"

STATUSES = {
    Status.COMPLETED.value: COMPLETED,
    Status.FAILED.value: FAILED,
    Status.CANCELED.value: FAILED,
    Status.EXPIRED.value: FAILED,
}
"""The provider's word for each status; every other task is in progress. Its API documents no more words than three."""

RESULT_FIELDS = {
    "type": "type",
    "url": "url",
    "duration": "duration",
    "job_id": "jobId",
    "watermarked_url": "watermarked_url",
    "cover_url": "cover_url",
}
"""The provider's name of each field of a result."""

CANCELED = {"code": "UserCancelled", "error_message": "the task was canceled"}


def vtrix_task(task: Json, *, payload: str | None = None, meta_data: str | None = None) -> Json:
    """Return the task object `task` (see `task_json`) as the task body of the provider's API.

    `payload` and `meta_data` are the caller's own texts, which the body repeats.
    """
    status = STATUSES.get(task["status"], IN_PROGRESS)
    body: Json = {
        "id": task["id"],
        "created_at": _seconds(task["created_at"]),
        "status": status,
        "model": task["model"],
        "metadata": _times(task),
    }
    if status == IN_PROGRESS:
        body["progress"] = task["progress"] or 0.0
    if status == FAILED:
        body["error"] = _error(task)
    if status == COMPLETED:
        body["output"] = [{"content": [_result(item) for item in task["output"]]}] if task["output"] else []
        body["usage"] = _usage(task)
    passed = {"payload": payload, "meta_data": meta_data}
    return body | {name: text for name, text in passed.items() if text is not None}


def _result(item: Json) -> Json:
    return {name: item[own] for own, name in RESULT_FIELDS.items() if item.get(own) is not None}


def _error(task: Json) -> Json:
    error = task["error"]
    if not error:
        return dict(CANCELED) if task["status"] == Status.CANCELED else {"code": "failed", "error_message": ""}
    code = str(error["code"])
    whole = code.isascii() and code.isdigit() and str(int(code[:18])) == code
    return {"code": int(code) if whole else code, "error_message": error["message"]}


def _usage(task: Json) -> Json:
    """Return cost and discount as far as they are known."""
    return {name: value for name, value in (task["usage"] or {}).items() if value is not None}


def _times(task: Json) -> Json:
    """Return the times of the task in seconds, as the provider's `metadata` has them."""
    times = {"in_queue_at": task["created_at"], "upload_at": task["settled_at"], "completed_at": task["settled_at"]}
    return {name: _seconds(at) for name, at in times.items() if at}


def _seconds(at: str) -> int:
    found = parse_time(at)
    return int(found.timestamp()) if isinstance(found, datetime) else 0
