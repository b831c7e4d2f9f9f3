"""What Vidu's own bodies say: create replies, queries and callbacks share one shape; and its error answers."""

from service.domain.errors import ProviderUnavailable
from service.domain.task import Fact, Json, Status, TaskError, Usage
from service.providers.fields import clean, correlation, error_object, http_url, json_object, number, upstream_id

STATES = {
    "created": Status.IN_PROGRESS,
    "queueing": Status.IN_PROGRESS,
    "processing": Status.IN_PROGRESS,
    "success": Status.COMPLETED,
    "failed": Status.FAILED,
}
CANCELED_CODE = "UserCancelled"
MAX_ITEMS = 64


def read_vidu(body: object) -> Fact:
    """Return what a body with a `state` says, from parsed JSON; raises Unwell for whatever is not understood.

    Create replies name the task `task_id`, queries and callbacks `id`.
    """
    task = json_object(body)
    status = _status(task)
    found = upstream_id(task.get("task_id")) or upstream_id(task.get("id"))
    if found is None and status is Status.IN_PROGRESS:
        raise ProviderUnavailable("the upstream speaks of a task without naming it")
    return Fact(
        status=status,
        upstream_id=found,
        output=_output(task.get("creations")) if status is Status.COMPLETED else (),
        error=_task_error(task) if status is Status.FAILED else None,
        usage=None if number(task.get("credits")) is None else Usage(),
        correlation=correlation(task),
    )


def _status(task: Json) -> Status:
    word = task.get("state")
    if not isinstance(word, str) or word not in STATES:
        raise ProviderUnavailable(f"the upstream's state is unknown: {clean(word, 40) or type(word).__name__}")
    canceled = word == "failed" and task.get("err_code") == CANCELED_CODE
    return Status.CANCELED if canceled else STATES[word]


def _output(value: object) -> tuple[Json, ...]:
    creations = [] if value is None else value
    if not isinstance(creations, list):
        raise ProviderUnavailable("the upstream's creations are no list")
    return tuple(_item(json_object(creation)) for creation in creations[:MAX_ITEMS])


def _item(creation: Json) -> Json:
    url = http_url(creation.get("url"))
    if url is None:
        raise ProviderUnavailable("the upstream's result has no address")
    more = {name: http_url(creation.get(name)) for name in ("cover_url", "watermarked_url")}
    return {"type": "video", "url": url} | {name: found for name, found in more.items() if found is not None}


def _task_error(task: Json) -> TaskError:
    code = clean(task.get("err_code"), 100)
    message = clean(task.get("err_msg")) or clean(task.get("message")) or code
    return TaskError(code=code or "failed", message=message or "the upstream gave no reason")


def vidu_error(body: object) -> tuple[str, str]:
    """Return reason and message of an error answer, from raw bytes, text or parsed JSON; "" for what it does not say.

    The code is the word in `reason`, like `CreditInsufficient`; the number in `code` only where there is no word.
    """
    found = error_object(body)
    if isinstance(found, str):
        return "", found
    code = clean(found.get("reason"), 100) or clean(found.get("code"), 100)
    return code, clean(found.get("message")) or clean(found.get("error"))
