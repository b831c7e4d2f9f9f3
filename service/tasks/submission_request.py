"""What one submission sends: the task's parameters with their media, and our tokens."""

import json

from service.domain.blob import Blob
from service.domain.task import Json, Task, TaskId


class BlobsExpired(Exception):
    """A task's media are no longer stored, so that it cannot be submitted."""


def meta_data(given: Blob | None, task_id: TaskId) -> str:
    """Return the `meta_data` to send: the caller's JSON object with our key added, or the caller's string untouched."""
    if given is None:
        return json.dumps({"boomerang_task": task_id})
    text = given.data.decode("utf-8", "surrogatepass")
    try:
        keys = json.loads(text)
    except ValueError:
        return text
    if not isinstance(keys, dict):
        return text
    return json.dumps(keys | {"boomerang_task": task_id}, ensure_ascii=False)


def request_size(task: Task) -> int:
    """Return about how many bytes the request takes: base64 is a third longer than what it carries."""
    carried: int = sum(item["bytes"] for item in _descriptors(task.params))
    return 4 * carried // 3


def _descriptors(params: Json) -> list[Json]:
    lists = [value for value in params.values() if isinstance(value, list)]
    return [item for items in lists for item in items if isinstance(item, dict) and "bytes" in item]
