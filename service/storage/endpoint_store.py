"""The endpoints of clients."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import CursorResult, RowMapping, delete, func, or_, select, tuple_, update

from service.domain.endpoint import Endpoint, EndpointHealth, EndpointMatch
from service.domain.errors import Conflict
from service.domain.ports.endpoints import MissedEvent
from service.domain.ports.unit_of_work import DeliveryRow
from service.domain.task import TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import insert_many
from service.storage.column_types import in_list
from service.storage.control_tables import rate_buckets
from service.storage.database import Database
from service.storage.deferred import Deferred, defer
from service.storage.destination_rates import bucket_name
from service.storage.dialects import advisory_lock
from service.storage.endpoint_deliveries import AT_ONCE, drop, wake
from service.storage.endpoint_tables import endpoints
from service.storage.lookups import in_found
from service.storage.missed_events import insert_missed, missed_events
from service.storage.tables import tasks
from service.storage.task_rows import Values

ROUTES = "endpoints"
"""The lock of which endpoints get events: shared by transactions that make events, exclusive for a change of it.

So an event that is committed after the answer to a change follows the change. It is the first lock of a transaction:
whoever waits for it holds nothing that its holders need.
"""

ROUTES_TIMEOUT = "SET LOCAL lock_timeout = '3s'"
"""How long a change waits for transactions that make events: new ones wait behind it meanwhile."""

ROUTING_FIELDS = frozenset({"events", "disabled_at"})
"""Columns of which a change decides which events an endpoint gets."""

HEALTH_NAMES = tuple(each.name for each in fields(EndpointHealth))
TUPLES = ("events", "header_names")
_ENABLED = select(
    endpoints.c.id, endpoints.c.client, endpoints.c.url, endpoints.c.events, endpoints.c.paused, endpoints.c.rate
).where(endpoints.c.disabled_at.is_(None))
ENABLED = _ENABLED.where(in_list(endpoints.c.client, "clients"))
ENABLED_OF_TASKS = _ENABLED.where(
    in_found(endpoints.c.client, select(tasks.c.client).where(in_list(tasks.c.id, "ids")))
)


class SqlEndpoints:
    """Implements `Endpoints`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, endpoint: Endpoint, *, limit: int) -> None:
        """Store a new endpoint; raises Conflict if its client has `limit` of them."""
        count = select(func.count()).select_from(endpoints).where(endpoints.c.client == endpoint.client)
        async with self._database.writing() as write:
            await _lock_routes(write.connection)
            await advisory_lock(write.connection, f"endpoints {endpoint.client}")
            if (await write.connection.execute(count)).scalar_one() >= limit:
                raise Conflict(f"a client has at most {limit} endpoints: delete one, or give one more event types")
            await insert_many(write.connection, endpoints, [_values(endpoint)])

    async def get(self, endpoint_id: str) -> Endpoint | None:
        """Return one endpoint, None if it is unknown."""
        async with self._database.reading() as connection:
            rows = await connection.execute(select(endpoints).where(endpoints.c.id == endpoint_id))
            row = rows.mappings().one_or_none()
            return None if row is None else _endpoint(row)

    async def listed(self, *, client: str | None, limit: int, cursor: str | None) -> list[Endpoint]:
        """Return endpoints, newest first, after the one with the id `cursor`; None for all clients."""
        query = select(endpoints)
        if client is not None:
            query = query.where(endpoints.c.client == client)
        order = (endpoints.c.created_at, endpoints.c.id)
        if cursor is not None:
            position = select(*order).where(endpoints.c.id == cursor)
            query = query.where(tuple_(*order) < position.scalar_subquery())
        query = query.order_by(*(column.desc() for column in order)).limit(limit)
        async with self._database.reading() as connection:
            return [_endpoint(row) for row in (await connection.execute(query)).mappings()]

    async def change(self, endpoint_id: str, values: Mapping[str, Any], *, sealed: str | None = None) -> bool:
        """Change columns of an endpoint; return whether it exists, and still has the secrets `sealed` if given."""
        statement = update(endpoints).where(endpoints.c.id == endpoint_id).values(**values)
        if sealed is not None:
            statement = statement.where(endpoints.c.sealed == sealed)
        async with self._database.writing() as write:
            if ROUTING_FIELDS & values.keys():
                await _lock_routes(write.connection)
            changed = (await write.connection.execute(statement)).rowcount
        return bool(changed)

    async def remove(self, endpoint_id: str, *, now: datetime) -> bool:
        """Delete an endpoint, then drop its pending deliveries; return whether it existed.

        What is not dropped now, because an attempt runs or the process ends, is dropped by its next attempt.
        """
        statement = delete(endpoints).where(endpoints.c.id == endpoint_id)
        async with self._database.writing() as write:
            if not (await write.connection.execute(statement)).rowcount:
                return False
            await write.connection.execute(delete(rate_buckets).where(rate_buckets.c.name == bucket_name(endpoint_id)))
            dropped = await drop(write.connection, endpoint_id, now)
        while dropped == AT_ONCE:
            async with self._database.writing() as write:
                dropped = await drop(write.connection, endpoint_id, now)
        return True

    async def wake(self, *, now: datetime) -> int:
        """Make held deliveries due whose endpoint is not paused; return how many."""
        woken, last = 0, AT_ONCE
        while last == AT_ONCE:
            async with self._database.writing() as write:
                last = await wake(write.connection, now)
                woken += last
                if last:
                    write.topics.add("dispatch")
        return woken

    async def to_seal_again(self, *, key_id: str, now: datetime, limit: int) -> list[Endpoint]:
        """Return endpoints that another key sealed, or that have secrets that no longer sign."""
        expired = endpoints.c.old_secrets_until <= now
        query = select(endpoints).where(or_(endpoints.c.key_id != key_id, expired)).limit(limit)
        async with self._database.reading() as connection:
            return [_endpoint(row) for row in (await connection.execute(query)).mappings()]

    async def missed(
        self, endpoint: Endpoint, *, since: datetime, until: datetime | None, after: int | None, limit: int
    ) -> tuple[list[MissedEvent], int | None]:
        """Return events of a time that the endpoint wants and has not got, oldest first, and where to continue."""
        async with self._database.reading() as connection:
            return await missed_events(connection, endpoint, since=since, until=until, after=after, limit=limit)

    async def add_missed(self, rows: Sequence[DeliveryRow]) -> int:
        """Store deliveries of old events, without those that exist; return how many are new."""
        async with self._database.writing() as write:
            added = await insert_missed(write.connection, rows)
            if added:
                write.topics.add("dispatch")
            return added


