"""Known faults, planted one by one: the simulation must catch every one of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from service import dispatch, entry, hands, record, submit
from service.core import task as core_task
from service.core.tokens import Claim, Tokens
from service.entry import Entry, Recorded
from service.hands import Hands
from service.plan import Plan
from service.receive import Receive
from service.reconcile import Reconcile
from service.record import Page, Record
from service.store import delivery_queue, ledger, outcomes, task_queue
from service.store.delivery_queue import StoreDeliveryQueue
from service.store.intake import StoreIntake
from service.store.ledger import StoreTransaction
from service.store.task_queue import StoreTaskQueue
from service.submit import Submit
from service.upstream import http
from tests.simulation.loop import OWNER

Mutation = Callable[[], AbstractContextManager[Any]]


def ack_before_commit() -> AbstractContextManager[Any]:
    """Answer a callback before it is durable."""
    whole = Record.add

    async def add(self: Record, given: Entry) -> Recorded:
        if given.inbox is None:
            return await whole(self, given)
        self_task = dispatch.asyncio.create_task(whole(self, given))
        self_task.add_done_callback(lambda done: done.cancelled() or done.exception())
        return Recorded(task=None, inbox="new")

    return patch.object(Record, "add", add)


def no_fencing() -> AbstractContextManager[Any]:
    """Let every late result of a lost delivery lease through."""

    async def lock(connection: Any, claims: Mapping[str, int]) -> Any:
        query = delivery_queue.select(*(delivery_queue.deliveries.c[name] for name in delivery_queue.HELD_FIELDS))
        rows = await connection.execute(query.where(delivery_queue.deliveries.c.id.in_(list(claims))))
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
        return self._later(task, submit.NeverLeft("it may have left"))

    return patch.object(Submit, "_lost", lost)


def gateway_errors_never_left() -> AbstractContextManager[Any]:
    """Take a read error for a connection that was refused."""
    return patch.object(http, "NEVER_LEFT", (*http.NEVER_LEFT, http.httpx.ReadError))


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
        with patch.object(record, "Page", lambda **given: pages.append(Page(**given)) or pages[-1]):
            done = await commit(self, entries)
        if pages and pages[0].deliveries:
            async with self._ledger.transaction() as transaction:
                await transaction.append([], pages[0].deliveries)
                transaction.notify(["dispatch"])
        return done

    return _both(patch.object(Page, "store", store), patch.object(Record, "_commit", committed))


def token_not_checked() -> AbstractContextManager[Any]:
    """Believe the address of a callback without its signature."""

    def read(self: Tokens, token: str, now: Any) -> Claim:
        assert now
        named = token.split("~")
        try:
            return Claim(task_id=core_task.TaskId(named[0]), submission=int(named[1].split(".")[0]))
        except (IndexError, ValueError):
            raise submit_errors.BadToken("forged") from None

    from service import errors as submit_errors  # noqa: PLC0415 - only this fault needs it

    return patch.object(Tokens, "read_callback_token", read)


def deadline_ignored() -> AbstractContextManager[Any]:
    """Let no task expire."""
    return patch.object(Reconcile, "_overdue", lambda _self, _task: False)


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
    table = delivery_queue.deliveries

    def due(names: Any, now: Any, limit: int) -> Any:
        free = table.c.leased_until.is_(None) | (table.c.leased_until <= now)
        query = delivery_queue.select(table.c.id)
        query = query.where(delivery_queue.IS_PENDING, table.c.handler.in_(names), table.c.due_at <= now, free)
        return query.limit(limit)

    return patch.object(delivery_queue, "due_heads", due)


def settles_twice() -> AbstractContextManager[Any]:
    """Let a second terminal word overrule the first."""
    transitions = {status: core_task.UPSTREAM_WORDS for status in core_task.SETTLED}
    return _both(
        patch.object(core_task.Task, "final", property(lambda _self: False)),
        patch.object(core_task, "TRANSITIONS", {**core_task.TRANSITIONS, **transitions}),
        patch.object(core_task, "_moved", _moved_anew),
    )


def _moved_anew(task: Any, fact: Any) -> Any:
    return replace(task, status=fact.status, output=fact.output or task.output, error=fact.error, guessed=fact.guessed)


def sent_before_durable() -> AbstractContextManager[Any]:
    """Send a submission before the database knows of it."""
    whole = StoreTaskQueue.claim_submissions

    async def claim(self: Any, **given: Any) -> Any:
        async with self._database.writing() as write:
            chosen = await task_queue._choose(write.connection, given["now"], given["limit"], given["limits"])
            query = task_queue.select(*task_queue.TASK_COLUMNS).where(task_queue.tasks.c.id.in_(chosen))
            rows = (await write.connection.execute(query)).mappings()
            found = [task_queue.task_of(row) for row in rows]
            values = {"leased_until": given["until"], "fence": task_queue.tasks.c.fence + 1}
            held = task_queue.update(task_queue.tasks).where(task_queue.tasks.c.id.in_(chosen)).values(values)
            await write.connection.execute(held)
        assert whole
        return [
            replace(one, status=core_task.Status.SUBMITTING, submission=one.submission + 1, fence=one.fence + 1)
            for one in found
        ]

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

    return _both(
        patch.object(StoreDeliveryQueue, "release", release), patch.object(StoreTaskQueue, "release", release)
    )


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


def renewals_stop_after_one() -> AbstractContextManager[Any]:
    """Renew the leases of work in hand once, and never again."""

    async def keep(self: Hands[Any]) -> None:
        await dispatch.asyncio.sleep(self._pause)
        await self._renew_once()

    return patch.object(hands.Hands, "_keep_leases", keep)


@contextmanager
def _both(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    from contextlib import ExitStack  # noqa: PLC0415 - a helper of this function alone

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
