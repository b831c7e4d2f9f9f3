"""Reads Vtrix's JSON: task bodies of create replies, polls and callbacks, and error responses."""

from service.domain.errors import ProviderUnavailable
from service.domain.task import Fact, Json, Status, TaskError, Usage
from service.providers.fields import (
    clean,
    correlation,
    error_object,
    fraction,
    http_url,
    is_faulty_amount,
    json_object,
    money,
    number,
    upstream_id,
)

STATUSES = {
    "pending": Status.IN_PROGRESS,
    "queued": Status.IN_PROGRESS,
    "processing": Status.IN_PROGRESS,
    "in_progress": Status.IN_PROGRESS,
    "completed": Status.COMPLETED,
    "done": Status.COMPLETED,
    "failed": Status.FAILED,
}
MAX_ITEMS = 64


def read_vtrix(body: object) -> Fact:
    """Return the fact in a parsed task body; raises ProviderUnavailable for anything else.

    Accepts the response section of the API page and the variants that occur: an error as an object or a bare string,
    codes and durations as numbers or text, a failure without an id.
    """
    task = json_object(body)
    name = task.get("status")
    if not isinstance(name, str) or name not in STATUSES:
        raise ProviderUnavailable(f"unknown status of the provider: {clean(name, 40) or type(name).__name__}")
    status, task_id = STATUSES[name], upstream_id(task.get("id"))
    if task_id is None and status is Status.IN_PROGRESS:
        raise ProviderUnavailable("the provider's response names no task")
    return Fact(
        status=status,
        upstream_id=task_id,
        progress=fraction(task.get("progress")),
        output=_output(task.get("output")) if status is Status.COMPLETED else (),
        error=_task_error(task.get("error")) if status is Status.FAILED else None,
        usage=_usage(task.get("usage")),
        faulty_cost=_has_faulty_cost(task.get("usage")),
        correlation=correlation(task),
    )


def _output(value: object) -> tuple[Json, ...]:
    groups = [] if value is None else value
    if not isinstance(groups, list):
        raise ProviderUnavailable("`output` in the provider's response is not a list")
    contents = [json_object(group).get("content") or [] for group in groups[:MAX_ITEMS]]
    if not all(isinstance(content, list) for content in contents):
        raise ProviderUnavailable("`content` in the provider's response is not a list")
    items = [item for content in contents for item in content[:MAX_ITEMS]]
    return tuple(_item(item) for item in items[:MAX_ITEMS])


def _item(value: object) -> Json:
    content = json_object(value)
    url = http_url(content.get("url"))
    if url is None:
        raise ProviderUnavailable("a result in the provider's response has no address")
    item: Json = {"type": clean(content.get("type"), 40) or "video", "url": url}
    if (seconds := number(content.get("duration"))) is not None:
        item["duration"] = seconds
    if job := clean(content.get("jobId"), 128):
        item["job_id"] = job
    return item


def _task_error(value: object) -> TaskError:
    if isinstance(value, dict):
        code, message = clean(value.get("code"), 100), clean(value.get("error_message")) or clean(value.get("message"))
    else:
        code, message = "", clean(value)
    return TaskError(code=code or "failed", message=message or "the upstream gave no reason")


def _usage(value: object) -> Usage | None:
    if not isinstance(value, dict):
        return None
    cost, discount = money(value.get("cost")), number(value.get("discount"))
    if cost is None and discount is None:
        return None
    return Usage(cost=cost, discount=None if discount is None else float(discount))


def _has_faulty_cost(usage: object) -> bool:
    return isinstance(usage, dict) and is_faulty_amount(usage.get("cost"))


def vtrix_error(body: object) -> tuple[str, str]:
    """Return code and message of an error response, from raw bytes, text or parsed JSON; "" for a missing one."""
    error = error_object(body)
    if isinstance(error, str):
        return "", error
    for holder in (error.get("error"), error.get("status")):
        if isinstance(holder, dict):
            code = clean(holder.get("error_code"), 100) or clean(holder.get("code"), 100)
            return code, clean(holder.get("message")) or clean(holder.get("error_message"))
    code = clean(error.get("error_code"), 100) or clean(error.get("code"), 100)
    detail = error.get("detail")
    if isinstance(detail, list):
        detail = "; ".join(clean(entry.get("msg")) for entry in detail[:10] if isinstance(entry, dict))
    return code, clean(error.get("error")) or clean(error.get("message")) or clean(detail)
