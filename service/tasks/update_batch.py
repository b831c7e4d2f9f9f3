"""Changes of one transaction, computed in memory and flushed together."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from service.domain.artifact import Artifact
from service.domain.event_routing import Subscription, route
from service.domain.fair_share import share_owner
from service.domain.poll_planner import PollPlanner
from service.domain.ports.immediate_claims import SlotReservations
from service.domain.ports.unit_of_work import (
    DeliveryRow,
    EventRow,
    PollRow,
    RunTime,
    UnitOfWork,
)
from service.domain.task import EventType, Status, Task, TaskId
from service.domain.task_update import (
    TaskUpdate,
    UpdateResult,
    after_unread_callback,
    applies,
    apply,
)
from service.domain.task_view import task_json
from service.tasks.immediate_polls import PollReservations


@dataclass(kw_only=True)
class UpdateBatch:
    """One transaction's worth of the record, worked out in memory before it is stored."""

    planner: PollPlanner
    reservations: SlotReservations
    immediate_polls: PollReservations
    subscriptions: Sequence[Subscription]
    new_id: Callable[[], str]
    now: datetime
    tasks: dict[TaskId, Task] = field(default_factory=dict)
    changed: set[TaskId] = field(default_factory=set)
    events: list[EventRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    polls: list[PollRow] = field(default_factory=list)
    run_times: list[RunTime] = field(default_factory=list)

    def apply(self, entry: TaskUpdate, word: str | None) -> UpdateResult:
        """Work `entry` into the page; `word` is the inbox's about its callback."""
        before = self.tasks.get(entry.task_id)
        if before is None or word in {"repeated", "nonce_reused"}:
            return UpdateResult(task=before, inbox=word)
        if not applies(entry, before):
            return UpdateResult(task=before, inbox=word)
        step = apply(entry, before, self.planner, self.now)
        self._replace(before, step.task)
        for event in step.events:
            self._append(event, step.task, entry.artifact)
        if entry.poll:
            self.polls.append(PollRow(task_id=before.id, at=self.now, outcome=entry.poll))
        return UpdateResult(task=step.task, inbox=word, events=step.events)

    def apply_after_unread_callback(self, guess: TaskUpdate) -> UpdateResult:
        """Work in a guess about a task that an unread callback speaks of."""
        word, rest = after_unread_callback(guess)
        before = self.tasks.get(guess.task_id)
        if before and applies(guess, before):
            self.apply(word, None)
        return self.apply(rest, None)

    def _replace(self, before: Task, after: Task) -> None:
        if after is not before:
            self.tasks[before.id] = after
            self.changed.add(before.id)
        run_time = self.planner.run_time(before, after, self.now) if after.settled and not before.settled else None
        if run_time:
            self.run_times.append(run_time)

    def _append(self, event: EventType, task: Task, artifact: Artifact | None) -> None:
        data = task_json(task)
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
                    leased_until=self.reservations.lease(
                        way.handler, self.now, client=share_owner(task.client, way.target)
                    ),
                )
            )

    async def flush(self, transaction: UnitOfWork) -> None:
        """Write the page, and ring whoever waits for what is on it."""
        if self.changed:
            await transaction.save(
                [self.immediate_polls.lease(self.tasks[task_id], self.now) for task_id in self.changed]
            )
        if self.events:
            self.reservations.claims = await transaction.append(self.events, self.deliveries)
        if self.polls:
            await transaction.add_polls(self.polls)
        if self.run_times:
            await transaction.add_run_times(self.run_times)
        transaction.notify(self._topics())

    def _topics(self) -> list[str]:
        moved = [self.tasks[task_id] for task_id in self.changed - self.immediate_polls.ids]
        due = {task.status for task in moved if task.due_at and task.due_at <= self.now}
        topics = [f"task:{event.task_id}" for event in self.events]
        topics += ["events"] * bool(self.events) + ["dispatch"] * (len(self.reservations.claims) < len(self.deliveries))
        topics += ["submit"] * (Status.QUEUED in due) + ["reconcile"] * bool(due - {Status.QUEUED})
        return list(dict.fromkeys(topics))
