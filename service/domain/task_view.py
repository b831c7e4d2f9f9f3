"""A task as clients and handlers see it: without leases, fences, blobs and secrets."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter

from service.domain.error_kinds import task_error, with_error_kind
from service.domain.fast_copy import construct_unchecked
from service.domain.task import Json, Task

TIMES = ("created_at", "submitted_at", "settled_at", "deadline_at")


@dataclass(frozen=True, kw_only=True)
class TaskView:
    """The public view of a task, with the fields of the API's task object. Times are aware and in UTC.

    `client` is the name of the API key that submitted it, "" in an event that the previous release stored.
    """

    id: str
    client: str = ""
    model: str
    status: str
    upstream_id: str | None
    params: Json
    metadata: Json
    progress: float | None
    output: list[Json] = field(default_factory=list)
    error: Json | None = None
    warnings: list[str] = field(default_factory=list)
    usage: Json | None = None
    settled_by: str | None = None
    unconfirmed: bool = False
    note: str | None = None
    resubmission_of: str | None = None
    created_at: datetime
    submitted_at: datetime | None = None
    settled_at: datetime | None = None
    deadline_at: datetime

    def to_json(self) -> Json:
        """Return the task object of the API: plain JSON values, times as RFC 3339 in UTC."""
        return vars(self) | {name: rfc3339(getattr(self, name)) for name in TIMES}

    @classmethod
    def from_json(cls, data: Json) -> "TaskView":
        """Return the view that `to_json` wrote; keys of another version of the code are ignored."""
        data = with_error_kind(data)
        complete = data.keys() >= cls.__dataclass_fields__.keys()
        names = VIEW_NAMES if complete else [name for name in VIEW_NAMES if name in data]
        known = dict(zip(names, itemgetter(*names)(data), strict=True))
        for name in TIMES:
            known[name] = parse_time(known[name])
        return construct_unchecked(cls, known) if complete else cls(**known)


VIEW_NAMES = tuple(TaskView.__dataclass_fields__)


def task_json(task: Task) -> Json:
    """Return `task` as the API's task object: plain JSON values, times as RFC 3339 in UTC."""
    return {
        "id": task.id,
        "client": task.client,
        "model": task.model,
        "status": task.status.value,
        "upstream_id": task.upstream_id,
        "params": task.params,
        "metadata": task.metadata,
        "progress": task.progress,
        "output": list(task.output),
        "error": task_error(task),
        "warnings": list(task.warnings),
        "usage": dict(vars(task.usage)) if task.usage else None,
        "settled_by": task.settled_by.value if task.settled_by else None,
        "unconfirmed": task.unconfirmed,
        "note": task.note,
        "resubmission_of": task.resubmission_of,
        "created_at": rfc3339(task.created_at),
        "submitted_at": rfc3339(task.submitted_at),
        "settled_at": rfc3339(task.settled_at),
        "deadline_at": rfc3339(task.deadline_at),
        **({"erased_at": rfc3339(task.erased_at)} if task.erased_at else {}),
    }


def rfc3339(at: datetime | None) -> str | None:
    """Return `at` in UTC as RFC 3339 with milliseconds, like `2026-05-06T12:09:42.000Z`."""
    if at is None:
        return None
    at = at if at.tzinfo is UTC else at.astimezone(UTC)
    return f"{at.isoformat(timespec='milliseconds')[:-6]}Z"


def parse_time(text: str | None) -> datetime | None:
    """Return the aware time in an RFC 3339 `text`; raises ValueError if it has no offset."""
    if text is None:
        return None
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time needs its offset, like 2026-05-06T12:09:42Z")
    return at if at.tzinfo is UTC else at.astimezone(UTC)
