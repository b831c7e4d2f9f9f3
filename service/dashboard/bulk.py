"""Actions on many tasks: first the count, then one batch a request, each with its progress, until all are done.

A batch lasts a few seconds. The state between two batches is in the form, so that a person can stop at any time, and
a restart loses nothing.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.query_params import cursor_of
from service.dashboard.attention import UNSHOWN
from service.dashboard.forms import Form
from service.dashboard.layout import Layout, Page, redirect
from service.dashboard.task_filter import NAMES, ListFilter, next_tasks, read_filter
from service.domain.errors import BoomerangError, Conflict, Fault, InvalidParams, NotFound
from service.domain.ports.tasks import TaskFilter
from service.domain.task import Task, TaskId

BATCH_SECONDS = 4.0
MAX_SELECTED = 200
OUTCOMES = ("done", "not_possible", "failed")


@dataclass(frozen=True, kw_only=True)
class BulkAction:
    """An action on many tasks; `statuses` are those of tasks for which it can be possible."""

    name: str
    label: str
    past: str
    warning: str
    statuses: tuple[str, ...]


ACTIONS = (
    BulkAction(
        name="cancel",
        label="Cancel",
        past="canceled",
        warning="Queued tasks cost nothing. Of running ones the provider decides, and may charge.",
        statuses=("queued", "in_progress"),
    ),
    BulkAction(
        name="resubmit",
        label="Submit again",
        past="submitted again",
        warning="Each becomes a new task, which the provider charges for. Tasks in doubt may be charged twice.",
        statuses=("in_doubt", "failed", "expired", "canceled", "completed"),
    ),
    BulkAction(
        name="replay",
        label="Replay dead letters",
        past="replayed",
        warning="The dead letters of these tasks are delivered once more.",
        statuses=(),
    ),
)
BY_NAME = {each.name: each for each in ACTIONS}


@dataclass(frozen=True, kw_only=True)
class BulkRequest:
    """What was asked for: an action on the selected tasks, or on all of a filter after a position.

    `total` is how many those are; with `more` only the newest tasks were counted, and there may be more.
    """

    action: BulkAction
    selected: tuple[str, ...]
    wanted: ListFilter
    cursor: str | None
    total: int
    counts: Counter[str]
    more: bool = False

    @property
    def count_text(self) -> str:
        """Return how many tasks there are, for a person."""
        if self.more and not self.total:
            return "all tasks that match"
        return f"{self.total}{' or more' if self.more else ''} task{'' if self.total == 1 and not self.more else 's'}"


@dataclass(frozen=True, kw_only=True)
class BulkPage:
    """The pages at `/tasks/bulk`."""

    layout: Layout
    services: Services

    def routes(self) -> list[Route]:
        """Return their routes."""
        return [
            self.layout.route("/tasks/bulk", get=self.start, post=self.confirm),
            self.layout.route("/tasks/bulk/run", get=self.start, post=self.run),
        ]

    async def start(self, _request: Request, _caller: Caller) -> Response:
        """Lead to the list: an action begins there."""
        return redirect("/tasks")

    async def confirm(self, request: Request, caller: Caller, form: Form) -> Page | Response:
        """Count the tasks of the action, and ask before anything happens."""
        wanted = _read(request, caller, form)
        if not wanted.selected and form.get("scope") != "all":
            address = wanted.wanted.address()
            return self.layout.done(request, address, "Select tasks first, or choose all that match.", level="problem")
        total, more = (len(wanted.selected), False) if wanted.selected else await self._count(wanted.wanted.wanted)
        counted = replace(wanted, total=total, more=more)
        return self._page(counted, title=f"{wanted.action.label}: {counted.count_text}?", state="confirm")

    async def run(self, request: Request, caller: Caller, form: Form) -> Page:
        """Act on one batch, and show how far it is."""
        wanted = _read(request, caller, form)
        until, counts, done = time.monotonic() + BATCH_SECONDS, Counter(wanted.counts), 0
        last, remaining = wanted.cursor, list(wanted.selected)
        finished = True
        async with self.layout.recording(caller, f"task.{wanted.action.name}_many") as note:
            async for task in self._tasks(wanted, caller):
                if done and time.monotonic() > until:
                    finished = False
                    break
                counts[await self._act(wanted.action, task, caller)] += 1
                done, last = done + 1, task.id
                remaining = [each for each in remaining if each != task.id]
            note.detail = f"{counts['done']} {wanted.action.past} of {wanted.count_text} ({wanted.wanted.words})"
        after = replace(
            wanted,
            selected=tuple(remaining) if not finished else wanted.selected,
            cursor=None if wanted.selected else last,
            counts=counts,
        )
        title = f"{wanted.action.label}: {'done' if finished else 'in progress'}"
        return self._page(after, title=title, state="finished" if finished else "running")

    async def _tasks(self, wanted: BulkRequest, caller: Caller) -> AsyncIterator[Task]:
        """Yield the tasks of the action that the caller sees."""
        for task_id in wanted.selected:
            task = await self.services.queries.task(TaskId(task_id))
            if task is not None and caller.sees(task.client):
                yield task
        if wanted.selected:
            return
        cursor, more = wanted.cursor, True
        while more:
            page = replace(wanted.wanted.wanted, without=UNSHOWN, cursor=cursor)
            tasks, cursor = await next_tasks(self.services.queries, page)
            for task in tasks:
                yield task
            more = cursor is not None

    async def _count(self, wanted: TaskFilter) -> tuple[int, bool]:
        """Return how many tasks match, and whether there may be more: the counts are those of all statuses."""
        counts = await self.services.queries.status_counts(wanted)
        chosen = wanted.statuses or {each.status for each in counts}
        return sum(each.count for each in counts if each.status in chosen), any(each.more for each in counts)

    async def _act(self, action: BulkAction, task: Task, caller: Caller) -> str:
        """Act on one task; return the outcome."""
        try:
            if action.name == "replay":
                return await self._replay(task, caller)
            if action.statuses and task.status.value not in action.statuses:
                return "not_possible"
            service = self.services.task_service
            await (service.cancel(task.id) if action.name == "cancel" else service.resubmit(task.id))
        except (Conflict, NotFound):
            return "not_possible"
        except BoomerangError:
            return "failed"
        return "done"

    async def _replay(self, task: Task, caller: Caller) -> str:
        """Replay the dead letters of a task that the caller may replay."""
        entries = await self.services.queries.history(task.id, data=False)
        dead = [each for each in entries if each["kind"] == "delivery" and each["status"] == "dead"]
        ids = [each["id"] for each in dead if each["requested"] or caller.admin]
        if not ids:
            return "not_possible"
        outcomes = await self.services.replayer.replay(ids, now=self.layout.now())
        return "done" if "replayed" in outcomes.values() else "not_possible"

    def _page(self, wanted: BulkRequest, *, title: str, state: str) -> Page:
        handled = sum(wanted.counts.values())
        fields = [("action", wanted.action.name), *wanted.wanted.pairs(), ("total", str(wanted.total))]
        fields += [("task", each) for each in wanted.selected] or [("scope", "all")]
        fields += [(name, str(wanted.counts[name])) for name in OUTCOMES]
        fields += [("more", "yes")] if wanted.more else []
        if wanted.cursor:
            fields.append(("cursor", cursor_of("task", wanted.cursor)))
        values = {
            "action": wanted.action,
            "state": state,
            "total": wanted.total,
            "count_text": wanted.count_text,
            "handled": handled,
            "more": wanted.more,
            "counts": wanted.counts,
            "fields": fields,
            "words": "the selection" if wanted.selected else wanted.wanted.words,
            "back": wanted.wanted.address(),
        }
        data = {"action": wanted.action.name, "state": state, "total": wanted.total, "counts": dict(wanted.counts)}
        return Page(template="bulk.html", title=title, values=values, data=data)


def _read(request: Request, caller: Caller, form: Form) -> BulkRequest:
    """Return what a form asks for; raises InvalidParams."""
    pairs = [(name, form.get(name)) for name in (*NAMES, "cursor")]
    wanted, query = read_filter(request, caller, pairs, "cursor")
    cursor = query.cursor("task")
    query.reject_errors()
    action = BY_NAME.get(form.get("action"))
    if action is None:
        raise InvalidParams([Fault(loc=("action",), msg=f"must be one of {', '.join(BY_NAME)}")])
    selected = () if form.get("scope") == "all" else tuple(dict.fromkeys(form.all("task")))
    if len(selected) > MAX_SELECTED:
        raise InvalidParams([Fault(loc=("task",), msg=f"at most {MAX_SELECTED} tasks can be selected")])
    counts = Counter({name: _number(form.get(name)) for name in OUTCOMES})
    return BulkRequest(
        action=action,
        selected=selected,
        wanted=wanted,
        cursor=cursor,
        total=_number(form.get("total")),
        counts=counts,
        more=bool(form.get("more")),
    )


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0  # noqa: PLR2004 - digits
