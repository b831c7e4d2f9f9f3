"""The one door: everything the upstream ever says about a task, and all that follows from it, is written here.

One transaction for a batch of facts: inbox rows, tasks advanced by the pure table, events, and one delivery for each
handler that wants them. Each caller is answered after the commit that holds its fact.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from service.batching import Batcher
from service.core.routing import Subscription, route
from service.core.task import EventType, Fact, Json, Source, Status, Step, Task, TaskId, UpstreamId, advance
from service.core.view import TaskView
from service.errors import StoreUnavailable
from service.handling import Artifact
from service.plan import Plan
from service.ports import (
    Clock,
    DeliveryRow,
    EventRow,
    InboxEntry,
    Ledger,
    LedgerTransaction,
    PollRow,
    RunTime,
)

BATCH = 256


@dataclass(frozen=True, kw_only=True)
class Hint:
    """A callback's word that a task has ended, to be confirmed by a GET: the id named, and the fact if correlated."""

    upstream_id: UpstreamId | None = None
    fact: Json | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """Something to record about one task.

    `fence` is that of the lease in hand, which is given back if it is still ours. `ours_only` entries are our own
    conclusions from that lease, and do nothing once it was lost; nor do `only_if` entries for another status. `due_at`
    overrules the plan. `named` is the id that a callback's body named, which need not be one that the upstream's GET
    knows. `tried` counts a sending that never left. `poll` is for the history.
    """

    task_id: TaskId
    fact: Fact | None = None
    source: Source | None = None
    fence: int | None = None
    ours_only: bool = False
    only_if: Status | None = None
    due_at: datetime | None = None
    tried: bool = False
    note: str | None = None
    inbox: InboxEntry | None = field(default=None, repr=False)
    named: UpstreamId | None = None
    hint: Hint | None = None
    artifact: Artifact | None = None
    poll: str | None = None


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What became of an entry: the task after it (None when we do not know such a task), and the inbox's word."""

    task: Task | None
    inbox: str | None = None
    events: tuple[EventType, ...] = ()


class Record:
    """Writes entries, many to a commit. `new_id` makes ids that sort by time; `subscriptions` say who wants what."""

    def __init__(
        self,
        ledger: Ledger,
        *,
        clock: Clock,
        plan: Plan,
        subscriptions: Sequence[Subscription],
        new_id: Callable[[], str],
    ) -> None:
        self._ledger = ledger
        self._clock = clock
        self._plan = plan
        self._subscriptions = subscriptions
        self._new_id = new_id
        self._batcher = Batcher(self._commit_all, most=BATCH)

    async def add(self, entry: Entry) -> Recorded:
        """Record `entry` durably; raises StoreUnavailable when that cannot be done now."""
        outcome = await self._batcher.add(entry)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def _commit_all(self, entries: list[Entry]) -> list[Recorded | Exception]:
        try:
            return list(await self._commit(entries))
        except StoreUnavailable:
            raise
        except Exception as error:  # noqa: BLE001 - one entry that cannot be stored must not take its neighbours along
            if len(entries) == 1:
                return [error]
            return [outcome for entry in entries for outcome in await self._commit_all([entry])]

    async def _commit(self, entries: Sequence[Entry]) -> list[Recorded]:
        now = self._clock.now()
        async with self._ledger.transaction() as transaction:
            tasks = await transaction.lock({entry.task_id for entry in entries})
            words = await self._admit(transaction, entries, tasks)
            page = Page(tasks=tasks, plan=self._plan, subscriptions=self._subscriptions, new_id=self._new_id, now=now)
            recorded = [page.write(entry, word) for entry, word in zip(entries, words, strict=True)]
            await page.store(transaction)
        return recorded

    async def _admit(
        self, transaction: LedgerTransaction, entries: Sequence[Entry], tasks: dict[TaskId, Task]
    ) -> list[str | None]:
        rows = [_quarantined(entry.inbox, tasks) for entry in entries if entry.inbox]
        words = iter(await transaction.admit(rows) if rows else [])
        return [next(words) if entry.inbox else None for entry in entries]


def _quarantined(row: InboxEntry, tasks: dict[TaskId, Task]) -> InboxEntry:
    return row if row.task_id in tasks else replace(row, verdict="quarantined")


