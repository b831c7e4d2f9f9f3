"""Changes of one transaction, computed in memory and flushed together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from service.domain.artifact import Artifact
from service.domain.event_routing import Subscription, route
from service.domain.fair_share import share_owner
from service.domain.fast_copy import replace_fields
from service.domain.poll_planner import PollPlanner
from service.domain.ports.immediate_claims import SlotReservations
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryRow, EventRow, PollRow, RunTime, UnitOfWork
from service.domain.task import EventType, Status, Task, TaskId
from service.domain.task_update import TaskUpdate, UpdateResult
from service.domain.task_view import task_json
from service.domain.update_rules import UpdateContext, apply_update
from service.tasks.immediate_polls import PollReservations


@dataclass(kw_only=True)
class UpdateBatch:
    """The changes of one transaction, computed in memory and written together.

    `new_id` makes ids that sort by time; `subscriptions` say which handlers want which events.
    """

    unit_of_work: UnitOfWork
    planner: PollPlanner
    clock: Clock
    reservations: SlotReservations
    immediate_polls: PollReservations
    subscriptions: Sequence[Subscription]
    new_id: Callable[[], str]
    context: UpdateContext = field(init=False)
    tasks: dict[TaskId, Task] = field(init=False)
    changed: set[TaskId] = field(default_factory=set)
    events: list[EventRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    polls: list[PollRow] = field(default_factory=list)
    run_times: list[RunTime] = field(default_factory=list)

    async def write(self, updates: Sequence[TaskUpdate], *, from_inbox: bool = False) -> list[UpdateResult]:
        """Write `updates` and what follows from them; return one result for each.

        The callbacks of updates `from_inbox` are stored already.
        """
        self.context = UpdateContext(planner=self.planner, now=self.clock.now())
        self.tasks = await self.unit_of_work.lock({update.task_id for update in updates})
        named = {update.named_by_provider for update in updates if self._names_new_id(update)}
        if named:
            self.context.id_owners = await self.unit_of_work.holders([named_id for named_id in named if named_id])
        verdicts = ["new"] * len(updates) if from_inbox else await self._admit(updates)
        guessed = {update.task_id for update in updates if update.is_guess}
        if guessed:
            self.context.unread = await self.unit_of_work.with_unread_callbacks(guessed)
        results = [self.add(update, verdict) for update, verdict in zip(updates, verdicts, strict=True)]
        await self.flush()
        return results

    def _names_new_id(self, update: TaskUpdate) -> bool:
        """Return whether the update names an id that is not its task's, which another task may hold."""
        task = self.tasks.get(update.task_id)
        return task is not None and update.named_by_provider not in {None, task.upstream_id}

    async def _admit(self, updates: Sequence[TaskUpdate]) -> Sequence[str | None]:
        """Store the callbacks of `updates` in the inbox; return its result for each, None without a callback."""
        rows = [update.inbox for update in updates if update.inbox]
        if not rows:
            return [None] * len(updates)
        known = [row if row.task_id in self.tasks else replace_fields(row, verdict="quarantined") for row in rows]
        verdicts = iter(await self.unit_of_work.admit(known))
        return [next(verdicts) if update.inbox else None for update in updates]

    def add(self, update: TaskUpdate, verdict: str | None = None) -> UpdateResult:
        """Apply `update` in memory; `verdict` is the inbox's result for its callback."""
        before = self.tasks.get(update.task_id)
        if before is None or verdict in {"repeated", "nonce_reused"}:
            return UpdateResult(task=before, inbox=verdict)
        if update.fact and update.fact.upstream_id:
            self.context.id_owners.setdefault(update.fact.upstream_id, before.id)
        result = apply_update(update, before, self.context)
        if result is None or result.task is None:
            return UpdateResult(task=before, inbox=verdict)
        after = result.task
        if after is not before:
            self.tasks[before.id] = after
            self.changed.add(before.id)
        if after.settled and not before.settled:
            run_time = self.planner.run_time(before, after, self.context.now)
            self.run_times += [run_time] if run_time else []
        for event in result.events:
            self._add_event(event, after, update.artifact)
        if result.poll:
            self.polls.append(PollRow(task_id=before.id, at=self.context.now, outcome=result.poll))
        return replace_fields(result, inbox=verdict)

    def _add_event(self, event_type: EventType, task: Task, artifact: Artifact | None) -> None:
        """Add an event and one delivery of it for each handler and `notify` entry that wants it."""
        now = self.context.now
        data = task_json(task)
        if artifact:
            data["artifact"] = {name: getattr(artifact, name) for name in artifact.__dataclass_fields__}
        event = EventRow(id=self.new_id(), task_id=task.id, client=task.client, type=event_type, at=now, data=data)
        self.events.append(event)
        for to in route(event_type, task.notify, self.subscriptions):
            delivery_id = self.new_id()
            leased_until = self.reservations.lease(to.handler, now, client=share_owner(task.client, to.target))
            self.deliveries.append(
                DeliveryRow(
                    id=delivery_id,
                    event_id=event.id,
                    task_id=task.id,
                    client=task.client,
                    handler=to.handler,
                    lane=f"{task.id}/{to.lane_key}",
                    target=to.target,
                    message_id=f"msg_{delivery_id}",
                    due_at=now,
                    leased_until=leased_until,
                )
            )

    async def flush(self) -> None:
        """Write the changes, and notify those that wait for them."""
        unit_of_work, now = self.unit_of_work, self.context.now
        if self.changed:
            changed = [self.tasks[task_id] for task_id in self.changed]
            await unit_of_work.save([self.immediate_polls.lease(task, now) for task in changed])
        if self.events:
            self.reservations.claims = await unit_of_work.append(self.events, self.deliveries)
        if self.polls:
            await unit_of_work.note_polls(self.polls)
        if self.run_times:
            await unit_of_work.learn(self.run_times)
        unit_of_work.notify(self._topics())

    def _topics(self) -> list[str]:
        """Return the topics that the changes concern, without the work that this process starts right after."""
        changed = [self.tasks[task_id] for task_id in self.changed - self.immediate_polls.ids]
        due = {task.status for task in changed if task.due_at and task.due_at <= self.context.now}
        topics = [f"task:{event.task_id}" for event in self.events]
        if self.events:
            topics.append("events")
        if len(self.reservations.claims) < len(self.deliveries):
            topics.append("dispatch")
        if Status.QUEUED in due:
            topics.append("submit")
        if due - {Status.QUEUED}:
            topics.append("reconcile")
        return list(dict.fromkeys(topics))
