"""Actions on many tasks: first the count, then one batch a request, each with its progress, until all are done.

A batch lasts a few seconds. The state between two batches is in the form, so that a person can stop at any time, and
a restart loses nothing.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.app import Services
from service.api.authentication import Caller
from service.api.query_params import cursor_of
from service.dashboard.attention import UNSHOWN
from service.dashboard.bulk_request import BulkAction, BulkRequest
from service.dashboard.bulk_tasks import BulkTasks
from service.dashboard.forms import Form
from service.dashboard.layout import Layout, Page, redirect
from service.dashboard.task_filter import NAMES, read_filter
from service.domain.errors import BoomerangError, Conflict, Fault, InvalidParams, NotFound
from service.domain.ports.replays import ReplayFilter
from service.domain.ports.tasks import TaskFilter
from service.domain.task import Task
from service.domain.task_view import rfc3339

BATCH_SECONDS = 4.0
MAX_SELECTED = 200
REPLAYED_AT_ONCE = 200
"""Deliveries of a task that one transaction makes due."""

OUTCOMES = ("done", "not_possible", "failed")


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
        wanted = _read(request, caller, form, self.layout.now())
        if wanted.selects_nothing:
            return self._nothing_selected(request, wanted)
        total, more = await self._count(wanted.matching) if wanted.all_that_match else (len(wanted.pending), False)
        counted = replace(wanted, total=total, more=more)
        return self._page(counted, title=f"{wanted.action.label}: {counted.count_text}?", state="confirm")

    async def run(self, request: Request, caller: Caller, form: Form) -> Page | Response:
        """Act on one batch, and show how far it is."""
        wanted = _read(request, caller, form, self.layout.now())
        if wanted.selects_nothing:
            return self._nothing_selected(request, wanted)
        counts, tasks = Counter(wanted.counts), self._tasks(wanted)
        async with self.layout.recording(caller, f"task.{wanted.action.name}_many") as note:
            while (task := await tasks.next()) is not None:
                if caller.sees(task.client):
                    counts[await self._act(wanted, task, caller)] += 1
                if tasks.is_late:
                    break
            note.detail = f"{counts['done']} {wanted.action.past} of {wanted.count_text} ({wanted.wanted.words})"
        after = replace(wanted, pending=tuple(tasks.pending), cursor=tasks.cursor, counts=counts)
        title = f"{wanted.action.label}: {'done' if tasks.at_end else 'in progress'}"
        return self._page(after, title=title, state="finished" if tasks.at_end else "running")

    def _tasks(self, wanted: BulkRequest) -> BulkTasks:
        """Return the tasks of the action that are left: after the cursor, and from the beginning if none was read."""
        return BulkTasks(
            queries=self.services.queries,
            wanted=replace(wanted.matching, without=UNSHOWN),
            pending=list(wanted.pending),
            cursor=wanted.cursor,
            has_more=wanted.all_that_match and (wanted.cursor is not None or not wanted.pending),
            seconds=BATCH_SECONDS,
            is_repeated=wanted.may_be_repeated,
        )

    async def _count(self, wanted: TaskFilter) -> tuple[int, bool]:
        """Return how many tasks match, and whether there may be more: the counts are those of all statuses."""
        counts = await self.services.queries.status_counts(wanted)
        chosen = wanted.statuses or {each.status for each in counts}
        return sum(each.count for each in counts if each.status in chosen), any(each.more for each in counts)

    async def _act(self, wanted: BulkRequest, task: Task, caller: Caller) -> str:
        """Act on one task; return the outcome."""
        action, service = wanted.action, self.services.task_service
        if not wanted.still_matches(task):
            return "not_possible"
        try:
            if action.name == "replay":
                return await self._replay(task, caller)
            if action.statuses and task.status.value not in action.statuses:
                return "not_possible"
            if action.name == "cancel":
                await service.cancel(task.id, only_if_queued=wanted.only_queued)
            else:
                await service.resubmit(task.id, first=True)
        except (Conflict, NotFound):
            return "not_possible"
        except BoomerangError:
            return "failed"
        return "done"

    async def _replay(self, task: Task, caller: Caller) -> str:
        """Replay the dead letters of a task that the caller may replay."""
        dead = ReplayFilter(statuses=frozenset({"dead"}), task_id=task.id, requested=not caller.admin)
        replayer, outcome, after = self.services.replayer, "not_possible", None
        while True:
            matches = await replayer.matching(dead, after=after, limit=REPLAYED_AT_ONCE)
            ids = [each.id for each in matches.found]
            if ids and "replayed" in (await replayer.replay(ids, now=self.layout.now())).values():
                outcome = "done"
            if matches.last is None:
                return outcome
            after = matches.last

    def _nothing_selected(self, request: Request, wanted: BulkRequest) -> Response:
        text = "Select tasks first, or choose all that match."
        return self.layout.done(request, wanted.wanted.address(), text, level="problem")

    def _page(self, wanted: BulkRequest, *, title: str, state: str) -> Page:
        difference = 0 if state != "finished" or wanted.more else wanted.total - wanted.handled
        changed = {"missing": max(difference, 0), "additional": max(-difference, 0)}
        fields = [("action", wanted.action.name), *wanted.wanted.pairs(), ("total", str(wanted.total))]
        fields.append(("counted_at", rfc3339(wanted.counted_at) or ""))
        fields += [("scope", "all")] if wanted.all_that_match else []
        fields += [("pending" if wanted.all_that_match else "task", each) for each in wanted.pending]
        fields += [(name, str(wanted.counts[name])) for name in OUTCOMES]
        fields += [("more", "yes")] if wanted.more else []
        if wanted.cursor:
            fields.append(("cursor", cursor_of("task", wanted.cursor)))
        values = {
            "action": wanted.action,
            "state": state,
            "total": wanted.total,
            "count_text": wanted.count_text,
            "handled": wanted.handled,
            "more": wanted.more,
            "counts": wanted.counts,
            "fields": fields,
            "all_that_match": wanted.all_that_match,
            "words": wanted.wanted.words if wanted.all_that_match else "the selection",
            "back": wanted.wanted.address(),
            **changed,
        }
        counts = dict(wanted.counts)
        data = {"action": wanted.action.name, "state": state, "total": wanted.total, "counts": counts, **changed}
        return Page(template="bulk.html", title=title, values=values, data=data)


def _read(request: Request, caller: Caller, form: Form, now: datetime) -> BulkRequest:
    """Return what a form asks for; raises InvalidParams. Without the time of a count the tasks are those until now."""
    pairs = [(name, form.get(name)) for name in (*NAMES, "cursor", "counted_at")]
    wanted, query = read_filter(request, caller, pairs, "cursor", "counted_at")
    cursor, counted_at = query.cursor("task"), query.time("counted_at")
    query.reject_errors()
    action = BY_NAME.get(form.get("action"))
    if action is None:
        raise InvalidParams([Fault(loc=("action",), msg=f"must be one of {', '.join(BY_NAME)}")])
    all_that_match = form.get("scope") == "all"
    pending = tuple(dict.fromkeys(form.all("pending" if all_that_match else "task")))
    if len(pending) > MAX_SELECTED:
        raise InvalidParams([Fault(loc=("task",), msg=f"at most {MAX_SELECTED} tasks can be selected")])
    counts = Counter({name: _number(form.get(name)) for name in OUTCOMES})
    return BulkRequest(
        action=action,
        all_that_match=all_that_match,
        pending=pending,
        wanted=wanted,
        cursor=cursor,
        total=_number(form.get("total")),
        counts=counts,
        counted_at=_milliseconds(min(counted_at or now, now)),
        more=bool(form.get("more")),
    )


def _milliseconds(moment: datetime) -> datetime:
    """Return a time as a form has it."""
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0  # noqa: PLR2004 - digits