@dataclass(kw_only=True)
class Page:
    """One transaction's worth of the record, worked out in memory before it is stored."""

    tasks: dict[TaskId, Task]
    plan: Plan
    subscriptions: Sequence[Subscription]
    new_id: Callable[[], str]
    now: datetime
    changed: set[TaskId] = field(default_factory=set)
    events: list[EventRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    polls: list[PollRow] = field(default_factory=list)
    run_times: list[RunTime] = field(default_factory=list)

    def write(self, entry: Entry, word: str | None) -> Recorded:
        """Work `entry` into the page; `word` is the inbox's about its callback."""
        before = self.tasks.get(entry.task_id)
        if before is None or word in {"repeated", "nonce_reused"}:
            return Recorded(task=before, inbox=word)
        if not _applies(entry, before):
            return Recorded(task=before, inbox=word)
        entry = _as_hint_while_nameless(entry, before)
        after, happened = self._apply(entry, before)
        self.tasks[before.id] = after
        self.changed.add(before.id)
        for event in happened:
            self._append(event, after, entry.artifact)
        if entry.poll:
            self.polls.append(PollRow(task_id=before.id, at=self.now, outcome=entry.poll))
        return Recorded(task=after, inbox=word, events=happened)

    def _apply(self, entry: Entry, before: Task) -> tuple[Task, tuple[EventType, ...]]:
        step = self._advance(entry, before)
        after = _with_lease_returned(entry, before, step.task)
        after = _with_poll_counted(entry, after, self.now)
        after = _with_hint(entry, after, self.now)
        if after.settled and not before.settled:
            self._learn(before, after)
        due_at = self.now if entry.hint and not after.final else self.plan.due(after, self.now)
        return replace(after, due_at=entry.due_at or due_at, note=entry.note), step.events

    def _advance(self, entry: Entry, task: Task) -> Step:
        if entry.artifact:
            return _keep(task, entry.artifact)
        step = advance(task, entry.fact, self.now, source=_road(entry, task)) if entry.fact else None
        return step or Step(task=_with_late_id(entry, task))

    def _learn(self, before: Task, after: Task) -> None:
        run_time = self.plan.run_time(before, after, self.now)
        if run_time:
            self.run_times.append(run_time)

    def _append(self, event: EventType, task: Task, artifact: Artifact | None) -> None:
        data = TaskView.of(task).to_json()
        if artifact:
            data["artifact"] = {name: getattr(artifact, name) for name in artifact.__dataclass_fields__}
        row = EventRow(id=self.new_id(), task_id=task.id, client=task.client, type=event, at=self.now, data=data)
        self.events.append(row)
        for way in route(event, task.notify, self.subscriptions):
            delivery_id = self.new_id()
            self.deliveries.append(
                DeliveryRow(
                    id=delivery_id,
                    event_id=row.id,
                    task_id=task.id,
                    client=task.client,
                    handler=way.handler,
                    lane=f"{task.id}/{way.lane_key}",
                    target=way.target,
                    message_id=f"msg_{delivery_id}",
                    due_at=self.now,
                )
            )

    async def store(self, transaction: LedgerTransaction) -> None:
        """Write the page, and ring whoever waits for what is on it."""
        if self.changed:
            await transaction.save([self.tasks[task_id] for task_id in self.changed])
        if self.events:
            await transaction.append(self.events, self.deliveries)
        if self.polls:
            await transaction.note_polls(self.polls)
        if self.run_times:
            await transaction.learn(self.run_times)
        transaction.notify(self._topics())

    def _topics(self) -> list[str]:
        changed = [self.tasks[task_id] for task_id in self.changed]
        due = {task.status for task in changed if task.due_at and task.due_at <= self.now}
        topics = [f"task:{event.task_id}" for event in self.events]
        topics += ["events"] * bool(self.events) + ["dispatch"] * bool(self.deliveries)
        topics += ["submit"] * (Status.QUEUED in due) + ["reconcile"] * bool(due - {Status.QUEUED})
        return list(dict.fromkeys(topics))


def _applies(entry: Entry, task: Task) -> bool:
    if entry.only_if and task.status is not entry.only_if:
        return False
    return not (entry.ours_only and entry.fence != task.fence)


def _road(entry: Entry, task: Task) -> Source | None:
    """Return by which road a fact came: where a poll confirms what a callback told, it is the callback's."""
    confirmed = entry.source is Source.POLL and entry.fact is not None and entry.fact.settles and task.hinted_at
    return Source.CALLBACK if confirmed else entry.source


def _as_hint_while_nameless(entry: Entry, task: Task) -> Entry:
    """Turn a callback's "in progress" into a hint while we have no id of our own to ask about."""
    news = entry.source is Source.CALLBACK and entry.fact is not None and not entry.fact.settles
    if not news or task.upstream_id:
        return entry
    return replace(entry, fact=None, source=None, hint=Hint(upstream_id=entry.named))


def _with_late_id(entry: Entry, task: Task) -> Task:
    """Learn the id from a reply that comes after the end: the fact changes nothing else any more."""
    told = entry.fact.upstream_id if entry.fact and entry.source is Source.SUBMIT else None
    return replace(task, upstream_id=told) if told and task.upstream_id is None else task


def _with_lease_returned(entry: Entry, before: Task, after: Task) -> Task:
    if entry.fence is None or entry.fence != before.fence:
        return after
    return replace(after, leased_until=None, tries=after.tries + 1 if entry.tried else 0)


def _with_poll_counted(entry: Entry, task: Task, now: datetime) -> Task:
    if entry.source is not Source.POLL:
        return task
    still = entry.fact is not None and entry.fact.status is Status.IN_PROGRESS
    return replace(task, polls=task.polls + 1, polled_at=now if still else task.polled_at)


def _with_hint(entry: Entry, task: Task, now: datetime) -> Task:
    if entry.source is Source.CALLBACK and entry.fact and entry.fact.settles:
        return replace(task, hinted_at=task.hinted_at or now)
    if entry.hint is None or task.final:
        return task
    return replace(
        task,
        hinted_at=task.hinted_at or now,
        hinted_id=entry.hint.upstream_id or task.hinted_id,
        hinted_fact=entry.hint.fact or task.hinted_fact,
    )


def _keep(task: Task, artifact: Artifact) -> Step:
    """Note where a result is kept; a second time changes nothing."""
    kept = tuple(_archived(item, artifact) for item in task.output)
    if kept == task.output:
        return Step(task=task)
    return Step(task=replace(task, output=kept), events=(EventType.ARTIFACT_STORED,))


def _archived(item: Json, artifact: Artifact) -> Json:
    return item | {"archived_url": artifact.archived_url} if item.get("url") == artifact.url else item
