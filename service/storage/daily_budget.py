"""Cost of the submissions of a UTC day: costs that the provider reported, and prices for the others."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Float, String, bindparam, func, select, text

from service.domain.prices import MAX_PLAUSIBLE_FACTOR, dearest, price_of
from service.domain.task import Status
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import UtcDateTime
from service.storage.tables import (
    BUCKET_IN_GROUPS,
    CLIENT_IN_GROUPS,
    QUEUED,
    RESUBMITTED,
    coalesced,
    literal_word,
    one_of,
    tasks,
)

MAX_COST_SAMPLES = 100
"""The price of a bucket comes from its newest known costs only, since prices change."""

MIDNIGHT = bindparam("midnight", type_=UtcDateTime())
MAX_PLAUSIBLE = bindparam("max_plausible", type_=Float())

COSTS_NOTHING = QUEUED | one_of(tasks.c.status, frozenset({Status.FAILED, Status.CANCELED})) & ~tasks.c.guessed
"""Not sent and queued again, or reported as failed or canceled by the provider: an unknown cost is zero."""

TODAY = tasks.c.submitted_at >= MIDNIGHT
IMPLAUSIBLE = tasks.c.cost > MAX_PLAUSIBLE
UNPRICED = (
    tasks.c.cost.is_(None) & ~COSTS_NOTHING
    | IMPLAUSIBLE
    | (tasks.c.cost == 0) & ~COSTS_NOTHING & (tasks.c.status != literal_word(Status.COMPLETED))
)
"""Submissions that count as their price: their cost is not known, not plausible, or zero before the end."""

COST = coalesced(tasks.c.cost)
"""The cost in conditions of a day: PostgreSQL would read the costs of all days, in an index of them."""

PLAUSIBLE = TODAY & (COST > 0) & (COST <= MAX_PLAUSIBLE)
# Most rows of a day have a cost: without the client an index holds all that their sum needs.
REPORTED = select(func.coalesce(func.sum(tasks.c.cost), 0.0)).where(PLAUSIBLE)
REPORTED_BY_CLIENT = select(CLIENT_IN_GROUPS, func.sum(tasks.c.cost)).where(PLAUSIBLE).group_by(CLIENT_IN_GROUPS)
UNPRICED_BY_CLIENT = (
    select(CLIENT_IN_GROUPS, BUCKET_IN_GROUPS, func.count())
    .where(TODAY, UNPRICED)
    .group_by(CLIENT_IN_GROUPS, BUCKET_IN_GROUPS)
)
RESUBMITTED_BY_CLIENT = (
    select(CLIENT_IN_GROUPS, BUCKET_IN_GROUPS, func.sum(tasks.c.resubmissions))
    .where(TODAY, RESUBMITTED)
    .group_by(CLIENT_IN_GROUPS, BUCKET_IN_GROUPS)
)
REPORTED_COSTS = (
    select(CLIENT_IN_GROUPS, func.sum(tasks.c.cost))
    .where(tasks.c.submitted_at >= MIDNIGHT, COST.is_not(None))
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


async def spent_today(
    connection: AsyncConnection, now: datetime, each: float, *, by_client: bool = True
) -> dict[str, float]:
    """Return the US dollars of the UTC day of `now` by client; a task counts on the day of its newest submission.

    Submissions of unknown cost count as their price; `each` is BUDGET_EACH. A task that was submitted again while its
    reply was lost counts once more for each lost submission. Without `by_client` only the sum of the values is right.
    """
    today = {"midnight": _midnight(now), "max_plausible": MAX_PLAUSIBLE_FACTOR * each}
    spent: dict[str, float] = {}
    if by_client:
        rows = await connection.execute(REPORTED_BY_CLIENT, today)
        spent.update({client: float(cost) for client, cost in rows})
    else:
        spent[""] = float((await connection.execute(REPORTED, today)).scalar_one())
    unpriced = [*await connection.execute(UNPRICED_BY_CLIENT, today)]
    unpriced += [*await connection.execute(RESUBMITTED_BY_CLIENT, today)]
    prices = await known_prices(connection, {bucket for _, bucket, _ in unpriced}, each)
    for client, bucket, count in unpriced:
        spent[client] = spent.get(client, 0.0) + int(count) * price_of(bucket, prices, each).dollars
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
    prices = await bucket_prices(connection, buckets, each)
    if prices.keys() >= set(buckets):
        return prices
    others = set((await connection.execute(BUCKETS_WITH_COSTS)).scalars()) - set(buckets)
    return prices | await bucket_prices(connection, others, each)


async def bucket_prices(connection: AsyncConnection, buckets: Collection[str], each: float) -> dict[str, float]:
    """Return the known prices of `buckets` in US dollars, without those that have none."""
    prices: dict[str, float] = {}
    for bucket in sorted(buckets):
        costs = (await connection.execute(NEWEST_COSTS, {"of_bucket": bucket})).scalars()
        price = dearest([float(cost) for cost in costs if 0 < cost <= MAX_PLAUSIBLE_FACTOR * each])
        if price is not None:
            prices[bucket] = price
    return prices
