"""Lists of deliveries, in bounded windows: a filter that few deliveries pass does not read a whole table."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, select, tuple_

from service.domain.ports.deliveries import DeliverySelection, DeliveryView, DeliveryWindow
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import SafeText, UtcDateTime
from service.storage.delivery_tables import IS_DEAD, IS_PENDING, REQUESTED, deliveries
from service.storage.tables import coalesced, events, unindexed

WINDOW = 1500
"""Entries of an index that one read of a list looks at; up to as many pending deliveries are read and sorted."""

DELIVERY_COLUMNS = (
    deliveries.c.id,
    deliveries.c.task_id,
    deliveries.c.client,
    deliveries.c.event_id,
    events.c.type.label("event_type"),
    deliveries.c.handler,
    deliveries.c.status,
    deliveries.c.attempts,
    deliveries.c.due_at,
    deliveries.c.fault,
    deliveries.c.last_error,
    deliveries.c.created_at,
    deliveries.c.finished_at,
    REQUESTED,
    deliveries.c.endpoint_id,
)
DELIVERIES = select(*DELIVERY_COLUMNS).join_from(deliveries, events, events.c.id == deliveries.c.event_id)
CREATED_AT = coalesced(deliveries.c.created_at)
"""The time as an expression, which is in no index: the pending deliveries are then read from theirs."""

SOME_PENDING = select(deliveries.c.due_at).where(IS_PENDING).limit(WINDOW + 1).subquery()
PENDING_COUNT = select(func.count()).select_from(SOME_PENDING)


@dataclass(frozen=True, kw_only=True, eq=False)
class _IndexRange:
    """The range of an index to read, and the conditions that its entries have to pass."""

    entries: tuple[ColumnElement[bool], ...]
    checks: tuple[ColumnElement[bool], ...]


async def read_deliveries(connection: AsyncConnection, wanted: DeliverySelection) -> DeliveryWindow:
    """Return the next deliveries that pass the filter, at most its limit, and where to continue if not at the end."""
    if wanted.status == "pending" and (await connection.execute(PENDING_COUNT)).scalar_one() <= WINDOW:
        query = _after(DELIVERIES.where(IS_PENDING, *_checks(wanted)), wanted, CREATED_AT)
        rows = await connection.execute(query.order_by(CREATED_AT.desc(), deliveries.c.id.desc()).limit(wanted.limit))
        return DeliveryWindow(deliveries=[DeliveryView(**row) for row in rows.mappings()])
    index_range = _index_range(wanted)
    query = _after(DELIVERIES.where(*index_range.entries, *index_range.checks), wanted)
    last = None
    if index_range.checks:
        newest = select(deliveries.c.created_at, deliveries.c.id).where(*index_range.entries).order_by(*_newest())
        last = (await connection.execute(_after(newest, wanted).offset(WINDOW - 1).limit(1))).first()
        if last is not None:
            place = tuple_(deliveries.c.created_at, deliveries.c.id)
            query = query.where(place >= tuple_(literal(last[0], UtcDateTime), literal(last[1], SafeText)))
    rows = await connection.execute(query.order_by(*_newest()).limit(wanted.limit))
    found = [DeliveryView(**row) for row in rows.mappings()]
    return DeliveryWindow(deliveries=found, after=last.id if last is not None and len(found) < wanted.limit else None)


def _index_range(wanted: DeliverySelection) -> _IndexRange:
    """Return the smallest index: that of dead letters, by their fault or client, or that of a client's or of all."""
    entries: list[ColumnElement[bool]] = []
    if wanted.status == "dead" or wanted.fault is not None:
        entries.append(IS_DEAD)
    if wanted.fault is not None:
        entries.append(deliveries.c.fault == wanted.fault)
        return _IndexRange(entries=tuple(entries), checks=_checks(wanted))
    if wanted.client is not None:
        entries.append(deliveries.c.client == wanted.client)
    others = _checks(wanted, client=False)
    if wanted.status not in {None, "dead"}:
        others = (*others, unindexed(deliveries.c.status) == wanted.status)
    return _IndexRange(entries=tuple(entries), checks=others)


def _checks(wanted: DeliverySelection, *, client: bool = True) -> tuple[ColumnElement[bool], ...]:
    names = ("client", "handler", "endpoint_id") if client else ("handler", "endpoint_id")
    wanted_values = [(name, getattr(wanted, name)) for name in names]
    return tuple(unindexed(deliveries.c[name]) == value for name, value in wanted_values if value is not None)


def _newest() -> tuple[ColumnElement[Any], ColumnElement[Any]]:
    return deliveries.c.created_at.desc(), deliveries.c.id.desc()


def _after(
    query: Select[Any], wanted: DeliverySelection, created_at: ColumnElement[Any] = deliveries.c.created_at
) -> Select[Any]:
    """Return `query` after the delivery with the id `cursor`; an unknown id gives no rows."""
    if wanted.cursor is None:
        return query
    position = select(deliveries.c.created_at, deliveries.c.id).where(deliveries.c.id == wanted.cursor)
    return query.where(tuple_(created_at, deliveries.c.id) < position.scalar_subquery())


async def delivery_view(connection: AsyncConnection, delivery_id: str) -> DeliveryView | None:
    """Return one delivery as clients see it, None if it is unknown."""
    rows = await connection.execute(DELIVERIES.where(deliveries.c.id == delivery_id))
    row = rows.mappings().one_or_none()
    return None if row is None else DeliveryView(**row)
