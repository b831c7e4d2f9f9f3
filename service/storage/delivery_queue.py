"""Deliveries that are due, first in first out within a lane."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Integer, Label, Select, bindparam, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.domain.fair_share import share_owner
from service.domain.ports.queues import AttemptResult, HandlerCapacity
from service.domain.ports.tasks import DeliveryView
from service.domain.ports.unit_of_work import DeliveryClaim
from service.storage.attempt_results import LeasedDelivery, attempt_values, delivery_values, lane_values
from service.storage.bulk_writes import insert_many, update_many
from service.storage.database import Database
from service.storage.delivery_claims import delivery_claim, with_payload
from service.storage.event_log import EVENT_COLUMNS, event_from_row
from service.storage.in_list import in_list
from service.storage.queries import delivery_view
from service.storage.tables import IS_PENDING, PENDING, attempts, deliveries, events
from service.storage.task_rows import Values

LEASED_COLUMNS = (
    deliveries.c.id,
    deliveries.c.fence,
    deliveries.c.attempts,
    deliveries.c.handler,
    deliveries.c.message_id,
    deliveries.c.target,
    deliveries.c.event_id,
    deliveries.c.event_seq,
    deliveries.c.created_at,
)
DUE_COLUMNS = (
    deliveries.c.id,
    deliveries.c.client,
    deliveries.c.target,
    deliveries.c.leased_until.is_not(None).label("abandoned"),
)
LEASED_FIELDS = tuple(field.name for field in fields(LeasedDelivery) if field.name in deliveries.c)


class SqlDeliveryQueue:
    """Implements `DeliveryQueue`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def claim(self, rooms: Sequence[HandlerCapacity], *, now: datetime, until: datetime) -> list[DeliveryClaim]:
        """Lease due deliveries as far as there is room, heads of their lanes only.

        What has a lease, one that is past, was abandoned.
        """
        async with self._database.writing() as write:
            chosen = {one["id"]: one for room in rooms for one in await _choose(write.connection, room, now)}
            if not chosen:
                return []
            rows = await write.connection.execute(LEASE, {"ids": list(chosen), "leased_until": until})
            leased = {row["id"]: dict(row) for row in rows.mappings()}
            return await _claims(write.connection, [leased[one] | chosen[one] for one in chosen])

    async def finish(self, results: Sequence[AttemptResult]) -> set[str]:
        """Store attempts and what became of their deliveries; return the ids whose fence still fitted.

        Of two results for one delivery only that of the newer claim can fit.
        """
        if not results:
            return set()
        newest = {result.delivery_id: result for result in sorted(results, key=lambda result: result.fence)}
        async with self._database.writing() as write:
            held = await _lock_leased(write.connection, {one: result.fence for one, result in newest.items()})
            pairs = [(held[one], result) for one, result in newest.items() if one in held]
            if pairs:
                await _write_outcomes(write.connection, pairs)
            if any(one.followed or result.due_now for one, result in pairs):
                write.topics.add("dispatch")  # another of the lane may be its head now
            return set(held)

    async def renew(self, claims: Mapping[str, int], *, until: datetime) -> set[str]:
        """Prolong leases; return those that are still held."""
        if not claims:
            return set()
        async with self._database.writing() as write:
            return await _set_lease(write.connection, claims, until)

    async def release(self, claims: Mapping[str, int]) -> None:
        """Give back leases whose fence still fits, without counting an attempt; due at once."""
        if not claims:
            return
        async with self._database.writing() as write:
            await _set_lease(write.connection, claims, None)
            write.topics.add("dispatch")

    async def pending_handlers(self) -> list[str]:
        """Return the names of the handlers that have pending deliveries, in their order."""
        async with self._database.reading() as connection:
            return await pending_handlers(connection)

    async def replay(self, delivery_ids: Sequence[str], *, now: datetime) -> list[str]:
        """Make dead or delivered deliveries due again, with a fresh message id and schedule; return those found."""
        wanted = list(dict.fromkeys(delivery_ids))
        query = select(deliveries.c.id).where(deliveries.c.id.in_(wanted), ~IS_PENDING)
        async with self._database.writing() as write:
            locked = await write.connection.execute(query.order_by(deliveries.c.id).with_for_update())
            ended = set(locked.scalars())
            if ended:
                await write.connection.execute(REPLAY, [_replay_values(one, now) for one in sorted(ended)])
                write.topics.add("dispatch")
        return [one for one in wanted if one in ended]

    async def delivery(self, delivery_id: str) -> DeliveryView | None:
        """Return one delivery."""
        async with self._database.reading() as connection:
            return await delivery_view(connection, delivery_id)


REPLAY = update(deliveries).where(deliveries.c.id == bindparam("this_id"))
POSTPONE = update(deliveries).where(
    IS_PENDING,
    deliveries.c.lane == bindparam("this_lane"),
    deliveries.c.event_seq > bindparam("this_seq"),
    deliveries.c.leased_until.is_(None),
)


async def pending_handlers(connection: AsyncConnection) -> list[str]:
    """Return the handlers that have pending deliveries, leaping over the index from one to the next."""
    handlers: list[str] = []
    query = select(func.min(deliveries.c.handler)).where(IS_PENDING)
    while handler := (await connection.execute(query)).scalar():
        handlers.append(handler)
        query = select(func.min(deliveries.c.handler)).where(IS_PENDING, deliveries.c.handler > handler)
    return handlers


