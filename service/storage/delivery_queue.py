"""The queue of deliveries, first in first out within a lane."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from datetime import datetime

from sqlalchemy import Label, bindparam, select, update

from service.domain.fast_copy import construct_unchecked
from service.domain.operator_event import OperatorEventType, hour_of
from service.domain.ports.circuits import NO_BLOCKS, Blocks
from service.domain.ports.deliveries import DeliveryView
from service.domain.ports.handler_pauses import CONTROLS
from service.domain.ports.operator_events import OPERATOR_EVENTS
from service.domain.ports.queues import AttemptResult, HandlerCapacity
from service.domain.ports.unit_of_work import DeliveryClaim
from service.storage.async_engine import AsyncConnection
from service.storage.attempt_results import LeasedDelivery, attempt_values, delivery_values, lane_values
from service.storage.bulk_writes import insert_many, update_many
from service.storage.circuit_health import note_health
from service.storage.column_types import in_list
from service.storage.database import Database
from service.storage.delivery_claim_rows import delivery_claim, with_payload
from service.storage.delivery_list import delivery_view
from service.storage.delivery_tables import IS_PENDING, attempts, deliveries, waits_in
from service.storage.due_deliveries import OLDEST_DUE_DELIVERY, choose_due
from service.storage.endpoint_deliveries import hold_lane
from service.storage.endpoint_health import note_attempts
from service.storage.event_log import EVENT_COLUMNS, event_from_row
from service.storage.lookups import distinct_values, first_value
from service.storage.operator_events import report
from service.storage.rate_buckets import in_lock_order, spend, within_rate
from service.storage.scan_starts import ScanStarts
from service.storage.sealed_secrets import delete_secrets
from service.storage.tables import events
from service.storage.task_rows import Values

LEASED_COLUMNS = (
    deliveries.c.id,
    deliveries.c.fence,
    deliveries.c.attempts,
    deliveries.c.manual_at,
    deliveries.c.handler,
    deliveries.c.message_id,
    deliveries.c.target,
    deliveries.c.event_id,
    deliveries.c.event_seq,
    deliveries.c.created_at,
    deliveries.c.endpoint_id,
    deliveries.c.circuit,
    deliveries.c.waiting_since,
)
LEASED_NAMES = tuple(column.name for column in LEASED_COLUMNS)
LEASED_FIELDS = tuple(field.name for field in fields(LeasedDelivery) if field.name in deliveries.c)


class SqlDeliveryQueue:
    """Implements `DeliveryQueue`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._starts = ScanStarts(oldest=OLDEST_DUE_DELIVERY)

    async def claim(
        self, capacities: Sequence[HandlerCapacity], *, now: datetime, until: datetime, blocks: Blocks = NO_BLOCKS
    ) -> list[DeliveryClaim]:
        """Lease due deliveries within the free capacity of their handlers, only the heads of lanes.

        A delivery whose earlier lease has run out is claimed as abandoned. Those that a circuit `blocks` are parked.
        """
        async with self._database.writing() as write:
            due: dict[str, Values] = {}
            for capacity in in_lock_order(capacities):
                limited, bucket = await within_rate(write.connection, capacity, now)
                found = await choose_due(write.connection, limited, now, blocks, self._starts)
                await spend(write.connection, capacity, bucket, len(found), now)
                due |= {row["id"]: row for row in found}
            if not due:
                return []
            rows = await write.connection.execute(LEASE, {"ids": list(due), "leased_until": until})
            leased = {row.id: dict(zip(LEASED_NAMES, row, strict=True)) for row in rows.all()}
            numbers = [leased[one]["event_seq"] for one in due]
            rows = await write.connection.execute(EVENTS_WITH_PAYLOAD, {"numbers": numbers})
            events_by_id = {row.id: (event_from_row(row), row.payload) for row in rows.all()}
            return [
                delivery_claim(leased[one], *events_by_id[leased[one]["event_id"]], abandoned=bool(row["abandoned"]))
                for one, row in due.items()
            ]

    async def finish(self, results: Sequence[AttemptResult]) -> set[str]:
        """Store attempts and update their deliveries; return the ids whose lease was still held under the fence.

        Of two results for one delivery, only the one with the newer fence can match.
        """
        if not results:
            return set()
        newest = {result.delivery_id: result for result in sorted(results, key=lambda result: result.fence)}
        async with self._database.writing() as write:
            leased = await _lock_leased(write.connection, {one: result.fence for one, result in newest.items()})
            pairs = [(leased[one], result) for one, result in newest.items() if one in leased]
            await insert_many(write.connection, attempts, [attempt_values(*pair) for pair in pairs])
            await update_many(write.connection, deliveries, [delivery_values(*pair) for pair in pairs])
            await note_attempts(write.connection, pairs)
            if await _report_dead_letters(write.connection, pairs):
                write.topics.add(OPERATOR_EVENTS)
            if await note_health(write.connection, pairs):
                write.topics.add(CONTROLS)
            lanes = [lane_values(one, result) for one, result in pairs if one.lane_has_others]
            if lanes:
                await write.connection.execute(POSTPONE_LANE, lanes)
            if made := {one.task_id for one, result in pairs if result.outcome == "delivered"}:
                await delete_secrets(write.connection, made)
            if any(one.lane_has_others or one.destination or result.due_now for one, result in pairs):
                write.topics.add("dispatch")  # the lane may have another head now, and the destination is free
            return set(leased)

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Extend leases to `until`; return the ids that are still held under their fence."""
        if not claims:
            return set()
        async with self._database.writing() as write:
            return await _set_lease(write.connection, claims, until)

    async def release(self, claims: Mapping[str, int]) -> None:
        """Release leases that are still held under their fence; they are due at once, and no attempt is counted."""
        if not claims:
            return
        async with self._database.writing() as write:
            await _set_lease(write.connection, claims, None)
            write.topics.add("dispatch")

    async def hold(self, delivery_id: str, fence: int, *, now: datetime) -> None:
        """Release the lease of a delivery to a paused endpoint, uncounted; it and the rest of its lane wait."""
        async with self._database.writing() as write:
            leased = (await _lock_leased(write.connection, {delivery_id: fence})).get(delivery_id)
            if leased is not None:
                await hold_lane(write.connection, leased, now)
                write.topics.add("dispatch")

    async def pending_handlers(self) -> list[str]:
        """Return the names of the handlers that have pending deliveries, in alphabetical order."""
        async with self._database.reading() as connection:
            return await pending_handlers(connection)

    async def delivery(self, delivery_id: str) -> DeliveryView | None:
        """Return one delivery, None if it is unknown."""
        async with self._database.reading() as connection:
            return await delivery_view(connection, delivery_id)


async def _report_dead_letters(
    connection: AsyncConnection, pairs: Sequence[tuple[LeasedDelivery, AttemptResult]]
) -> bool:
    """Report dead letters once an hour for each handler and fault; return whether there is a new report."""
    new = False
    dead = {(one.handler, str(result.fault)): (one, result) for one, result in pairs if result.outcome == "dead"}
    for (handler, fault), (leased, result) in sorted(dead.items()):  # one order everywhere: no deadlock
        at, condition = result.finished_at, f"{handler} {fault} {hour_of(result.finished_at)}"
        data = {"handler": handler, "fault": result.fault, "delivery": leased.id, "task": leased.task_id}
        new |= await report(connection, OperatorEventType.DEAD_LETTERS, condition, data, at=at)
    return new


POSTPONE_LANE = update(deliveries).where(
    waits_in(bindparam("this_lane"), bindparam("this_task")),
    deliveries.c.event_seq > bindparam("this_seq"),
    deliveries.c.leased_until.is_(None),
)


async def pending_handlers(connection: AsyncConnection) -> list[str]:
    """Return the handlers that have pending deliveries, with one index lookup for each."""
    return await distinct_values(connection, deliveries.c.handler, IS_PENDING)


def _lane_has_others() -> Label[bool]:
    """Return the condition that the lane has other pending deliveries: later ones, or an earlier one after a replay."""
    other = deliveries.alias("other")
    waits = waits_in(deliveries.c.lane, deliveries.c.task_id, other)
    return first_value(other.c.id, waits, other.c.id != deliveries.c.id).is_not(None).label("lane_has_others")


# Statements that run many times a second, built once.
EVENTS_WITH_PAYLOAD = with_payload(*EVENT_COLUMNS).where(in_list(events.c.seq, "numbers", numbers=True))
LEASE = (
    update(deliveries)
    .where(in_list(deliveries.c.id, "ids"))
    .values(leased_until=bindparam("leased_until"), fence=deliveries.c.fence + 1)
    .returning(*LEASED_COLUMNS)
)
# Only pending deliveries have a lease. A condition on the status would let PostgreSQL, whose estimate is of an empty
# queue, read all that is pending through an index of it.
LEASED = (
    select(*(deliveries.c[name] for name in LEASED_FIELDS), _lane_has_others())
    .where(in_list(deliveries.c.id, "ids"), deliveries.c.leased_until.is_not(None))
    .order_by(deliveries.c.id)
    .with_for_update()
)


async def _lock_leased(connection: AsyncConnection, claims: Mapping[str, int]) -> dict[str, LeasedDelivery]:
    """Return the deliveries that are still leased under the claim's fence, locked in id order."""
    rows = (await connection.execute(LEASED, {"ids": list(claims)})).all()
    names = (*LEASED_FIELDS, "lane_has_others")
    found = [construct_unchecked(LeasedDelivery, dict(zip(names, row, strict=True))) for row in rows]
    return {leased.id: leased for leased in found if claims[leased.id] == leased.fence}


async def _set_lease(connection: AsyncConnection, claims: Mapping[str, int], until: datetime | None) -> set[str]:
    """Set or remove the leases that are still held under the claim's fence; return their ids."""
    leased = set(await _lock_leased(connection, claims))
    await connection.execute(update(deliveries).where(deliveries.c.id.in_(leased)).values(leased_until=until))
    return leased
