"""What the limits of submissions leave at a moment, counted in the transaction of the claim."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.submission_limits import RATE_PERIOD, Limits, SubmissionRoom
from service.storage.column_types import UtcDateTime
from service.storage.daily_budget import known_prices, spent_today
from service.storage.tables import CLIENT_IN_GROUPS, IN_FLIGHT, QUEUED, tasks

COUNT_IN_FLIGHT = select(CLIENT_IN_GROUPS, func.count()).where(IN_FLIGHT).group_by(CLIENT_IN_GROUPS)
COUNT_SUBMITTED = (
    select(CLIENT_IN_GROUPS, func.count())
    .where(tasks.c.submitted_at > bindparam("since", type_=UtcDateTime()), ~QUEUED)
    .group_by(CLIENT_IN_GROUPS)
)


async def count_room(connection: AsyncConnection, now: datetime, limits: Limits) -> SubmissionRoom:
    """Return what `limits` leave at `now`; only what some limit needs is counted."""
    room = SubmissionRoom(limits=limits)
    if limits.counts_in_flight:
        room.in_flight = await count_in_flight(connection)
    if limits.counts_submissions:
        rows = await connection.execute(COUNT_SUBMITTED, {"since": now - RATE_PERIOD})
        room.submitted = Counter({row[0]: row[1] for row in rows})
    if limits.counts_dollars:
        room.spent = await spent_today(connection, now, limits.budget_each)
    return room


async def count_in_flight(connection: AsyncConnection) -> Counter[str]:
    """Return the number of tasks at the provider by client."""
    return Counter({row[0]: row[1] for row in await connection.execute(COUNT_IN_FLIGHT)})


async def add_prices(connection: AsyncConnection, room: SubmissionRoom, buckets: Collection[str]) -> None:
    """Add the known prices of `buckets` to `room`, if a limit needs them."""
    if room.limits.counts_dollars and not room.known_prices.keys() >= set(buckets):
        found = await known_prices(connection, buckets, room.limits.budget_each)
        room.known_prices = {**room.known_prices, **found}
