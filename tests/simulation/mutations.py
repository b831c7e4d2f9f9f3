"""Known faults, injected one by one: the simulation must detect each of them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import httpx

from service.callbacks.receiver import CallbackReceiver
from service.deliveries import dispatcher as dispatch
from service.domain import apply_update
from service.domain import task as core_task
from service.domain.callback import Callback
from service.domain.errors import BadToken, StoreUnavailable
from service.domain.key_ring import KeyRing
from service.domain.poll_planner import PollPlanner
from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task_update import TaskUpdate, UpdateResult
from service.domain.task_wait import Wait
from service.domain.tokens import TokenClaims, Tokens
from service.providers import http_client as http
from service.providers.answer import Answer
from service.providers.bounded_request import HttpResponse
from service.providers.response_reader import ResponseReader
from service.runtime.key_agreement import KeyAgreement
from service.tasks import poller, update_batch
from service.tasks import recorder as record
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.recorder import Recorder
from service.tasks.submitter import Submitter
from service.tasks.update_batch import UpdateBatch
from tests.simulation import store_mutations as store
from tests.simulation.loop import OWNER
from tests.simulation.operation_mutations import OPERATION_MUTATIONS
from tests.simulation.store_mutations import both

Mutation = Callable[[], AbstractContextManager[Any]]


def ack_before_commit() -> AbstractContextManager[Any]:
    """Answer a callback before it is durable."""
    original = Recorder.add

    async def add(self: Recorder, update: TaskUpdate, **options: bool) -> UpdateResult:
        if update.inbox is None:
            return await original(self, update, **options)
        later = asyncio.create_task(original(self, update))
        later.add_done_callback(lambda done: done.cancelled() or done.exception())
        return UpdateResult(task=None, inbox="new")

    return patch.object(Recorder, "add", add)


def lost_reply_retried() -> AbstractContextManager[Any]:
    """Submit again after a lost reply."""

    def retried(task: core_task.Task, _note: str | None = None) -> TaskUpdate:
        at = task.submitted_at or task.created_at
        return TaskUpdate.retry(task, at, "it may have been sent", Wait(reason="not_sent", first_at=at, last_at=at))

    return patch.object(TaskUpdate, "in_doubt", retried)


def gateway_errors_not_sent() -> AbstractContextManager[Any]:
    """Treat a read error like a refused connection."""
    return patch.object(http, "NOT_SENT_ERRORS", (*http.NOT_SENT_ERRORS, httpx.ReadError))


def fresh_id_for_each_attempt() -> AbstractContextManager[Any]:
    """Give every attempt a new id, so that a receiver cannot recognize repetitions."""
    original = dispatch.Dispatcher._start

    def start(self: Any, claim: Any, leased_until: Any) -> Any:
        return original(self, replace(claim, message_id=f"{claim.message_id}-{claim.attempt}"), leased_until)

    return patch.object(dispatch.Dispatcher, "_start", start)


def event_without_delivery() -> AbstractContextManager[Any]:
    """Write the deliveries in a second transaction."""
    original = UpdateBatch.flush

    async def flush(self: UpdateBatch) -> None:
        deliveries, self.deliveries = self.deliveries, []
        await original(self)
        self.deliveries = deliveries

    commit = Recorder._commit

    async def committed(self: Recorder, entries: Any) -> list[UpdateResult]:
        batches: list[UpdateBatch] = []

        def create_batch(**fields: Any) -> UpdateBatch:
            batches.append(UpdateBatch(**fields))
            return batches[-1]

        with patch.object(record, "UpdateBatch", create_batch):
            done = await commit(self, entries)
        if batches and batches[0].deliveries:
            async with self.units_of_work.transaction() as transaction:
                await transaction.append([], batches[0].deliveries)
                transaction.notify(["dispatch"])
        return done

    return both(patch.object(UpdateBatch, "flush", flush), patch.object(Recorder, "_commit", committed))


def token_not_checked() -> AbstractContextManager[Any]:
    """Accept the address of a callback without checking its signature."""

    def read(_self: Tokens, token: str, _now: Any) -> TokenClaims:
        named = token.split("~")
        try:
            return TokenClaims(task_id=core_task.TaskId(named[0]), submission=int(named[1].split(".")[0]))
        except (IndexError, ValueError):
            raise BadToken("forged") from None

    return patch.object(Tokens, "read_callback_token", read)


def deadline_ignored() -> AbstractContextManager[Any]:
    """Let no task expire."""
    return patch.object(apply_update, "_expired", lambda step, _now: step)


def hint_lost_when_the_reply_comes_later() -> AbstractContextManager[Any]:
    """Drop a callback's hint when the submission's reply comes after it."""
    original = apply_update.apply_update

    def applied(update: TaskUpdate, before: Any, context: apply_update.UpdateContext) -> UpdateResult | None:
        result = original(update, before, context)
        if result is None or result.task is None or update.source is not core_task.Source.SUBMIT:
            return result
        task = replace(result.task, hinted_at=None, hinted_fact=None, hinted_id=None)
        return replace(result, task=replace(task, due_at=context.planner.due(task, context.now)))

    return patch.object(update_batch, "apply_update", applied)


def no_sweep() -> AbstractContextManager[Any]:
    """Never look for submissions whose worker has crashed."""

    async def sweep(_self: Submitter) -> int:
        return 0

    return patch.object(Submitter, "sweep", sweep)


def poll_never_set() -> AbstractContextManager[Any]:
    """Schedule no poll after a submission."""
    original = PollPlanner.due

    def due(self: PollPlanner, task: Any, now: Any) -> Any:
        return None if task.status is core_task.Status.IN_PROGRESS and task.polls == 0 else original(self, task, now)

    return patch.object(PollPlanner, "due", due)


def settles_twice() -> AbstractContextManager[Any]:
    """Let a second terminal status replace the first."""
    transitions = dict.fromkeys(core_task.SETTLED, core_task.REPORTED)
    return both(
        patch.object(core_task.Task, "final", property(lambda _self: False)),
        patch.object(core_task, "TRANSITIONS", {**core_task.TRANSITIONS, **transitions}),
    )


def body_accepted_unconfirmed() -> AbstractContextManager[Any]:
    """Accept a callback's status without a poll."""
    original = TaskUpdate.callback

    def unconfirmed(callback: Callback, row: InboxEntry, **_: Any) -> TaskUpdate:
        return original(callback, row, confirm=False)

    return patch.object(TaskUpdate, "callback", unconfirmed)


