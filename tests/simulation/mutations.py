"""Known faults, planted one by one: the simulation must catch every one of them."""

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import httpx
from sqlalchemy import Integer, bindparam, select

from service import dispatch, entry, record
from service.core import task as core_task
from service.core.tokens import Claim, Tokens
from service.entry import Entry, Recorded
from service.errors import BadToken, NeverLeft
from service.plan import Plan
from service.receive import Receive
from service.record import Page, Record
from service.store import delivery_queue, outcomes, task_queue
from service.store.delivery_queue import StoreDeliveryQueue
from service.store.intake import StoreIntake
from service.store.ledger import StoreTransaction
from service.store.tables import IS_PENDING, deliveries
from service.store.task_queue import StoreTaskQueue
from service.submit import Submit
from service.upstream import http

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


def no_fencing() -> AbstractContextManager[Any]:
    """Let every late result of a lost delivery lease through."""

    async def lock(connection: Any, claims: Mapping[str, int]) -> Any:
        query = select(*(deliveries.c[name] for name in delivery_queue.HELD_FIELDS))
        rows = await connection.execute(query.where(deliveries.c.id.in_(list(claims))))
        return {row["id"]: outcomes.Held(**row) for row in rows.mappings()}

    return patch.object(delivery_queue, "_lock_held", lock)


def lease_not_renewed() -> AbstractContextManager[Any]:
    """Let the leases of deliveries run out while their handlers work."""

    async def renew(_self: StoreDeliveryQueue, claims: Mapping[str, int], **_: Any) -> set[str]:
        return set(claims)

    return patch.object(StoreDeliveryQueue, "renew", renew)


def submission_lease_not_renewed() -> AbstractContextManager[Any]:
    """Let the lease of a slow submission run out."""

    async def renew(_self: StoreTaskQueue, claims: Mapping[Any, int], **_: Any) -> set[Any]:
        return set(claims)

    return patch.object(StoreTaskQueue, "renew", renew)


def lost_reply_retried() -> AbstractContextManager[Any]:
    """Send a submission again when its reply was lost."""

    def lost(self: Submit, task: Any) -> Entry:
        return self._later(task, NeverLeft("it may have left"))

    return patch.object(Submit, "_lost", lost)


def gateway_errors_never_left() -> AbstractContextManager[Any]:
    """Take a read error for a connection that was refused."""
    return patch.object(http, "NEVER_LEFT", (*http.NEVER_LEFT, httpx.ReadError))


def replay_under_the_old_id() -> AbstractContextManager[Any]:
    """Replay under the id that receivers have seen already."""
    whole = delivery_queue._replayed

    def replayed(*args: Any) -> Any:
        values = whole(*args)
        del values["message_id"]
        return values

    return patch.object(delivery_queue, "_replayed", replayed)


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

    return _both(patch.object(Page, "store", store), patch.object(Record, "_commit", committed))


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


def order_ignored() -> AbstractContextManager[Any]:
    """Claim deliveries that wait behind another one of their lane."""
    now: Any = bindparam("now")
    name: Any = bindparam("handler_name")
    free = deliveries.c.leased_until.is_(None) | (deliveries.c.leased_until <= now)
    due = select(deliveries.c.id).where(IS_PENDING, deliveries.c.handler == name, deliveries.c.due_at <= now, free)
    return patch.object(delivery_queue, "DUE_HEADS", due.limit(bindparam("most", type_=Integer)))


def settles_twice() -> AbstractContextManager[Any]:
    """Let a second terminal word overrule the first."""
    transitions = dict.fromkeys(core_task.SETTLED, core_task.UPSTREAM_WORDS)
    return _both(
        patch.object(core_task.Task, "final", property(lambda _self: False)),
        patch.object(core_task, "TRANSITIONS", {**core_task.TRANSITIONS, **transitions}),
        patch.object(core_task, "_moved", _moved_anew),
    )


def _moved_anew(task: Any, fact: Any) -> Any:
    return replace(task, status=fact.status, output=fact.output or task.output, error=fact.error, guessed=fact.guessed)


def sent_before_durable() -> AbstractContextManager[Any]:
    """Send a submission before the database knows of it."""

    async def claim(self: Any, **given: Any) -> Any:
        async with self._database.writing() as write:
            chosen = await task_queue._choose(write.connection, given["now"], given["limit"], given["limits"])
            held = await task_queue._lease(write.connection, chosen, given["until"], {})
        taken = {"status": core_task.Status.SUBMITTING, "submitted_at": given["now"]}
        return [replace(one, **taken, submission=one.submission + 1) for one in held]

    return patch.object(StoreTaskQueue, "claim_submissions", claim)


def inbox_not_kept() -> AbstractContextManager[Any]:
    """Take every callback for a new one, and keep none of them."""

    async def admit(_self: StoreTransaction, entries: Any) -> list[str]:
        return ["new" for _ in entries]

    return patch.object(StoreTransaction, "admit", admit)


def drain_forgets_leases() -> AbstractContextManager[Any]:
    """Keep the leases of what was cut off at a stop."""

    async def release(_self: Any, _claims: Any, **_: Any) -> None:
        return None

    return _both(patch.object(StoreDeliveryQueue, "release", release), patch.object(StoreTaskQueue, "release", release))


def retry_at_once() -> AbstractContextManager[Any]:
    """Try a delivery again without its pause."""
    whole = outcomes.written

    def written(held: Any, result: Any) -> Any:
        values = whole(held, result)
        return values | ({"due_at": result.finished_at} if values["due_at"] else {})

    return patch.object(delivery_queue, "written", written)


def idempotency_ignored() -> AbstractContextManager[Any]:
    """Make a new task for a request that is repeated."""
    whole = StoreIntake.add

    async def add(self: StoreIntake, task: Any, inputs: Any, _idempotency: Any) -> Any:
        return await whole(self, task, inputs, None)

    return patch.object(StoreIntake, "add", add)


def body_believed() -> AbstractContextManager[Any]:
    """Believe what a callback says without asking the upstream."""
    whole = Receive.__init__

    def init(self: Receive, *args: Any, **given: Any) -> None:
        whole(self, *args, **{**given, "confirm": False})

    return patch.object(Receive, "__init__", init)


@contextmanager
def _both(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield


MUTATIONS: tuple[Mutation, ...] = (
    ack_before_commit,
    no_fencing,
    lease_not_renewed,
    submission_lease_not_renewed,
    lost_reply_retried,
    gateway_errors_never_left,
    replay_under_the_old_id,
    fresh_id_for_each_attempt,
    event_without_delivery,
    token_not_checked,
    deadline_ignored,
    hint_lost_when_the_reply_comes_later,
    no_sweep,
    poll_never_set,
    order_ignored,
    settles_twice,
    sent_before_durable,
    inbox_not_kept,
    drain_forgets_leases,
    retry_at_once,
    idempotency_ignored,
    body_believed,
)
