"""Known faults of the storage, injected one by one."""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

from sqlalchemy import Integer, bindparam, select

from service.domain import submission_limits
from service.domain import task as core_task
from service.domain.prices import Price
from service.domain.submission_limits import LimitUsage
from service.storage import (
    attempt_results,
    daily_budget,
    delivery_queue,
    due_deliveries,
    limit_usage,
    replays,
    task_queue,
)
from service.storage.delivery_queue import SqlDeliveryQueue
from service.storage.delivery_tables import IS_PENDING, deliveries
from service.storage.inbox import SqlInbox
from service.storage.task_intake import SqlTaskIntake
from service.storage.task_queue import SqlTaskQueue
from service.storage.unit_of_work import SqlUnitOfWork


def no_fencing() -> AbstractContextManager[Any]:
    """Accept the late result of a delivery whose lease was lost."""

    async def lock(connection: Any, claims: Mapping[str, int]) -> Any:
        query = select(
            *(deliveries.c[name] for name in delivery_queue.LEASED_FIELDS[:-1]), delivery_queue._lane_has_others()
        )
        rows = await connection.execute(query.where(deliveries.c.id.in_(list(claims))))
        return {row["id"]: attempt_results.LeasedDelivery(**row) for row in rows.mappings()}

    return patch.object(delivery_queue, "_lock_leased", lock)


def lease_not_renewed() -> AbstractContextManager[Any]:
    """Let the leases of deliveries expire while their handlers run."""

    async def renew(_self: SqlDeliveryQueue, claims: Mapping[str, int], **_: Any) -> set[str]:
        return set(claims)

    return patch.object(SqlDeliveryQueue, "renew", renew)


def submission_lease_not_renewed() -> AbstractContextManager[Any]:
    """Let the lease of a slow submission expire."""

    async def renew(_self: SqlTaskQueue, claims: Mapping[Any, int], **_: Any) -> set[Any]:
        return set(claims)

    return patch.object(SqlTaskQueue, "renew", renew)


def replay_under_the_old_id() -> AbstractContextManager[Any]:
    """Replay under the id that receivers know already."""
    original = replays._reopened

    def replayed(*args: Any) -> Any:
        values = original(*args)
        del values["message_id"]
        return values

    return patch.object(replays, "_reopened", replayed)


def order_ignored() -> AbstractContextManager[Any]:
    """Claim deliveries that are behind another one of their lane."""
    now: Any = bindparam("now")
    name: Any = bindparam("handler_name")
    free = deliveries.c.leased_until.is_(None) | (deliveries.c.leased_until <= now)
    due = select(*due_deliveries.DUE_COLUMNS).where(
        IS_PENDING, deliveries.c.handler == name, deliveries.c.due_at <= now, free
    )
    return patch.object(due_deliveries, "DUE_HEADS", due.limit(bindparam("limit", type_=Integer)))


def sent_before_durable() -> AbstractContextManager[Any]:
    """Send a submission before its commit."""

    async def claim(self: Any, **given: Any) -> Any:
        async with self._database.writing() as write:
            chosen = await task_queue._choose(write.connection, given["now"], given["limit"], given["limits"])
            leased = await task_queue.lease_rows(write.connection, chosen, given["until"])
        taken = {"status": core_task.Status.SUBMITTING, "submitted_at": given["now"]}
        return [replace(one, **taken, submission=one.submission + 1) for one in leased]

    return patch.object(SqlTaskQueue, "claim_submissions", claim)


def inbox_not_written() -> AbstractContextManager[Any]:
    """Treat every callback as new, and store none of them."""
    original = SqlUnitOfWork.receive

    async def receive(self: SqlUnitOfWork, ids: Any, entries: Any) -> tuple[Any, list[str]]:
        found, _ = await original(self, ids, [])
        return found, ["new" for _ in entries]

    return patch.object(SqlUnitOfWork, "receive", receive)


def leases_not_released_at_shutdown() -> AbstractContextManager[Any]:
    """Keep the leases of canceled work at a shutdown."""

    async def release(_self: Any, _claims: Any, **_: Any) -> None:
        return None

    return both(patch.object(SqlDeliveryQueue, "release", release), patch.object(SqlTaskQueue, "release", release))


def retry_at_once() -> AbstractContextManager[Any]:
    """Retry a delivery without its pause."""
    original = attempt_results.delivery_values

    def written(leased: Any, result: Any) -> Any:
        values = original(leased, result)
        return values | ({"due_at": result.finished_at} if values["due_at"] else {})

    return patch.object(delivery_queue, "delivery_values", written)


def idempotency_ignored() -> AbstractContextManager[Any]:
    """Create a new task for a repeated request."""
    original = SqlTaskIntake.add

    async def add(self: SqlTaskIntake, task: Any, blobs: Any, _idempotency: Any) -> Any:
        return await original(self, task, blobs, None)

    return patch.object(SqlTaskIntake, "add", add)


def unread_callback_dropped() -> AbstractContextManager[Any]:
    """Never look for callbacks that were stored to be recorded later."""

    async def unread_since(_self: SqlInbox) -> None:
        return None

    return patch.object(SqlInbox, "unread_since", unread_since)


def lease_with_the_wrong_fence() -> AbstractContextManager[Any]:
    """Return the fence that a task had before it was claimed."""
    original = task_queue._lease

    async def lease(*args: Any) -> Any:
        return [replace(task, fence=task.fence - 1) for task in await original(*args)]

    return patch.object(task_queue, "_lease", lease)


def delivery_lease_with_the_wrong_fence() -> AbstractContextManager[Any]:
    """Return the fence that a delivery had before it was claimed."""
    original = SqlDeliveryQueue.claim

    async def claim(self: SqlDeliveryQueue, *args: Any, **given: Any) -> Any:
        return [replace(claim, fence=claim.fence - 1) for claim in await original(self, *args, **given)]

    return patch.object(SqlDeliveryQueue, "claim", claim)


def max_in_flight_ignored() -> AbstractContextManager[Any]:
    """Submit due tasks without counting those in flight."""

    async def in_flight(_connection: Any, **_: Any) -> Counter[str]:
        return Counter()

    return patch.object(limit_usage, "count_in_flight", in_flight)


def budget_ignored() -> AbstractContextManager[Any]:
    """Submit due tasks without the daily budgets."""

    async def spent(_connection: Any, _now: Any, _each: float, **_: Any) -> dict[str, float]:
        return {}

    return patch.object(limit_usage, "spent_today", spent)


def unknown_price_is_zero() -> AbstractContextManager[Any]:
    """Count a task as nothing until its cost is known."""

    def price_of(bucket: str, known: Mapping[str, float], _each: float) -> Price:
        return Price(dollars=known.get(bucket, 0.0), known=True)

    return both(patch.object(submission_limits, "price_of", price_of), patch.object(daily_budget, "price_of", price_of))


def client_limits_ignored() -> AbstractContextManager[Any]:
    """Submit due tasks without the limits of single clients."""
    return patch.object(LimitUsage, "_of_client", lambda _self, _client, _bucket: None)


@contextmanager
def both(*patches: AbstractContextManager[Any]) -> Iterator[None]:
    """Apply several patches as one fault."""
    with ExitStack() as stack:
        for one in patches:
            stack.enter_context(one)
        yield
