"""The token buckets of handlers with a rate, in the transaction that claims their deliveries."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from sqlalchemy import select

from service.domain.delivery_rate import TokenBucket
from service.domain.ports.queues import HandlerCapacity
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import update_many
from service.storage.control_tables import rate_buckets
from service.storage.dialects import insert


def in_lock_order(capacities: Sequence[HandlerCapacity]) -> list[HandlerCapacity]:
    """Return the capacities with those that have a rate last, in the order in which every claim locks their buckets."""
    return sorted(capacities, key=lambda each: (each.rate is not None, each.names[-1] if each.rate else ""))


async def within_rate(
    connection: AsyncConnection, capacity: HandlerCapacity, now: datetime
) -> tuple[HandlerCapacity, TokenBucket | None]:
    """Return the capacity that the rate leaves, and the bucket, which is locked; without a rate nothing is read."""
    if capacity.rate is None:
        return capacity, None
    name = capacity.names[-1]
    full = {"name": name, "free_at": now - timedelta(seconds=1)}
    await connection.execute(insert(connection, rate_buckets).on_conflict_do_nothing(), full)
    query = select(rate_buckets.c.free_at).where(rate_buckets.c.name == name).with_for_update()
    free_at = (await connection.execute(query)).scalar_one()
    bucket = current_bucket(capacity.rate, free_at, now)
    return replace(capacity, slots=min(capacity.slots, bucket.tokens(now))), bucket


def current_bucket(rate: float, free_at: datetime, now: datetime) -> TokenBucket:
    """Return the bucket with this rate that was stored; the clock of the process that stored it may be ahead."""
    max_wait = timedelta(seconds=max(1 / rate, 1.0) + 1.0)
    return TokenBucket(rate=rate, free_at=now if free_at > now + max_wait else free_at)


async def spend(
    connection: AsyncConnection, capacity: HandlerCapacity, bucket: TokenBucket | None, taken: int, now: datetime
) -> None:
    """Take tokens for deliveries that were claimed."""
    if bucket is not None and taken:
        values = {"name": capacity.names[-1], "free_at": bucket.after(taken, now)}
        await update_many(connection, rate_buckets, [values])
