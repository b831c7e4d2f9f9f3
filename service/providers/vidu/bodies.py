"""Reads Vidu's JSON: create replies, queries and callbacks, which share one shape, and error responses."""

from service.domain.errors import ProviderUnavailable
from service.domain.task import Fact, Json, Status, TaskError, Usage
from service.providers.fields import (
    amount,
    clean,
    correlation,
    error_object,
    http_url,
    is_faulty_amount,
    json_object,
    number,
    upstream_id,
)

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
    """Return the fact in a parsed body with a `state`; raises ProviderUnavailable for anything else.

    Create replies name the task `task_id`, queries and callbacks `id`.
    """
    task = json_object(body)
    state = task.get("state")
    if not isinstance(state, str) or state not in STATES:
        raise ProviderUnavailable(f"unknown state of the provider: {clean(state, 40) or type(state).__name__}")
    canceled = state == "failed" and task.get("err_code") == CANCELED_CODE
    status = Status.CANCELED if canceled else STATES[state]
    task_id = upstream_id(task.get("task_id")) or upstream_id(task.get("id"))
    if task_id is None and status is Status.IN_PROGRESS:
        raise ProviderUnavailable("the provider's response names no task")
    return Fact(
        status=status,
        upstream_id=task_id,
        output=_output(task.get("creations")) if status is Status.COMPLETED else (),
        error=_task_error(task) if status is Status.FAILED else None,
        usage=None if number(task.get("credits")) is None else Usage(),
        credits=amount(task.get("credits")),
        faulty_cost=is_faulty_amount(task.get("credits")),
        correlation=correlation(task),
    )


def _output(value: object) -> tuple[Json, ...]:
    creations = [] if value is None else value
    if not isinstance(creations, list):
        raise ProviderUnavailable("`creations` in the provider's response is not a list")
    return tuple(_item(json_object(creation)) for creation in creations[:MAX_ITEMS])


def _item(creation: Json) -> Json:
    url = http_url(creation.get("url"))
    if url is None:
        raise ProviderUnavailable("a result in the provider's response has no address")
    optional = {name: http_url(creation.get(name)) for name in ("cover_url", "watermarked_url")}
    return {"type": "video", "url": url} | {name: value for name, value in optional.items() if value is not None}


def _task_error(task: Json) -> TaskError:
    code = clean(task.get("err_code"), 100)
    message = clean(task.get("err_msg")) or clean(task.get("message")) or code
    return TaskError(code=code or "failed", message=message or "the upstream gave no reason")


def vidu_error(body: object) -> tuple[str, str]:
    """Return code and message of an error response, from raw bytes, text or parsed JSON; "" for a missing one.

    The code is the word in `reason`, like `CreditInsufficient`, or without one the number in `code`.
    """
    error = error_object(body)
    if isinstance(error, str):
        return "", error
    code = clean(error.get("reason"), 100) or clean(error.get("code"), 100)
    return code, clean(error.get("message")) or clean(error.get("error"))
