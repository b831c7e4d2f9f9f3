"""The token buckets of endpoints with a rate, in the transaction that claims their deliveries.

A delivery that finds no token is due when one comes, so that it takes no place of others. The buckets are rows of
`rate_buckets`, one for each endpoint: all processes together keep the rate. A bucket that another claim has locked is
not waited for, since claims lock buckets in any order: its deliveries are due a moment later.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import bindparam, func, select, update

from service.domain.delivery_rate import TokenBucket, rate_of
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import update_many
from service.storage.control_tables import rate_buckets
from service.storage.delivery_tables import PENDING, deliveries, is_probe
from service.storage.dialects import insert
from service.storage.endpoint_tables import endpoints
from service.storage.parked_deliveries import FREE_IN_LANES
from service.storage.rate_buckets import current_bucket
from service.storage.task_rows import Values

ENDPOINT_RATE = (
    select(endpoints.c.rate).where(endpoints.c.id == deliveries.c.endpoint_id).scalar_subquery().label("endpoint_rate")
)
"""The rate of the endpoint of a delivery, NULL without one."""

BUCKET = (
    select(rate_buckets.c.free_at).where(rate_buckets.c.name == bindparam("name")).with_for_update(skip_locked=True)
)
_HEAD = deliveries.alias("head")
WITH_THEIR_HEAD = (
    update(deliveries)
    .where(deliveries.c.id.in_(FREE_IN_LANES))
    .values(
        due_at=select(func.max(_HEAD.c.due_at))
        .where(_HEAD.c.status == PENDING, _HEAD.c.lane == deliveries.c.lane, _HEAD.c.event_seq < deliveries.c.event_seq)
        .scalar_subquery()
    )
)
"""Makes what waits behind postponed heads of lanes due with them: else each claim would read it, again and again."""


def bucket_name(endpoint_id: str) -> str:
    """Return the name of the bucket of an endpoint; no name of a handler contains a slash."""
    return f"endpoint/{endpoint_id}"


@dataclass(kw_only=True)
class EndpointRates:
    """The buckets that one claim uses: `limit` postpones what finds no token, `spend` takes those of chosen rows."""

    connection: AsyncConnection
    now: datetime
    _buckets: dict[str, TokenBucket | None] = field(default_factory=dict)  # None for one that another claim has locked
    _rates: dict[str, float] = field(default_factory=dict)
    _spent: Counter[str] = field(default_factory=Counter)
    _postponed: Counter[str] = field(default_factory=Counter)

    async def limit(self, rows: Sequence[Values]) -> tuple[list[Values], int]:
        """Return the rows that may be leased, and how many others were postponed; without a rate nothing is read.

        An attempt that a person asked for, a probe, and one that is to be recorded as abandoned always pass.
        """
        rated = {row["endpoint_id"]: row["endpoint_rate"] for row in rows if _is_limited(row)}
        for endpoint_id in sorted(rated.keys() - self._buckets.keys()):
            self._rates[endpoint_id] = rate_of(rated[endpoint_id])
            self._buckets[endpoint_id] = await self._locked(endpoint_id)
        used = Counter(self._spent)
        free: list[Values] = []
        late: list[Values] = []
        for row in rows:
            endpoint_id = row["endpoint_id"]
            if not _is_limited(row):
                free.append(row)
            elif used[endpoint_id] < self._tokens(endpoint_id):
                used[endpoint_id] += 1
                free.append(row)
            else:
                late.append({"id": row["id"], "due_at": self._next_free(endpoint_id), "lane": row["lane"]})
        await self._postpone(late)
        return free, len(late)

    def take(self, rows: Iterable[Values]) -> None:
        """Note the rows that are chosen."""
        self._spent.update(row["endpoint_id"] for row in rows if _is_limited(row))

    async def spend(self) -> None:
        """Take the tokens of the chosen rows."""
        for endpoint_id, count in sorted(self._spent.items()):
            if bucket := self._buckets[endpoint_id]:
                values = {"name": bucket_name(endpoint_id), "free_at": bucket.after(count, self.now)}
                await update_many(self.connection, rate_buckets, [values])

    async def _locked(self, endpoint_id: str) -> TokenBucket | None:
        """Return the bucket of an endpoint, locked; None if another claim has locked it."""
        rate, name = self._rates[endpoint_id], bucket_name(endpoint_id)
        full = {"name": name, "free_at": self.now - timedelta(seconds=1)}
        await self.connection.execute(insert(self.connection, rate_buckets).on_conflict_do_nothing(), full)
        free_at = (await self.connection.execute(BUCKET, {"name": name})).scalar()
        return None if free_at is None else current_bucket(rate, free_at, self.now)

    def _tokens(self, endpoint_id: str) -> int:
        bucket = self._buckets[endpoint_id]
        return bucket.tokens(self.now) if bucket else 0

    def _next_free(self, endpoint_id: str) -> datetime:
        """Return when the next postponed delivery may be attempted: each has a token of its own."""
        bucket, each = self._buckets[endpoint_id], timedelta(seconds=1 / self._rates[endpoint_id])
        first = bucket.after(self._tokens(endpoint_id), self.now) if bucket else self.now + each
        self._postponed[endpoint_id] += 1
        return max(first, self.now) + each * (self._postponed[endpoint_id] - 1)

    async def _postpone(self, late: Sequence[Values]) -> None:
        if not late:
            return
        await update_many(self.connection, deliveries, [{"id": row["id"], "due_at": row["due_at"]} for row in late])
        await self.connection.execute(WITH_THEIR_HEAD, {"lanes": [row["lane"] for row in late], "now": self.now})


def _is_limited(row: Values) -> bool:
    passes = row["abandoned"] or row["manual_at"] is not None or is_probe(row["circuit"])
    return row["endpoint_rate"] is not None and not passes
