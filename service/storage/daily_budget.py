"""Cost of the submissions of a UTC day: costs that the provider reported, and prices for the others."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Float, String, bindparam, case, func, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.prices import MAX_PLAUSIBLE_FACTOR, dearest, price_of
from service.domain.task import Status
from service.storage.column_types import UtcDateTime
from service.storage.tables import CLIENT_IN_GROUPS, QUEUED, literal_word, one_of, tasks

MAX_COST_SAMPLES = 100
"""The price of a bucket comes from its newest known costs only, since prices change."""

MIDNIGHT = bindparam("midnight", type_=UtcDateTime())
MAX_PLAUSIBLE = bindparam("max_plausible", type_=Float())

COSTS_NOTHING = QUEUED | one_of(tasks.c.status, frozenset({Status.FAILED, Status.CANCELED})) & ~tasks.c.guessed
"""Not sent and queued again, or reported as failed or canceled by the provider: an unknown cost is zero."""

REPORTED = (tasks.c.cost > 0) & (tasks.c.cost <= MAX_PLAUSIBLE)
UNPRICED = case(
    (REPORTED, 0),
    (tasks.c.cost > MAX_PLAUSIBLE, 1),
    (COSTS_NOTHING, 0),
    ((tasks.c.status == literal_word(Status.COMPLETED)) & (tasks.c.cost == 0), 0),
    else_=1,
)
"""1 for a submission that counts as its price: its cost is not known, not plausible, or zero before the end."""

SPENT = (
    select(
        CLIENT_IN_GROUPS,
        tasks.c.bucket,
        func.coalesce(func.sum(case((REPORTED, tasks.c.cost), else_=0.0)), 0.0),
        func.sum(UNPRICED + tasks.c.resubmissions),
    )
    .where(tasks.c.submitted_at >= MIDNIGHT)
    .group_by(CLIENT_IN_GROUPS, tasks.c.bucket)
)
REPORTED_COSTS = (
    select(CLIENT_IN_GROUPS, func.sum(tasks.c.cost))
    .where(tasks.c.submitted_at >= MIDNIGHT, tasks.c.cost.is_not(None))
    .group_by(CLIENT_IN_GROUPS)
)
NEWEST_COSTS = (
    select(tasks.c.cost)
    .where(tasks.c.bucket == bindparam("of_bucket", type_=String()), tasks.c.cost.is_not(None))
    .order_by(tasks.c.created_at.desc())
    .limit(MAX_COST_SAMPLES)
)
BUCKETS_WITH_COSTS = text(
    """
    WITH RECURSIVE known(bucket) AS (
        SELECT min(bucket) FROM tasks WHERE cost IS NOT NULL
        UNION ALL
        SELECT (SELECT min(bucket) FROM tasks WHERE cost IS NOT NULL AND bucket > known.bucket)
        FROM known WHERE known.bucket IS NOT NULL
    )
    SELECT bucket FROM known WHERE bucket IS NOT NULL
    """
)
"""Reads one entry of the index for each bucket: the number of tasks does not matter."""


async def spent_today(connection: AsyncConnection, now: datetime, each: float) -> dict[str, float]:
    """Return the US dollars of the UTC day of `now` by client; a task counts on the day of its newest submission.

    Submissions of unknown cost count as their price; `each` is BUDGET_EACH. A task that was submitted again while its
    reply was lost counts once more for each lost submission.
    """
    rows = await connection.execute(SPENT, {"midnight": _midnight(now), "max_plausible": MAX_PLAUSIBLE_FACTOR * each})
    sums = [(client, bucket, float(known), int(unpriced)) for client, bucket, known, unpriced in rows]
    prices = await known_prices(connection, {bucket for _, bucket, _, unpriced in sums if unpriced}, each)
    spent: dict[str, float] = {}
    for client, bucket, known, unpriced in sums:
        estimated = unpriced * price_of(bucket, prices, each).dollars if unpriced else 0.0
        spent[client] = spent.get(client, 0.0) + known + estimated
    return spent


async def reported_today(connection: AsyncConnection, now: datetime) -> dict[str, float]:
    """Return the US dollars that the provider reported for the submissions of the UTC day of `now`, by client."""
    return {
        client: float(cost) for client, cost in await connection.execute(REPORTED_COSTS, {"midnight": _midnight(now)})
    }


def _midnight(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


async def known_prices(connection: AsyncConnection, buckets: Collection[str], each: float) -> dict[str, float]:
    """Return the known prices of `buckets` in US dollars, and of all buckets if one of them has none.

    Costs of zero and costs that are not plausible for `each` (BUDGET_EACH) determine no price.
    """
    prices = await _prices(connection, buckets, each)
    if prices.keys() >= set(buckets):
        return prices
    others = set((await connection.execute(BUCKETS_WITH_COSTS)).scalars()) - set(buckets)
    return prices | await _prices(connection, others, each)


async def _prices(connection: AsyncConnection, buckets: Collection[str], each: float) -> dict[str, float]:
    prices: dict[str, float] = {}
    for bucket in sorted(buckets):
        costs = (await connection.execute(NEWEST_COSTS, {"of_bucket": bucket})).scalars()
        price = dearest([float(cost) for cost in costs if 0 < cost <= MAX_PLAUSIBLE_FACTOR * each])
        if price is not None:
            prices[bucket] = price
    return prices
