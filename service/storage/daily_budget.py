"""Cost of the submissions of a UTC day: known costs from the provider, the others as the mean of their bucket."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Status, TaskId
from service.storage.tables import QUEUED, one_of, tasks

MAX_COST_SAMPLES = 100
"""The mean covers the newest known costs of a bucket only, since prices change."""

COSTS_NOTHING = QUEUED | one_of(tasks.c.status, frozenset({Status.FAILED, Status.CANCELED})) & ~tasks.c.guessed
"""Not sent and queued again, or reported as failed or canceled by the provider: an unknown cost is zero."""


async def budget_spent(connection: AsyncConnection, now: datetime) -> float:
    """Return the US dollars of the UTC day of `now`; a task counts on the day of its newest submission."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    today = tasks.c.submitted_at >= midnight
    known = await connection.execute(select(func.coalesce(func.sum(tasks.c.cost), 0.0)).where(today))
    unknown = await connection.execute(
        select(tasks.c.bucket, func.count())
        .where(today, tasks.c.cost.is_(None), ~COSTS_NOTHING)
        .group_by(tasks.c.bucket)
    )
    counts: dict[str, int] = {row[0]: row[1] for row in unknown}
    means = await _mean_costs(connection, counts)
    estimated = sum(count * means[bucket] for bucket, count in counts.items())
    return float(known.scalar_one()) + estimated


async def affordable(
    connection: AsyncConnection, candidates: Sequence[tuple[TaskId, str]], now: datetime, budget: float
) -> list[tuple[TaskId, str]]:
    """Return the first of `candidates` (id and bucket) that fit into the rest of today's `budget` (US dollars)."""
    spent = await budget_spent(connection, now)
    means = await _mean_costs(connection, {bucket for _, bucket in candidates})
    fitting: list[tuple[TaskId, str]] = []
    for task_id, bucket in candidates:
        if spent >= budget or spent + means[bucket] > budget:
            break
        spent += means[bucket]
        fitting.append((task_id, bucket))
    return fitting


async def _mean_costs(connection: AsyncConnection, buckets: Collection[str]) -> dict[str, float]:
    """Return the mean of the newest known costs of each bucket in US dollars, 0.0 where none is known."""
    means: dict[str, float] = {}
    for bucket in buckets:
        newest = (
            select(tasks.c.cost)
            .where(tasks.c.bucket == bucket, tasks.c.cost.is_not(None))
            .order_by(tasks.c.created_at.desc())
            .limit(MAX_COST_SAMPLES)
            .subquery()
        )
        mean = await connection.execute(select(func.coalesce(func.avg(newest.c.cost), 0.0)))
        means[bucket] = float(mean.scalar_one())
    return means
