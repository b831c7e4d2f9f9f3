"""What the limits of submissions leave at a moment, counted in the transaction of the claim."""

from collections import Counter
from collections.abc import Collection
from datetime import datetime

from sqlalchemy import bindparam, func, select

from service.domain.submission_limits import RATE_PERIOD, Limits, LimitUsage
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import UtcDateTime
from service.storage.credit_pauses import load_pause
from service.storage.daily_budget import known_prices, spent_today
from service.storage.tables import CLIENT_IN_GROUPS, IN_FLIGHT, QUEUED, tasks

COUNT_IN_FLIGHT = select(func.count()).select_from(tasks).where(IN_FLIGHT)
COUNT_IN_FLIGHT_BY_CLIENT = select(CLIENT_IN_GROUPS, func.count()).where(IN_FLIGHT).group_by(CLIENT_IN_GROUPS)
COUNT_SUBMITTED = (
    select(CLIENT_IN_GROUPS, func.count())
    .where(
        tasks.c.submitted_at > bindparam("since", type_=UtcDateTime()),
        tasks.c.submitted_at <= bindparam("until", type_=UtcDateTime()),  # else a clock that went back stops clients
        ~QUEUED,
    )
    .group_by(CLIENT_IN_GROUPS)
)


async def count_usage(connection: AsyncConnection, now: datetime, limits: Limits) -> LimitUsage:
    """Return what `limits` leave at `now`; only what some limit needs is counted."""
    used = LimitUsage(limits=limits)
    if limits.credit_waits and (pause := await load_pause(connection)):
        used.credit_pause, used.probes = pause, 0 if pause.holds(now) else 1
    if limits.counts_in_flight:
        used.in_flight = await count_in_flight(connection, by_client=limits.client_max_in_flight.limits_anyone)
    if limits.counts_submissions:
        rows = await connection.execute(COUNT_SUBMITTED, {"since": now - RATE_PERIOD, "until": now + RATE_PERIOD})
        used.submitted = Counter({row[0]: row[1] for row in rows})
    if limits.counts_dollars:
        used.spent = await spent_today(
            connection, now, limits.budget_each, by_client=limits.client_budget.limits_anyone
        )
    return used


async def count_in_flight(connection: AsyncConnection, *, by_client: bool) -> Counter[str]:
    """Return the number of tasks at the provider by client; without `by_client` only the sum of the values is right."""
    if not by_client:
        return Counter({"": (await connection.execute(COUNT_IN_FLIGHT)).scalar_one()})
    return Counter({row[0]: row[1] for row in await connection.execute(COUNT_IN_FLIGHT_BY_CLIENT)})


async def add_prices(connection: AsyncConnection, used: LimitUsage, buckets: Collection[str]) -> None:
    """Add the known prices of `buckets` to `used`, if a limit needs them."""
    if used.limits.counts_dollars and not used.known_prices.keys() >= set(buckets):
        found = await known_prices(connection, buckets, used.limits.budget_each)
        used.known_prices = {**used.known_prices, **found}
