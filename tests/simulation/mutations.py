"""Known faults, planted one by one: the simulation must catch every one of them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import httpx

from service.callbacks.receiver import CallbackReceiver
from service.deliveries import dispatcher as dispatch
from service.domain import task as core_task
from service.domain import update_rules
from service.domain.callback import Callback
from service.domain.errors import BadToken, StoreUnavailable
from service.domain.poll_planner import PollPlanner
from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task_update import TaskUpdate, UpdateResult
from service.domain.tokens import TokenClaims, Tokens
from service.providers import http_client as http
from service.tasks import recorder as record
from service.tasks import update_batch
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.recorder import Recorder
from service.tasks.submitter import Submitter
from service.tasks.update_batch import UpdateBatch
from tests.simulation import store_mutations as store
from tests.simulation.store_mutations import both

Mutation = Callable[[], AbstractContextManager[Any]]


def ack_before_commit() -> AbstractContextManager[Any]:
    """Answer a callback before it is durable."""
    whole = Recorder.add

    async def add(self: Recorder, given: TaskUpdate) -> UpdateResult:
        if given.inbox is None:
            return await whole(self, given)
        later = asyncio.create_task(whole(self, given))
        later.add_done_callback(lambda done: done.cancelled() or done.exception())
        return UpdateResult(task=None, inbox="new")

    return patch.object(Recorder, "add", add)


def lost_reply_retried() -> AbstractContextManager[Any]:
    """Send a submission again when its reply was lost."""

    def retried(task: core_task.Task) -> TaskUpdate:
        return TaskUpdate.retry(task, task.submitted_at or task.created_at, "it may have been sent")

    return patch.object(TaskUpdate, "in_doubt", retried)


def gateway_errors_never_left() -> AbstractContextManager[Any]:
    """Take a read error for a connection that was refused."""
    return patch.object(http, "NOT_SENT_ERRORS", (*http.NOT_SENT_ERRORS, httpx.ReadError))


def fresh_id_for_each_attempt() -> AbstractContextManager[Any]:
    """Give every attempt an id of its own, so that a receiver cannot tell repeats."""
    whole = dispatch.Dispatcher._start

    def start(self: Any, claim: Any, leased_until: Any) -> Any:
        return whole(self, replace(claim, message_id=f"{claim.message_id}-{claim.attempt}"), leased_until)

    return patch.object(dispatch.Dispatcher, "_start", start)


def event_without_delivery() -> AbstractContextManager[Any]:
    """Write the deliveries in a second transaction."""
    whole = UpdateBatch.flush

    async def flush(self: UpdateBatch) -> None:
        kept, self.deliveries = self.deliveries, []
        await whole(self)
        self.deliveries = kept

    commit = Recorder._commit

    async def committed(self: Recorder, entries: Any) -> list[UpdateResult]:
        pages: list[UpdateBatch] = []

        def begun(**given: Any) -> UpdateBatch:
            pages.append(UpdateBatch(**given))
            return pages[-1]

        with patch.object(record, "UpdateBatch", begun):
            done = await commit(self, entries)
        if pages and pages[0].deliveries:
            async with self.units_of_work.transaction() as transaction:
                await transaction.append([], pages[0].deliveries)
                transaction.notify(["dispatch"])
        return done

    return both(patch.object(UpdateBatch, "flush", flush), patch.object(Recorder, "_commit", committed))


def token_not_checked() -> AbstractContextManager[Any]:
    """Believe the address of a callback without its signature."""

    def read(_self: Tokens, token: str, _now: Any) -> TokenClaims:
        named = token.split("~")
        try:
            return TokenClaims(task_id=core_task.TaskId(named[0]), submission=int(named[1].split(".")[0]))
        except (IndexError, ValueError):
            raise BadToken("forged") from None

    return patch.object(Tokens, "read_callback_token", read)


def deadline_ignored() -> AbstractContextManager[Any]:
    """Let no task expire."""
    return patch.object(update_rules, "_expired", lambda step, _now: step)


def hint_lost_when_the_reply_comes_later() -> AbstractContextManager[Any]:
    """Forget what a callback said when the submission's reply comes after it."""
    whole = update_rules.apply_update

    def applied(given: TaskUpdate, before: Any, context: update_rules.UpdateContext) -> UpdateResult | None:
        result = whole(given, before, context)
        if result is None or result.task is None or given.source is not core_task.Source.SUBMIT:
            return result
        task = replace(result.task, hinted_at=None, hinted_fact=None, hinted_id=None)
        return replace(result, task=replace(task, due_at=context.planner.due(task, context.now)))

    return patch.object(update_batch, "apply_update", applied)


