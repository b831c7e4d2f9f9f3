"""New events and their deliveries: the statement that inserts also grants leases, in the round trip of the COMMIT."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, String, case, literal_column, null, select

from service.domain.ports.unit_of_work import DeliveryClaim, DeliveryRow, EventRow, NewClaims, no_claims
from service.storage.async_engine import AsyncConnection
from service.storage.blob_store import PAYLOAD
from service.storage.bulk_writes import Computed, insert_computed, insert_many
from service.storage.column_types import in_list
from service.storage.deferred import Deferred
from service.storage.deferred_reads import DeferredRows, defer_query
from service.storage.delivery_claim_rows import delivery_claim
from service.storage.delivery_tables import deliveries, waits_in
from service.storage.destination_locks import busy_destinations
from service.storage.dialects import advisory_lock
from service.storage.lookups import first_value
from service.storage.tables import events, inputs
from service.storage.task_rows import Values

PAYLOADS = select(inputs.c.task_id, inputs.c.data).where(inputs.c.place == PAYLOAD, in_list(inputs.c.task_id, "ids"))


def _of_event(column: ColumnElement[object]) -> ColumnElement[object]:
    return select(column).where(events.c.id == literal_column("new.event_id")).scalar_subquery()


_PENDING_IN_LANE = first_value(
    deliveries.c.id, waits_in(literal_column("new.lane", String()), literal_column("new.task_id", String()))
)
WANTED_UNTIL: ColumnElement[object] = literal_column("new.leased_until")
CAN_BE_LEASED = WANTED_UNTIL.is_not(None) & _PENDING_IN_LANE.is_(None)
COMPUTED: Computed = (
    ("event_seq", _of_event(events.c.seq)),
    ("created_at", _of_event(events.c.at)),
    ("leased_until", case((CAN_BE_LEASED, WANTED_UNTIL), else_=null())),
)
"""A lane with a pending delivery grants no lease."""

NEW_DELIVERY: Values = {"status": "pending", "attempts": 0, "attempted": 0}


@dataclass(frozen=True, slots=True)
class _NewDeliveries:
    """Deliveries that a transaction inserts: `wanted` are those for which a lease is wanted, by id."""

    wanted: Mapping[str, DeliveryRow]
    new_events: Mapping[str, EventRow]
    inserted: Deferred
    payloads: DeferredRows

    def claims(self) -> list[DeliveryClaim]:
        """Return the claims on deliveries with a lease; raises RuntimeError before the COMMIT."""
        payloads = {row[0]: row[1] for row in self.payloads.all()}
        granted = [self.wanted[row_id] for row_id, leased_until in self.inserted.rows or () if leased_until is not None]
        return [self._claim(row, payloads.get(row.task_id)) for row in granted]

    def _claim(self, row: DeliveryRow, payload: bytes | None) -> DeliveryClaim:
        event = self.new_events[row.event_id]
        return delivery_claim(vars(row) | NEW_DELIVERY | {"fence": 1, "created_at": event.at}, event, payload)


async def append_events(connection: AsyncConnection, rows: Sequence[EventRow]) -> None:
    """Insert events in this order; events that are stored already do not change.

    Readers resume after the highest `seq` that they have read, so numbers must appear in the order of the commits.
    """
    await advisory_lock(connection, "events")
    await insert_many(connection, events, [vars(row) | {"type": row.type.value} for row in rows])


async def append_deliveries(
    connection: AsyncConnection, rows: Sequence[DeliveryRow], new_events: Mapping[str, EventRow]
) -> NewClaims:
    """Insert deliveries of stored events with the next statement; return what has the claims after the COMMIT.

    A lease is granted only to deliveries of `new_events`. Destinations are locked before, in a round trip of their own.
    """
    wanted = _first_wanted([row for row in rows if row.event_id in new_events])
    destinations = {row.destination for row in wanted.values() if row.destination}
    if busy := await busy_destinations(connection, destinations):
        wanted = {row_id: row for row_id, row in wanted.items() if row.destination not in busy}
    values: list[Values] = []
    for row in rows:
        lease = (
            {"leased_until": row.leased_until, "fence": 1} if row.id in wanted else {"leased_until": None, "fence": 0}
        )
        values.append(vars(row) | NEW_DELIVERY | lease)
    inserted = insert_computed(connection, deliveries, values, COMPUTED, returning="id, leased_until")
    if not wanted:
        return no_claims
    payloads = defer_query(connection, PAYLOADS, {"ids": {row.task_id for row in wanted.values()}})
    return _NewDeliveries(wanted, new_events, inserted, payloads).claims


def _first_wanted(rows: Sequence[DeliveryRow]) -> dict[str, DeliveryRow]:
    """Return by id the new deliveries that may get the lease that is wanted: the first of each lane and destination."""
    heads = {row.lane: row for row in reversed(rows)}
    first: dict[str, DeliveryRow] = {}
    for row in rows:
        if row.leased_until and heads[row.lane] is row:
            first.setdefault(row.destination or row.lane, row)
    return {row.id: row for row in first.values()}