def ack_before_stored() -> AbstractContextManager[Any]:
    """Answer a callback of a burst before it is stored."""
    original = CallbackReceiver._store

    async def store_later(self: CallbackReceiver, rows: Any) -> list[bool]:
        later = asyncio.create_task(original(self, rows))
        later.add_done_callback(lambda done: done.cancelled() or done.exception())
        return [False for _ in rows]

    return patch.object(CallbackReceiver, "_store", store_later)


def storage_error_swallowed() -> AbstractContextManager[Any]:
    """Answer a callback as if it were durable although the storage failed."""
    original = Recorder.add

    async def add(self: Recorder, update: TaskUpdate, **options: bool) -> UpdateResult:
        try:
            return await original(self, update, **options)
        except StoreUnavailable:
            if update.inbox is None:
                raise
            return UpdateResult(task=None, inbox="new")

    return patch.object(Recorder, "add", add)


def leased_poll_not_made() -> AbstractContextManager[Any]:
    """Lease a task for its due poll, and do not make the poll."""
    original = ImmediatePolls.open

    def open_without_poll(self: ImmediatePolls, capacity: Any, _poll: Any) -> None:
        original(self, capacity, lambda _task: None)

    return patch.object(ImmediatePolls, "open", open_without_poll)


def newest_key_signs() -> AbstractContextManager[Any]:
    """Sign with the newest key at once, whichever keys other processes know."""
    return patch.object(KeyRing, "newest_common", lambda self, _known: self.fingerprints[0])


def payload_signed_again() -> AbstractContextManager[Any]:
    """Compare a payload in a provider's answer with a token that the newest key of the process signs again."""

    def names(payload: str, task_id: core_task.TaskId, submissions: range) -> bool:
        process: Any = OWNER.get()
        tokens = Tokens(process.keys)
        return payload in [tokens.payload_token(task_id, number) for number in submissions]

    return patch.object(poller, "names_submission", names)


def unknown_key_is_forged() -> AbstractContextManager[Any]:
    """Answer 403 for a token of a key that only another process knows."""
    return patch.object(KeyAgreement, "may_lack_keys", lambda _self: False)


def results_not_awaited() -> AbstractContextManager[Any]:
    """Settle a task that is reported as completed without any result at once."""
    return patch.object(apply_update, "await_result", lambda update, _task, _now: update)


def id_dropped_with_an_odd_reply() -> AbstractContextManager[Any]:
    """Lose a reply that has an id but no status, or another status than a success."""
    original = ResponseReader._accepted

    def accepted(
        self: ResponseReader, response: HttpResponse, answer: Answer, *, complete: bool
    ) -> core_task.Fact | None:
        readable = answer.word and response.status < httpx.codes.MULTIPLE_CHOICES
        return original(self, response, answer, complete=complete) if readable else None

    return patch.object(ResponseReader, "_accepted", accepted)


MUTATIONS: tuple[Mutation, ...] = (
    ack_before_commit,
    store.no_fencing,
    store.lease_not_renewed,
    store.submission_lease_not_renewed,
    lost_reply_retried,
    gateway_errors_not_sent,
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
    store.inbox_not_written,
    store.leases_not_released_at_shutdown,
    store.retry_at_once,
    store.idempotency_ignored,
    body_accepted_unconfirmed,
    ack_before_stored,
    storage_error_swallowed,
    store.unread_callback_dropped,
    store.lease_with_the_wrong_fence,
    store.delivery_lease_with_the_wrong_fence,
    store.max_in_flight_ignored,
    store.budget_ignored,
    store.unknown_price_is_zero,
    store.client_limits_ignored,
    leased_poll_not_made,
    newest_key_signs,
    payload_signed_again,
    unknown_key_is_forged,
    results_not_awaited,
    id_dropped_with_an_odd_reply,
    *OPERATION_MUTATIONS,
)