def no_sweep() -> AbstractContextManager[Any]:
    """Never look for submissions whose worker has died."""

    async def sweep(_self: Submitter) -> int:
        return 0

    return patch.object(Submitter, "sweep", sweep)


def poll_never_set() -> AbstractContextManager[Any]:
    """Plan no question after a submission."""
    whole = PollPlanner.due

    def due(self: PollPlanner, task: Any, now: Any) -> Any:
        return None if task.status is core_task.Status.IN_PROGRESS and task.polls == 0 else whole(self, task, now)

    return patch.object(PollPlanner, "due", due)


def settles_twice() -> AbstractContextManager[Any]:
    """Let a second terminal word overrule the first."""
    transitions = dict.fromkeys(core_task.SETTLED, core_task.REPORTED)
    return both(
        patch.object(core_task.Task, "final", property(lambda _self: False)),
        patch.object(core_task, "TRANSITIONS", {**core_task.TRANSITIONS, **transitions}),
    )


def body_believed() -> AbstractContextManager[Any]:
    """Believe what a callback says without asking the upstream."""
    whole = TaskUpdate.callback

    def unconfirmed(callback: Callback, row: InboxEntry, **_: Any) -> TaskUpdate:
        return whole(callback, row, confirm=False)

    return patch.object(TaskUpdate, "callback", unconfirmed)


def ack_before_kept() -> AbstractContextManager[Any]:
    """Answer a callback of a crowd before it is kept."""
    whole = CallbackReceiver._store

    async def kept(self: CallbackReceiver, rows: Any) -> list[bool]:
        later = asyncio.create_task(whole(self, rows))
        later.add_done_callback(lambda done: done.cancelled() or done.exception())
        return [False for _ in rows]

    return patch.object(CallbackReceiver, "_store", kept)


def store_trouble_swallowed() -> AbstractContextManager[Any]:
    """Answer a callback as if it were durable when the store could not take it."""
    whole = Recorder.add

    async def add(self: Recorder, given: TaskUpdate) -> UpdateResult:
        try:
            return await whole(self, given)
        except StoreUnavailable:
            if given.inbox is None:
                raise
            return UpdateResult(task=None, inbox="new")

    return patch.object(Recorder, "add", add)


def question_born_and_forgotten() -> AbstractContextManager[Any]:
    """Lease a task for the question that it is due for, and do not ask it."""
    whole = ImmediatePolls.open

    def forget(self: ImmediatePolls, capacity: Any, _poll: Any) -> None:
        whole(self, capacity, lambda _task: None)

    return patch.object(ImmediatePolls, "open", forget)


MUTATIONS: tuple[Mutation, ...] = (
    ack_before_commit,
    store.no_fencing,
    store.lease_not_renewed,
    store.submission_lease_not_renewed,
    lost_reply_retried,
    gateway_errors_never_left,
    store.replay_under_the_old_id,
    fresh_id_for_each_attempt,
    event_without_delivery,
    token_not_checked,
    deadline_ignored,
    hint_lost_when_the_reply_comes_later,
    no_sweep,
    poll_never_set,
    store.order_ignored,
    settles_twice,
    store.sent_before_durable,
    store.inbox_not_kept,
    store.drain_forgets_leases,
    store.retry_at_once,
    store.idempotency_ignored,
    body_believed,
    ack_before_kept,
    store_trouble_swallowed,
    store.unread_forgotten,
    store.lease_with_the_wrong_fence,
    store.delivery_lease_with_the_wrong_fence,
    store.max_in_flight_ignored,
    store.budget_ignored,
    question_born_and_forgotten,
)
