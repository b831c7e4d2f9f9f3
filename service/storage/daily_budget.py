"""What a UTC day's submissions cost: known costs as the upstream told them, others by the mean of their bucket."""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.task import Status, TaskId
from service.storage.tables import QUEUED, one_of, tasks

MAX_COST_SAMPLES = 100
"""The mean is over so many of a bucket's newest known costs: prices change."""

COSTS_NOTHING = QUEUED | one_of(tasks.c.status, frozenset({Status.FAILED, Status.CANCELED})) & ~tasks.c.guessed
"""Never left and waits to be sent again, or ended by the upstream's own word: without a cost there is none."""


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
    means = await _means(connection, counts)
    guessed = sum(count * means[bucket] for bucket, count in counts.items())
    return float(known.scalar_one()) + guessed


async def affordable(
    connection: AsyncConnection, candidates: Sequence[tuple[TaskId, str]], now: datetime, budget: float
) -> list[tuple[TaskId, str]]:
    """Return the first of `candidates` (id and bucket) that fit into what is left of today's `budget`."""
    spent = await budget_spent(connection, now)
    means = await _means(connection, {bucket for _, bucket in candidates})
    fitting: list[tuple[TaskId, str]] = []
    for task_id, bucket in candidates:
        if spent >= budget or spent + means[bucket] > budget:
            break
        spent += means[bucket]
        fitting.append((task_id, bucket))
    return fitting


async def _means(connection: AsyncConnection, buckets: Collection[str]) -> dict[str, float]:
    return {bucket: await _mean(connection, bucket) for bucket in buckets}


async def _mean(connection: AsyncConnection, bucket: str) -> float:
    newest = (
        select(tasks.c.cost)
        .where(tasks.c.bucket == bucket, tasks.c.cost.is_not(None))
        .order_by(tasks.c.created_at.desc())
        .limit(MAX_COST_SAMPLES)
        .subquery()
    )
    return float((await connection.execute(select(func.coalesce(func.avg(newest.c.cost), 0.0)))).scalar_one())
