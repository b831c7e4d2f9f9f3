"""The last attempts of a page of deliveries, and what deliveries contain, by their keys."""

from collections import defaultdict
from collections.abc import Sequence

from sqlalchemy import select

from service.domain.event_routing import target_host
from service.domain.ports.delivery_details import AttemptView, DeliveryContent, DeliveryDetail
from service.domain.task import Json, TaskId
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.delivery_tables import attempts, deliveries
from service.storage.event_log import BY_NUMBER, logged_event
from service.storage.task_history import load_newest_history

ATTEMPTS = 10
"""Attempts of each delivery: replays add to them without limit."""

DELIVERIES = select(deliveries.c.id, deliveries.c.target, deliveries.c.message_id, deliveries.c.attempted).where(
    in_list(deliveries.c.id, "ids")
)
CONTENTS = select(
    deliveries.c.id,
    deliveries.c.handler,
    deliveries.c.message_id,
    deliveries.c.target,
    deliveries.c.endpoint_id,
    deliveries.c.event_seq,
).where(in_list(deliveries.c.id, "ids"))
ATTEMPTS_OF_DELIVERIES = (
    select(attempts)
    .join_from(attempts, deliveries, deliveries.c.id == attempts.c.delivery_id)
    .where(in_list(attempts.c.delivery_id, "ids"), attempts.c.number > deliveries.c.attempted - ATTEMPTS)
    .order_by(attempts.c.delivery_id, attempts.c.number.desc())
)


class SqlDeliveryDetails:
    """Implements `DeliveryDetails`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def details(self, delivery_ids: Sequence[str]) -> dict[str, DeliveryDetail]:
        """Return the details of the deliveries that exist, by id; of each at most the last ten attempts."""
        ids = {"ids": list(delivery_ids)}
        tried: defaultdict[str, list[AttemptView]] = defaultdict(list)
        async with self._database.reading() as connection:
            rows = (await connection.execute(DELIVERIES, ids)).all()
            for row in (await connection.execute(ATTEMPTS_OF_DELIVERIES, ids)).mappings():
                tried[row["delivery_id"]].append(
                    AttemptView(**{name: row[name] for name in AttemptView.__dataclass_fields__})
                )
        return {
            row.id: DeliveryDetail(
                host=target_host(row.target),
                message_id=row.message_id,
                attempted=row.attempted,
                attempts=tuple(tried[row.id]),
            )
            for row in rows
        }

    async def contents(self, delivery_ids: Sequence[str]) -> dict[str, DeliveryContent]:
        """Return what the deliveries contain whose events are stored, by id; each event is read once."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(CONTENTS, {"ids": list(delivery_ids)})).all()
            numbers = sorted({row.event_seq for row in rows})
            logged = (await connection.execute(BY_NUMBER, {"numbers": numbers})).all() if numbers else ()
        events = {event.seq: event for event in map(logged_event, logged)}
        return {
            row.id: DeliveryContent(
                handler=row.handler,
                message_id=row.message_id,
                target=row.target,
                endpoint_id=row.endpoint_id,
                event=events[row.event_seq],
            )
            for row in rows
            if row.event_seq in events
        }

    async def task_history(self, task_id: TaskId, *, limit: int, with_delivery: str | None) -> list[Json]:
        """Return the newest `limit` entries of each kind of a task's history, and those of one more delivery."""
        async with self._database.reading() as connection:
            return await load_newest_history(connection, task_id, limit=limit, with_delivery=with_delivery)
