"""Known faults, planted one by one: the simulation must catch every one of them."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import httpx

from service.callbacks.receiver import Receive
from service.deliveries import dispatcher as dispatch
from service.domain import task as core_task
from service.domain import task_update as entry
from service.domain.errors import BadToken, NeverLeft, StoreUnavailable
from service.domain.poll_planner import Plan
from service.domain.task_update import Entry, Recorded
from service.domain.tokens import Claim, Tokens
from service.providers import http_client as http
from service.tasks import recorder as record
from service.tasks.immediate_polls import Questions
from service.tasks.recorder import Record
from service.tasks.submitter import Submit
from service.tasks.update_batch import Page
from tests.simulation import store_mutations as store
from tests.simulation.store_mutations import both

Mutation = Callable[[], AbstractContextManager[Any]]


def ack_before_commit() -> AbstractContextManager[Any]:
    """Answer a callback before it is durable."""
    whole = Record.add

    async def add(self: Record, given: Entry) -> Recorded:
        if given.inbox is None:
            return await whole(self, given)
        later = asyncio.create_task(whole(self, given))
        later.add_done_callback(lambda done: done.cancelled() or done.exception())
        return Recorded(task=None, inbox="new")

    return patch.object(Record, "add", add)


def lost_reply_retried() -> AbstractContextManager[Any]:
    """Send a submission again when its reply was lost."""

    def lost(self: Submit, task: Any) -> Entry:
        return self._later(task, NeverLeft("it may have left"))

    return patch.object(Submit, "_lost", lost)


def gateway_errors_never_left() -> AbstractContextManager[Any]:
    """Take a read error for a connection that was refused."""
    return patch.object(http, "NEVER_LEFT", (*http.NEVER_LEFT, httpx.ReadError))


def fresh_id_for_each_attempt() -> AbstractContextManager[Any]:
    """Give every attempt an id of its own, so that a receiver cannot tell repeats."""
    whole = dispatch.Dispatch._start

    def start(self: Any, claim: Any, handler: Any) -> None:
        whole(self, replace(claim, message_id=f"{claim.message_id}-{claim.attempt}"), handler)

    return patch.object(dispatch.Dispatch, "_start", start)


def event_without_delivery() -> AbstractContextManager[Any]:
    """Write the deliveries in a second transaction."""
    whole = Page.store

    async def store(self: Page, transaction: Any) -> None:
        kept, self.deliveries = self.deliveries, []
        await whole(self, transaction)
        self.deliveries = kept

    commit = Record._commit

    async def committed(self: Record, entries: Any) -> list[Recorded]:
        pages: list[Page] = []

        def begun(**given: Any) -> Page:
            pages.append(Page(**given))
            return pages[-1]

        with patch.object(record, "Page", begun):
            done = await commit(self, entries)
        if pages and pages[0].deliveries:
            async with self._ledger.transaction() as transaction:
                await transaction.append([], pages[0].deliveries)
                transaction.notify(["dispatch"])
        return done

    return both(patch.object(Page, "store", store), patch.object(Record, "_commit", committed))


def token_not_checked() -> AbstractContextManager[Any]:
    """Believe the address of a callback without its signature."""

    def read(_self: Tokens, token: str, _now: Any) -> Claim:
        named = token.split("~")
        try:
            return Claim(task_id=core_task.TaskId(named[0]), submission=int(named[1].split(".")[0]))
        except (IndexError, ValueError):
            raise BadToken("forged") from None

    return patch.object(Tokens, "read_callback_token", read)


def deadline_ignored() -> AbstractContextManager[Any]:
    """Let no task expire."""
    return patch.object(entry, "_expired", lambda _entry, _before, step, _now: step)


def hint_lost_when_the_reply_comes_later() -> AbstractContextManager[Any]:
    """Forget what a callback said when the submission's reply comes after it."""
    whole = entry.apply

    def applied(given: Entry, before: Any, plan: Plan, now: Any) -> Any:
        step = whole(given, before, plan, now)
        if given.source is not core_task.Source.SUBMIT:
            return step
        task = replace(step.task, hinted_at=None, hinted_fact=None, hinted_id=None)
        return replace(step, task=replace(task, due_at=plan.due(task, now)))

    return patch.object(record, "apply", applied)


def no_sweep() -> AbstractContextManager[Any]:
    """Never look for submissions whose worker has died."""

    async def sweep(_self: Submit) -> int:
        return 0

    return patch.object(Submit, "sweep", sweep)


def poll_never_set() -> AbstractContextManager[Any]:
    """Plan no question after a submission."""
    whole = Plan.due

    def due(self: Plan, task: Any, now: Any) -> Any:
        return None if task.status is core_task.Status.IN_PROGRESS and task.polls == 0 else whole(self, task, now)

    return patch.object(Plan, "due", due)


def settles_twice() -> AbstractContextManager[Any]:
    """Let a second terminal word overrule the first."""
    transitions = dict.fromkeys(core_task.SETTLED, core_task.UPSTREAM_WORDS)
    return both(
        patch.object(core_task.Task, "final", property(lambda _self: False)),
        patch.object(core_task, "TRANSITIONS", {**core_task.TRANSITIONS, **transitions}),
    )


def body_believed() -> AbstractContextManager[Any]:
    """Believe what a callback says without asking the upstream."""
    whole = Receive.__init__

    def init(self: Receive, *args: Any, **given: Any) -> None:
        whole(self, *args, **{**given, "confirm": False})

    return patch.object(Receive, "__init__", init)


def ack_before_kept() -> AbstractContextManager[Any]:
    """Answer a callback of a crowd before it is kept."""
    whole = Receive._keep

    async def kept(self: Receive, rows: Any) -> list[bool]:
        later = asyncio.create_task(whole(self, rows))
        later.add_done_callback(lambda done: done.cancelled() or done.exception())
        return [False for _ in rows]

    return patch.object(Receive, "_keep", kept)


def store_trouble_swallowed() -> AbstractContextManager[Any]:
    """Answer a callback as if it were durable when the store could not take it."""
    whole = Record.add

    async def add(self: Record, given: Entry) -> Recorded:
        try:
            return await whole(self, given)
        except StoreUnavailable:
            if given.inbox is None:
                raise
            return Recorded(task=None, inbox="new")

    return patch.object(Record, "add", add)


def question_born_and_forgotten() -> AbstractContextManager[Any]:
    """Lease a task for the question that it is due for, and do not ask it."""

    def forget(self: Questions, room: Any, _ask: Any) -> None:
        self._room, self._ask = room, lambda _task: None

    return patch.object(Questions, "open", forget)


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
