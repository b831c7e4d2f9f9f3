"""Changes of one transaction, computed in memory and flushed together."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from service.domain.apply_update import UpdateContext, apply_update
from service.domain.artifact import ARTIFACT_FIELDS, Artifact
from service.domain.event_routing import DeliveryRoute, Subscription, route, wants_progress
from service.domain.fair_share import share_owner
from service.domain.fast_copy import replace_fields
from service.domain.poll_planner import PollPlanner
from service.domain.ports.immediate_claims import DeliverySlots, SlotReservations
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import (
    DeliveryRow,
    EventRow,
    PollRow,
    RunTime,
    UnitOfWork,
)
from service.domain.prices import Pricing
from service.domain.task import EventType, Status, Task, TaskId, UpstreamId
from service.domain.task_update import TaskUpdate, UpdateResult
from service.domain.task_view import task_json
from service.domain.task_wait import WaitRow
from service.tasks.immediate_polls import ImmediatePolls, PollReservations

log = structlog.get_logger("boomerang.tasks")


@dataclass(kw_only=True)
class UpdateBatch:
    """The changes of one transaction, computed in memory and written together.

    `new_id` makes ids that sort by time; `subscriptions` are the handlers with their events. `leases` ends after the
    transaction; it is entered for slots and polls only if there is something to lease.
    """

    unit_of_work: UnitOfWork
    planner: PollPlanner
    clock: Clock
    slots: DeliverySlots
    immediate_polls: ImmediatePolls
    leases: ExitStack
    subscriptions: Sequence[Subscription]
    new_id: Callable[[], str]
    pricing: Pricing = field(default_factory=Pricing)
    cost_faults: Counter[str] = field(default_factory=Counter)
    slot_reservations: SlotReservations | None = None
    poll_reservations: PollReservations | None = None
    context: UpdateContext = field(init=False)
    tasks: dict[TaskId, Task] = field(init=False)
    changed: set[TaskId] = field(default_factory=set)
    events: list[EventRow] = field(default_factory=list)
    deliveries: list[DeliveryRow] = field(default_factory=list)
    polls: list[PollRow] = field(default_factory=list)
    run_times: list[RunTime] = field(default_factory=list)
    watched: dict[TaskId, datetime] = field(default_factory=dict)
    waits: dict[tuple[TaskId, str], WaitRow] = field(default_factory=dict)

    async def write(self, updates: Sequence[TaskUpdate], *, from_inbox: bool = False) -> list[UpdateResult]:
        """Write `updates`, their events and deliveries; return one result for each.

        The callbacks of updates `from_inbox` are stored already.
        """
        unit_of_work = self.unit_of_work
        self.context = UpdateContext(planner=self.planner, now=self.clock.now(), pricing=self.pricing)
        verdicts = await self._receive(updates, from_inbox=from_inbox)
        named: set[UpstreamId] = set()
        guessed: set[TaskId] = set()
        for update in updates:
            task, named_id = self.tasks.get(update.task_id), update.named_by_provider
            if task and named_id and named_id != task.upstream_id:
                named.add(named_id)
            if update.is_guess:
                guessed.add(update.task_id)
        if named:
            self.context.id_owners = await unit_of_work.holders(named)
        if guessed:
            self.context.unread = await unit_of_work.with_unread_callbacks(guessed)
        results = []
        for update in updates:
            result = self.add(update, "new" if from_inbox else verdicts.get(id(update)))
            self._note_cost_fault(result)
            results.append(result)
        await self.flush()
        return results

    async def _receive(self, updates: Sequence[TaskUpdate], *, from_inbox: bool) -> dict[int, str]:
        """Lock the tasks of `updates` and store their callbacks; return the inbox's result for each, by its identity.

        Callbacks of unknown tasks are quarantined.
        """
        rows = {} if from_inbox else {id(update): update.inbox for update in updates if update.inbox}
        ids = {update.task_id for update in updates}
        self.tasks, verdicts = await self.unit_of_work.receive(ids, list(rows.values()))
        if unknown := [row for row in rows.values() if row.task_id not in self.tasks]:
            await self.unit_of_work.read([replace_fields(row, verdict="quarantined") for row in unknown])
        return dict(zip(rows, verdicts, strict=True))

    def add(self, update: TaskUpdate, verdict: str | None = None) -> UpdateResult:
        """Apply `update` in memory; `verdict` is the inbox's result for its callback."""
        before = self.tasks.get(update.task_id)
        if before is None or verdict in {"repeated", "nonce_reused", "settled"}:
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
        self._note_waits(update, result)
        if result.poll:
            self.polls.append(PollRow(task_id=before.id, at=self.context.now, outcome=result.poll))
        return replace_fields(result, inbox=verdict)

    def _note_waits(self, update: TaskUpdate, result: UpdateResult) -> None:
        """Note what the task waited for, and whether somebody asked for the progress of a task that was accepted."""
        task = result.task
        if task and EventType.SUBMITTED in result.events and wants_progress(task.notify, self.subscriptions):
            self.watched[task.id] = task.deadline_at
        for wait in update.waits:
            row = WaitRow(task_id=update.task_id, count=1, **vars(wait))
            known = self.waits.get((update.task_id, wait.reason))
            self.waits[update.task_id, wait.reason] = known.joined(row) if known else row

    def _note_cost_fault(self, result: UpdateResult) -> None:
        """Log and count a reported cost that cannot be right: the budget counts the usual price instead."""
        if result.cost_fault and result.task:
            self.cost_faults[result.cost_fault] += 1
            log.warning(
                "cost reported by the provider ignored",
                task=result.task.id,
                reason=result.cost_fault,
                cost=result.task.cost,
            )

    def _add_event(self, event_type: EventType, task: Task, artifact: Artifact | None) -> None:
        """Add an event and one delivery of it for each handler and `notify` entry that wants it."""
        data = task_json(task)
        if artifact:
            data["artifact"] = {name: getattr(artifact, name) for name in sorted(ARTIFACT_FIELDS)}
        event = EventRow(
            id=self.new_id(), task_id=task.id, client=task.client, type=event_type, at=self.context.now, data=data
        )
        self.events.append(event)
        for to in route(event_type, task.notify, self.subscriptions):
            self._add_delivery(event, to)

    def _add_delivery(self, event: EventRow, to: DeliveryRoute) -> None:
        """Add a delivery, with a lease if a slot is free for it; one that is held waits for its endpoint."""
        now = self.context.now
        if self.slot_reservations is None:
            self.slot_reservations = self.leases.enter_context(self.slots.reservations())
        delivery_id = self.new_id()
        leased_until = None
        if not (to.held or to.limited):
            owner, of = share_owner(event.client, to.target), event.client
            leased_until = self.slot_reservations.lease(to.handler, now, client=owner, of=of, target=to.target)
        self.deliveries.append(
            DeliveryRow(
                id=delivery_id,
                event_id=event.id,
                task_id=event.task_id,
                client=event.client,
                handler=to.handler,
                lane=f"{event.task_id}/{to.lane_key}",
                target=to.target,
                message_id=f"msg_{delivery_id}",
                due_at=None if to.held else now,
                leased_until=leased_until,
                destination=f"{event.task_id}/{to.host_key}" if to.host_key else None,
                endpoint_id=to.endpoint_id,
            )
        )

    async def _deliver_to_endpoints(self) -> None:
        """Add deliveries to the endpoints of the clients; one that asks for progress by name watches its tasks."""
        for endpoint in await self.unit_of_work.endpoints_of({event.client for event in self.events}):
            for event in self.events:
                if event.client != endpoint.client:
                    continue
                if endpoint.wants(event.type, self.subscriptions):
                    self._add_delivery(event, endpoint.route())
                if event.type is EventType.SUBMITTED and endpoint.wants_progress:
                    self.watched[event.task_id] = self.tasks[event.task_id].deadline_at

    async def flush(self) -> None:
        """Write the changes, and notify those that wait for them."""
        unit_of_work, now = self.unit_of_work, self.context.now
        topics = dict.fromkeys(f"task:{event.task_id}" for event in self.events)
        changed = []
        for task_id in self.changed:
            task = self.tasks[task_id]
            due = task.due_at is not None and task.due_at <= now
            changed.append(self._lease_or_notify(task, topics) if due else task)
        if changed:
            await unit_of_work.save(changed)
        if self.events:
            await self._deliver_to_endpoints()
            await self._append(topics)
        if self.polls:
            await unit_of_work.add_polls(self.polls)
        if self.watched:
            await unit_of_work.watch(self.watched)
        if self.waits:
            await unit_of_work.add_task_waits(list(self.waits.values()))
        if self.run_times:
            await unit_of_work.add_run_times(self.run_times)
        unit_of_work.notify(topics)

    def _lease_or_notify(self, task: Task, topics: dict[str, None]) -> Task:
        """Return a due task, leased if this process polls it right after the commit; else notify the job's topic."""
        if self.immediate_polls.accepting:
            if self.poll_reservations is None:
                self.poll_reservations = self.leases.enter_context(self.immediate_polls.reservations())
            leased = self.poll_reservations.lease(task, self.context.now)
            if leased is not task:
                return leased
        topics["submit" if task.status is Status.QUEUED else "reconcile"] = None
        return task

    async def _append(self, topics: dict[str, None]) -> None:
        """Write the events and their deliveries; those that are not leased here wait for a job that claims them."""
        claims = await self.unit_of_work.append(self.events, self.deliveries)
        topics["events"] = None
        if self.slot_reservations:
            self.slot_reservations.grant(claims)
        if not all(row.leased_until for row in self.deliveries):
            topics["dispatch"] = None