async def _choose(connection: AsyncConnection, room: HandlerCapacity, now: datetime) -> list[Values]:
    """Return the heads to lease; name by name, as only then the index has their order."""
    shares = room.shares()
    chosen: dict[str, Values] = {}
    for name in dict.fromkeys(room.names):
        passed_over = True
        while shares.free and passed_over:  # each time by one client more, and the free places bound how many these are
            served = shares.served() if room.past_served else set()
            found = await _due(connection, name, now, most=shares.free + len(chosen), served=served)
            new = [row for row in found if row["id"] not in chosen]
            taken = [row for row in new if shares.take(share_owner(row["client"], row["target"]))]
            chosen |= {row["id"]: row for row in taken}
            passed_over = room.past_served and len(taken) < len(new)
    return list(chosen.values())


async def _due(
    connection: AsyncConnection, name: str, now: datetime, *, most: int, served: Collection[str]
) -> list[Values]:
    """Return what is due of one handler, past the clients that have been `served` their share."""
    wanted = {"handler_name": name, "now": now, "most": most}
    if served:
        rows = await connection.execute(DUE_OF_OTHER_CLIENTS, wanted | {"served": served})
    else:
        rows = await connection.execute(DUE_HEADS, wanted)
    return [dict(row) for row in rows.mappings()]


def _due_heads() -> Select[Any]:
    """Return the query for what is due of one handler, in nobody's hands and at the head of its lane.

    A lane is in one hand at a time: a replay may become the head while a later one of its lane is in hand. Deliveries
    behind a head that waits for its retry are postponed with it (see `finish`), so that a long outage of one
    destination does not fill the due end of the index with rows that cannot be claimed.
    """
    other = deliveries.alias("other")
    blocked = select(other.c.id).where(
        other.c.status == PENDING,
        other.c.lane == deliveries.c.lane,
        (other.c.event_seq < deliveries.c.event_seq) | (other.c.leased_until > bindparam("now")),
    )
    mine = deliveries.c.handler == bindparam("handler_name")
    due = deliveries.c.due_at <= bindparam("now")
    free = deliveries.c.leased_until.is_(None) | (deliveries.c.leased_until <= bindparam("now"))
    return (
        select(*DUE_COLUMNS)
        .where(IS_PENDING, mine, due, free, ~blocked.exists())
        .order_by(deliveries.c.due_at, deliveries.c.event_seq)
        .limit(bindparam("most", type_=Integer))
        .with_for_update(skip_locked=True, of=deliveries)
    )


def _lane_has_others() -> Label[bool]:
    """Return the condition that others of the lane are waiting: behind it, or a replayed one before it."""
    other = deliveries.alias("other")
    same_lane = (other.c.lane == deliveries.c.lane) & (other.c.id != deliveries.c.id)
    return select(other.c.id).where(other.c.status == PENDING, same_lane).exists().label("followed")


# What is asked many times a second is made once.
DUE_HEADS = _due_heads()
DUE_OF_OTHER_CLIENTS = DUE_HEADS.where(~in_list(deliveries.c.client, "served") | (deliveries.c.target == {}))
EVENTS_WITH_PAYLOAD = with_payload(*EVENT_COLUMNS).where(in_list(events.c.seq, "numbers", numbers=True))
LEASE = (
    update(deliveries)
    .where(in_list(deliveries.c.id, "ids"))
    .values(leased_until=bindparam("leased_until"), fence=deliveries.c.fence + 1)
    .returning(*LEASED_COLUMNS)
)
LEASED = (
    select(*(deliveries.c[name] for name in LEASED_FIELDS), _lane_has_others())
    .where(in_list(deliveries.c.id, "ids"), IS_PENDING, deliveries.c.leased_until.is_not(None))
    .order_by(deliveries.c.id)
    .with_for_update()
)


async def _lock_leased(connection: AsyncConnection, claims: Mapping[str, int]) -> dict[str, LeasedDelivery]:
    """Return those that are still leased under the claim's fence, locked in id order."""
    rows = await connection.execute(LEASED, {"ids": list(claims)})
    found = [LeasedDelivery(**row) for row in rows.mappings()]
    return {held.id: held for held in found if claims[held.id] == held.fence}


async def _set_lease(connection: AsyncConnection, claims: Mapping[str, int], until: datetime | None) -> set[str]:
    held = set(await _lock_leased(connection, claims))
    await connection.execute(update(deliveries).where(deliveries.c.id.in_(held)).values(leased_until=until))
    return held


async def _write_outcomes(connection: AsyncConnection, pairs: Sequence[tuple[LeasedDelivery, AttemptResult]]) -> None:
    await insert_many(connection, attempts, [attempt_values(held, result) for held, result in pairs])
    await update_many(connection, deliveries, [delivery_values(held, result) for held, result in pairs])
    moved = [lane_values(held, result) for held, result in pairs if held.followed]
    if moved:
        await connection.execute(POSTPONE, moved)


async def _claims(connection: AsyncConnection, leased: Sequence[Values]) -> list[DeliveryClaim]:
    rows = await connection.execute(EVENTS_WITH_PAYLOAD, {"numbers": [row["event_seq"] for row in leased]})
    carried = {row["id"]: (event_from_row(row), row["payload"]) for row in rows.mappings()}
    return [delivery_claim(row, *carried[row["event_id"]], abandoned=bool(row["abandoned"])) for row in leased]


def _replay_values(delivery_id: str, now: datetime) -> Values:
    return {
        "this_id": delivery_id,
        "status": "pending",
        "attempts": 0,
        "message_id": f"msg_{uuid4().hex}",
        "due_at": now,
        "leased_until": None,
        "fault": None,
        "last_error": None,
        "finished_at": None,
    }
