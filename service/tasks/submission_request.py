"""What one submission sends: the task's parameters with their media, and our tokens."""

import json

from service.domain.blob import Blob
from service.domain.models.catalog import MODELS
from service.domain.models.media_descriptors import descriptors
from service.domain.task import Task, TaskId


class BlobsExpired(Exception):
    """A task's media are no longer stored, so that it cannot be submitted."""


def meta_data(stored: Blob | None, task_id: TaskId, model: str) -> str | None:
    """Return the `meta_data` to send: the caller's JSON object with our key added, or the caller's string unchanged.

    A model that is not known to take it gets what the caller gave, or None.
    """
    known = model in MODELS and "meta_data" in MODELS[model].model_fields
    if stored is None:
        return json.dumps({"boomerang_task": task_id}) if known else None
    text = stored.data.decode("utf-8", "surrogatepass")
    if not known:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if not isinstance(value, dict):
        return text
    return json.dumps(value | {"boomerang_task": task_id}, ensure_ascii=False)


def request_size(task: Task) -> int:
    """Return about how many bytes the request takes: base64 is a third longer than the media in it."""
    media = sum(each["bytes"] for _, each in descriptors(task.params) if "bytes" in each)
    return 4 * int(media) // 3
