"""The task from which the form for a new one is filled in, and what the form changes of it when it is submitted again.

Only computes.
"""

from dataclasses import dataclass

from service.dashboard.formats import word
from service.dashboard.task_fields import JSON_FIELD
from service.dashboard.task_request import FormView, TaskRequest
from service.domain.event_routing import target_host
from service.domain.resubmission import SEPARATE, has_ended
from service.domain.task import Json, Status, Task


@dataclass(frozen=True, kw_only=True)
class Source:
    """A task whose values are in the form.

    `obstacle` says why the form cannot submit it again, empty if it can. `resubmits`: the form does so when it is sent.
    """

    task: Task
    obstacle: str
    resubmits: bool

    @property
    def in_doubt(self) -> bool:
        """Return whether the provider may have the task, which would make another one a second charge."""
        return self.task.status is Status.IN_DOUBT

    @property
    def receivers(self) -> list[str]:
        """Return the handlers, and no more than the hosts, to which the task's own notify entries lead."""
        found = [(str(entry.get("handler")), target_host(entry)) for entry in self.task.notify]
        return list(dict.fromkeys(f"{handler} ({host})" if host else handler for handler, host in found))


def source_of(task: Task, model: str, *, wanted: bool) -> Source:
    """Return the source of a form for `model`; `wanted`: its author wants to submit the task again."""
    obstacle = _obstacle(task, model)
    return Source(task=task, obstacle=obstacle, resubmits=wanted and not obstacle)


def _obstacle(task: Task, model: str) -> str:
    if task.erased_at is not None:
        return "it was erased"
    if task.model != model:
        return f"its model is {task.model}"
    return "" if has_ended(task) else f"it has not ended: it is {word(task.status.value)}"


def changes_of(wanted: TaskRequest, filled: FormView, old: Task) -> Json:
    """Return the parameters that a sent form changes, None for each that it removes.

    `filled` is the form as it was filled in from the task `old`: a text that stands there as it was is no change, so
    that a browser alters nothing of it. Media are always changes, since their items may have another order.
    """
    if filled.fields[0].name == JSON_FIELD:
        gone = {*old.params, *SEPARATE} - wanted.params.keys()
        return {**dict.fromkeys(sorted(gone)), **wanted.params}
    sent = {each.name: each.value for each in wanted.view.fields}
    changes: Json = {}
    for each in filled.fields:
        name = each.item[0] if each.item else each.name
        if each.item or each.kind == "media" or _as_sent(each.value) != _as_sent(sent[each.name]):
            changes[name] = wanted.params.get(name)
    return changes


def _as_sent(text: str) -> str:
    """Return a text as a browser sends it: with one kind of line ends, and without lone surrogates."""
    return text.replace("\r\n", "\n").replace("\r", "\n").encode("utf-8", "replace").decode()
