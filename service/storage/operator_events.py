"""Operator events: one row for each condition, and one for each handler that has got it, as a job of the handler."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import uuid4

from sqlalchemy import Text, delete, select, type_coerce

from service.domain.event_routing import WEBHOOK
from service.domain.operator_event import PREFIX, OperatorEventType
from service.domain.ports.operator_events import (
    ENDPOINT_JOB,
    OPERATOR_EVENTS,
    OPERATOR_JOB,
    OperatorSubscriber,
    SubscribedEndpoint,
)
from service.domain.task import Json
from service.domain.task_view import rfc3339
from service.storage.async_engine import AsyncConnection
from service.storage.control_tables import operator_events, operator_receipts
from service.storage.database import Database
from service.storage.dialects import insert
from service.storage.endpoint_tables import endpoints
from service.storage.handler_jobs import TOPIC
from service.storage.handler_tables import handler_jobs
from service.storage.lookups import first_value

HANDED_OVER_FOR = timedelta(days=3)
"""Age up to which an event is handed to a handler that was not loaded anywhere before."""

AT_ONCE = 200
"""Events of one handler that are handed over in one transaction."""


async def report(
    connection: AsyncConnection, type_: OperatorEventType, condition: str, data: Json, *, at: datetime
) -> bool:
    """Store an event in the transaction of what it reports, unless its condition has one; return whether it is new."""
    digest = sha256(f"{type_.value} {condition}".encode("utf-8", "surrogatepass")).hexdigest()[:32]
    statement = insert(connection, operator_events).on_conflict_do_nothing().returning(operator_events.c.id)
    values = {"id": f"svc_{digest}", "type": type_.value, "data": data, "at": at}
    return (await connection.execute(statement, values)).scalar() is not None


class SqlOperatorEvents:
    """Implements `OperatorEvents`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def report(self, type_: OperatorEventType, condition: str, data: Json, *, at: datetime) -> bool:
        """Store an event unless its condition has one; return whether it is new."""
        async with self._database.writing() as write:
            new = await report(write.connection, type_, condition, data, at=at)
            if new:
                write.topics.add(OPERATOR_EVENTS)
            return new

    async def hand_over(self, subscribers: Iterable[OperatorSubscriber], *, now: datetime) -> int:
        """Store a job for each event that a subscriber has not got yet; return how many."""
        return sum([await self._to(each, now) for each in subscribers])

    async def subscribed_endpoints(self) -> list[SubscribedEndpoint]:
        """Return the endpoints that are neither paused nor disabled and name operator events."""
        columns = (endpoints.c.id, endpoints.c.client, endpoints.c.events, endpoints.c.created_at)
        active = (endpoints.c.disabled_at.is_(None), ~endpoints.c.paused)
        names_some = type_coerce(endpoints.c.events, Text).like(f'%"{PREFIX}%')
        async with self._database.reading() as connection:
            rows = (await connection.execute(select(*columns).where(*active, names_some))).mappings()
            return [SubscribedEndpoint(**dict(row) | {"events": tuple(row["events"])}) for row in rows]

    async def _to(self, to: OperatorSubscriber, now: datetime) -> int:
        receipt = (operator_receipts.c.handler == to.name) & (operator_receipts.c.event_id == operator_events.c.id)
        since = max(now - HANDED_OVER_FOR, to.since or now - HANDED_OVER_FOR)
        wanted = (
            select(operator_events)
            .where(operator_events.c.at > since, operator_events.c.type.in_(sorted(to.types)))
            .where(first_value(operator_receipts.c.event_id, receipt).is_(None))
            .order_by(operator_events.c.at, operator_events.c.id)  # one order everywhere: no deadlock
            .limit(AT_ONCE)
        )
        async with self._database.reading() as connection:
            rows = (await connection.execute(wanted)).mappings().all()
        if not rows:
            return 0
        async with self._database.writing() as write:
            receipts = insert(write.connection, operator_receipts).on_conflict_do_nothing()
            returning = receipts.returning(operator_receipts.c.event_id)
            handed = 0
            for row in rows:
                values = {"handler": to.name, "event_id": row["id"]}
                if (await write.connection.execute(returning, values)).scalar() is not None:
                    data = {"id": row["id"], "type": row["type"], "at": rfc3339(row["at"]), "data": row["data"]}
                    await write.connection.execute(insert(write.connection, handler_jobs), _job(to, data, now))
                    handed += 1
            write.topics.add(TOPIC)
            return handed

    async def prune(self, *, before: datetime) -> int:
        """Delete events before a time; return how many."""
        old = select(operator_events.c.id).where(operator_events.c.at < before)
        async with self._database.writing() as write:
            await write.connection.execute(delete(operator_receipts).where(operator_receipts.c.event_id.in_(old)))
            found = await write.connection.execute(delete(operator_events).where(operator_events.c.at < before))
            return int(found.rowcount)


def _job(to: OperatorSubscriber, event: Json, now: datetime) -> Json:
    of_endpoint = to.endpoint_id is not None
    return {
        "id": uuid4().hex,
        "handler": WEBHOOK if of_endpoint else to.name,
        "name": ENDPOINT_JOB if of_endpoint else OPERATOR_JOB,
        "key": f"{event['id']} {to.endpoint_id}" if of_endpoint else event["id"],
        "data": {"endpoint": to.endpoint_id, "event": event} if of_endpoint else event,
        "due_at": now,
        "fence": 0,
        "revision": 1,
        "attempts": 0,
        "created_at": now,
    }
