"""The token buckets of endpoints and of other destinations with a rate, in the transaction of a claim.

A delivery that finds no token is due when one comes, so that it takes no place of others. The buckets are rows of
`rate_buckets`, one for each endpoint with a rate, and with NOTIFY_RATE one for each host and client: all processes
together keep the rate. A bucket that another claim has locked or just makes is not waited for, since claims lock
buckets in any order: its deliveries are due a moment later.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sqlalchemy import bindparam, delete, func, select, update

from service.domain.circuit import destination_of
from service.domain.delivery_rate import TokenBucket, rate_of
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import update_many
from service.storage.control_tables import rate_buckets
from service.storage.delivery_tables import FREE_IN_LANE, deliveries, is_probe, waits_in
from service.storage.dialects import insert, lock_if_free
from service.storage.endpoint_tables import endpoints
from service.storage.lookups import first_value, in_found
from service.storage.rate_buckets import current_bucket
from service.storage.task_rows import Values

ENDPOINT_RATE = (
    select(endpoints.c.rate).where(endpoints.c.id == deliveries.c.endpoint_id).scalar_subquery().label("endpoint_rate")
)
"""The rate of the endpoint of a delivery, NULL without one."""

_ENABLED_ENDPOINT = first_value(
    endpoints.c.id, endpoints.c.id == deliveries.c.endpoint_id, endpoints.c.disabled_at.is_(None)
)
ENDPOINT_ENDED = (deliveries.c.endpoint_id.is_not(None) & _ENABLED_ENDPOINT.is_(None)).label("endpoint_ended")
"""The endpoint of a delivery is disabled or deleted: its next attempt ends it without a request."""

OF_DESTINATION = "destination/"
"""Begins the name of the bucket of a host; no name of a handler contains a slash."""

NAMED = rate_buckets.c.name == bindparam("name")
BUCKET = select(rate_buckets.c.free_at).where(NAMED).with_for_update(skip_locked=True)
EXISTS = select(rate_buckets.c.name).where(NAMED)
_HEAD = deliveries.alias("head")
_DUE_OF_HEAD = (
    select(func.max(_HEAD.c.due_at))
    .where(waits_in(deliveries.c.lane, deliveries.c.task_id, _HEAD), _HEAD.c.event_seq < deliveries.c.event_seq)
    .scalar_subquery()
)
WITH_ITS_HEAD = (
    update(deliveries)
    .where(in_found(deliveries.c.id, FREE_IN_LANE))
    .values(due_at=func.coalesce(_DUE_OF_HEAD, deliveries.c.due_at))
)
"""Makes what waits behind the postponed head of a lane due with it: else each claim would read it, again and again.

A head that is due again at this moment stays so: nothing is before it.
"""


def makes_no_request(row: Values) -> bool:
    """Return whether the attempt of a due row only records its end: it is abandoned, or its endpoint has ended."""
    return bool(row["abandoned"] or row["endpoint_ended"])


def bucket_name(endpoint_id: str) -> str:
    """Return the name of the bucket of an endpoint."""
    return f"endpoint/{endpoint_id}"


@dataclass(kw_only=True)
class DestinationRates:
    """The buckets that one claim uses: `limit` postpones what finds no token, `spend` takes those of chosen rows.

    `each_host` is the rate per second of a host that a client's addresses name, None for no limit. An endpoint with a
    rate of its own has that instead.
    """

    connection: AsyncConnection
    now: datetime
    each_host: float | None = None
    _buckets: dict[str, TokenBucket | None] = field(default_factory=dict)  # None for one that another claim has locked
    _rates: dict[str, float] = field(default_factory=dict)
    _spent: Counter[str] = field(default_factory=Counter)
    _postponed: Counter[str] = field(default_factory=Counter)

    async def limit(self, rows: Sequence[Values]) -> tuple[list[Values], int]:
        """Return the rows that may be leased, and how many others were postponed; without a rate nothing is read.

        An attempt that a person asked for, a probe, and one that makes no request always pass.
        """
        names = {row["id"]: self._bucket_of(row) for row in rows}
        for new in sorted({name for name in names.values() if name} - self._buckets.keys()):
            self._buckets[new] = await self._locked(new)
        used = Counter(self._spent)
        free: list[Values] = []
        late: list[Values] = []
        for row in rows:
            name = names[row["id"]]
            if name is None:
                free.append(row)
            elif used[name] < self._tokens(name):
                used[name] += 1
                free.append(row)
            else:
                late.append(row | {"due_at": self._next_free(name)})
        await self._postpone(late)
        return free, len(late)

    def take(self, rows: Iterable[Values]) -> None:
        """Note the rows that are chosen."""
        self._spent.update(name for row in rows if (name := self._bucket_of(row)))

    async def spend(self) -> None:
        """Take the tokens of the chosen rows."""
        for name, count in sorted(self._spent.items()):
            if bucket := self._buckets[name]:
                values = {"name": name, "free_at": bucket.after(count, self.now)}
                await update_many(self.connection, rate_buckets, [values])

    def _bucket_of(self, row: Values) -> str | None:
        """Return the name of the bucket of a delivery, whose rate is noted; None if no rate limits it."""
        if makes_no_request(row) or row["manual_at"] is not None or is_probe(row["circuit"]):
            return None
        if row["endpoint_rate"] is not None:
            name, rate = bucket_name(row["endpoint_id"]), rate_of(row["endpoint_rate"])
        elif self.each_host is not None:
            destination = destination_of("", row["client"], row["target"])
            if destination.host is None:
                return None
            name, rate = OF_DESTINATION + destination.key, self.each_host
        else:
            return None
        self._rates[name] = rate
        return name

    async def _locked(self, name: str) -> TokenBucket | None:
        """Return a bucket, locked and full if it is new; None if another claim has locked it or makes it now."""
        free_at = (await self.connection.execute(BUCKET, {"name": name})).scalar()
        if free_at is None and (await self.connection.execute(EXISTS, {"name": name})).scalar() is None:
            if not await lock_if_free(self.connection, f"rate {name}"):
                return None
            full = {"name": name, "free_at": self.now - timedelta(seconds=1)}
            await self.connection.execute(insert(self.connection, rate_buckets).on_conflict_do_nothing(), full)
            free_at = (await self.connection.execute(BUCKET, {"name": name})).scalar()
        return None if free_at is None else current_bucket(self._rates[name], free_at, self.now)

    def _tokens(self, name: str) -> int:
        bucket = self._buckets[name]
        return bucket.tokens(self.now) if bucket else 0

    def _next_free(self, name: str) -> datetime:
        """Return when the next postponed delivery may be attempted: each has a token of its own."""
        bucket, each = self._buckets[name], timedelta(seconds=1 / self._rates[name])
        first = bucket.after(self._tokens(name), self.now) if bucket else self.now + each
        self._postponed[name] += 1
        return max(first, self.now) + each * (self._postponed[name] - 1)

    async def _postpone(self, late: Sequence[Values]) -> None:
        if not late:
            return
        await update_many(self.connection, deliveries, [{"id": row["id"], "due_at": row["due_at"]} for row in late])
        lanes = [{"this_task": row["task_id"], "this_lane": row["lane"], "now": self.now} for row in late]
        await self.connection.execute(WITH_ITS_HEAD, lanes)


async def delete_unused_buckets(connection: AsyncConnection, *, before: datetime) -> int:
    """Delete the buckets of hosts from which nothing was taken since a time: they are full; return how many."""
    unused = rate_buckets.c.name.startswith(OF_DESTINATION), rate_buckets.c.free_at < before
    return int((await connection.execute(delete(rate_buckets).where(*unused))).rowcount)
