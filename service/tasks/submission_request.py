"""What one submission sends: the task's parameters with their media, and our tokens."""

import json

from service.domain.blob import Blob
from service.domain.task import Task, TaskId


class BlobsExpired(Exception):
    """A task's media are no longer stored, so that it cannot be submitted."""


def meta_data(stored: Blob | None, task_id: TaskId) -> str:
    """Return the `meta_data` to send: the caller's JSON object with our key added, or the caller's string unchanged."""
    if stored is None:
        return json.dumps({"boomerang_task": task_id})
    text = stored.data.decode("utf-8", "surrogatepass")
    try:
        value = json.loads(text)
    except ValueError:
        return text
    if not isinstance(value, dict):
        return text
    return json.dumps(value | {"boomerang_task": task_id}, ensure_ascii=False)


def request_size(task: Task) -> int:
    """Return about how many bytes the request takes: base64 is a third longer than the media in it."""
    lists = [value for value in task.params.values() if isinstance(value, list)]
    media: int = sum(item["bytes"] for items in lists for item in items if isinstance(item, dict) and "bytes" in item)
    return 4 * media // 3