async def keep_routes(connection: AsyncConnection) -> None:
    """Let no change of which endpoints get events commit before this transaction, which makes events."""
    await advisory_lock(connection, ROUTES, shared=True)


async def _lock_routes(connection: AsyncConnection) -> None:
    """Wait for the transactions that make events; raises StoreUnavailable later if one takes too long."""
    if connection.dialect.name == "postgresql":
        defer(connection, Deferred(statement=ROUTES_TIMEOUT))
    await advisory_lock(connection, ROUTES)


async def enabled_endpoints(connection: AsyncConnection, clients: Collection[str]) -> list[EndpointMatch]:
    """Return the enabled endpoints of these clients, the oldest first."""
    return _matches(await connection.execute(ENABLED, {"clients": list(clients)}))


async def endpoints_of_tasks(connection: AsyncConnection, ids: Collection[TaskId]) -> list[EndpointMatch]:
    """Return the enabled endpoints of the clients of these tasks, each once."""
    return _matches(await connection.execute(ENABLED_OF_TASKS, {"ids": set(ids)}))


def _matches(rows: CursorResult[Any]) -> list[EndpointMatch]:
    return [EndpointMatch(**dict(row) | {"events": tuple(row["events"])}) for row in rows.mappings()]


async def endpoint_states(connection: AsyncConnection) -> dict[str, int]:
    """Return how many endpoints are active, paused and disabled; a disabled one that is paused counts as disabled."""
    disabled = endpoints.c.disabled_at.is_not(None)
    query = select(disabled, endpoints.c.paused, func.count()).group_by(disabled, endpoints.c.paused)
    counts = dict.fromkeys(("active", "paused", "disabled"), 0)
    for is_disabled, is_paused, count in await connection.execute(query):
        counts["disabled" if is_disabled else "paused" if is_paused else "active"] += count
    return counts


def _values(endpoint: Endpoint) -> Values:
    values = dict(vars(endpoint))
    health: EndpointHealth = values.pop("health")
    return values | vars(health)


def _endpoint(row: RowMapping) -> Endpoint:
    values = dict(row)
    health = EndpointHealth(**{name: values.pop(name) for name in HEALTH_NAMES})
    return Endpoint(**values | {name: tuple(values[name]) for name in TUPLES}, health=health)
