"""Replays of deliveries: one by one, and many at given times."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import ColumnElement, RowMapping, Select, bindparam, or_, select, tuple_, update

from service.domain.event_routing import target_host
from service.domain.ports.replays import Matches, Replayable, ReplayFilter, ReplayOutcome
from service.domain.sealed_targets import secret_id
from service.storage.async_engine import AsyncConnection
from service.storage.bulk_writes import update_many
from service.storage.column_types import UtcDateTime, in_list
from service.storage.database import Database
from service.storage.delivery_tables import DEAD, IS_DEAD, IS_PENDING, REQUESTED, deliveries, pending_of_task, waits_in
from service.storage.lookups import in_found
from service.storage.sealed_secrets import lock_secrets
from service.storage.tables import coalesced, tasks, unindexed
from service.storage.task_rows import Values

ANY_STATUS = frozenset({"pending", "delivered", "dead"})
CONDITIONS = {"dead": IS_DEAD, "pending": IS_PENDING}
CONDITIONS_OF_TASK = {"dead": unindexed(deliveries.c.status) == DEAD, "pending": pending_of_task()}
ERASED_TASKS = select(tasks.c.id).where(in_list(tasks.c.id, "tasks"), tasks.c.erased_at.is_not(None))
"""Read after the deliveries are locked: the statement that waits for their locks sees the tasks as they were before."""

ROWS = (
    select(
        deliveries.c.id,
        deliveries.c.task_id,
        deliveries.c.status,
        deliveries.c.target,
        deliveries.c.lane,
        deliveries.c.event_seq,
        deliveries.c.due_at,
        deliveries.c.leased_until,
    )
    .where(in_list(deliveries.c.id, "ids"))
    .order_by(deliveries.c.id)
)
LOCKED, LOCKED_AT_ONCE = ROWS.with_for_update(), ROWS.with_for_update(skip_locked=True)
EARLIER_OF_LANE = (
    select(deliveries.c.id)
    .where(
        waits_in(bindparam("this_lane"), bindparam("this_task")),
        deliveries.c.event_seq < bindparam("this_seq"),
        deliveries.c.leased_until.is_(None),
        deliveries.c.due_at > bindparam("now", type_=UtcDateTime()),
    )
    .with_for_update(skip_locked=True)
)
ADVANCE_LANE = (
    update(deliveries)
    .where(in_found(deliveries.c.id, EARLIER_OF_LANE))
    .values(due_at=bindparam("now", type_=UtcDateTime()))
)
"""Skips a delivery that an attempt of its lane postpones at this moment: that attempt may wait for this transaction."""


class SqlReplays:
    """Implements `Replayer`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def replay(self, delivery_ids: Sequence[str], *, now: datetime) -> dict[str, ReplayOutcome]:
        """Make single deliveries due at `now`; return what became of those that exist."""
        async with self._database.writing() as write:
            due = dict.fromkeys(delivery_ids, now)
            outcomes, rows = await _replay(write.connection, due, LOCKED, statuses=ANY_STATUS, now=now, manual_at=now)
            lanes = [
                {"this_task": row["task_id"], "this_lane": row["lane"], "this_seq": row["event_seq"], "now": now}
                for row in rows
                if outcomes[row["id"]] == "replayed"
            ]
            if lanes:
                await write.connection.execute(ADVANCE_LANE, lanes)
                write.topics.add("dispatch")
            return outcomes

    async def matching(self, wanted: ReplayFilter, *, after: str | None, limit: int) -> Matches:
        """Return at most `limit` deliveries that match, oldest event first, after the delivery with the id `after`."""
        async with self._database.reading() as connection:
            rows = (await connection.execute(_matching(wanted, after).limit(limit))).mappings().all()
        found = [
            Replayable(id=row["id"], handler=row["handler"], status=row["status"])
            for row in rows
            if wanted.receiver is None or target_host(row["target"]) == wanted.receiver
        ]
        return Matches(found=found, last=rows[-1]["id"] if len(rows) == limit else None)

    async def replay_at(
        self, due: Mapping[str, datetime], wanted: ReplayFilter, *, now: datetime
    ) -> dict[str, ReplayOutcome]:
        """Make deliveries due at the times in `due` if they still have a wanted status.

        What another transaction has locked is tried again alone: a transaction that holds other rows waits for none.
        """
        outcomes = await self._replay_locked(LOCKED_AT_ONCE, due, wanted, now)
        for one in due.keys() - outcomes.keys():
            outcomes |= await self._replay_locked(LOCKED, {one: due[one]}, wanted, now)
        return outcomes

    async def _replay_locked(
        self, lock: Select[Any], due: Mapping[str, datetime], wanted: ReplayFilter, now: datetime
    ) -> dict[str, ReplayOutcome]:
        async with self._database.writing() as write:
            outcomes, _ = await _replay(write.connection, due, lock, statuses=wanted.statuses, now=now)
            if "replayed" in outcomes.values():
                write.topics.add("dispatch")
            return outcomes


def _matching(wanted: ReplayFilter, after: str | None) -> Select[Any]:
    columns = [deliveries.c.id, deliveries.c.handler, deliveries.c.status]
    query = select(*columns, *([deliveries.c.target] if wanted.receiver is not None else []))
    conditions = CONDITIONS if wanted.task_id is None else CONDITIONS_OF_TASK
    query = query.where(or_(*(conditions[status] for status in sorted(wanted.statuses))))
    for column, value in ((deliveries.c.handler, wanted.handler), (deliveries.c.client, wanted.client)):
        query = query if value is None else query.where(column == value)
    if wanted.requested:
        query = query.where(REQUESTED.element)
    if wanted.since is not None:
        query = query.where(deliveries.c.created_at >= wanted.since)
    if wanted.until is not None:
        query = query.where(deliveries.c.created_at < wanted.until)
    order: tuple[ColumnElement[Any], ...] = (deliveries.c.created_at, deliveries.c.id)
    if wanted.task_id is not None:
        query = query.where(deliveries.c.task_id == wanted.task_id)
        order = (coalesced(deliveries.c.created_at), deliveries.c.id)  # only the index of the task is to be used
    if after is not None:
        position = select(*order).where(deliveries.c.id == after)
        query = query.where(tuple_(*order) > position.scalar_subquery())
    return query.order_by(*order)


async def _replay(
    connection: AsyncConnection,
    due: Mapping[str, datetime],
    lock: Select[Any],
    *,
    statuses: frozenset[Any],
    now: datetime,
    manual_at: datetime | None = None,
) -> tuple[dict[str, ReplayOutcome], Sequence[RowMapping]]:
    """Lock the deliveries of `due` with `lock`, then the secrets of those that have ended, and make them due.

    Attempts that end lock in the same order, so that a secret is not deleted while its delivery becomes due again.
    """
    rows = (await connection.execute(lock, {"ids": list(due)})).mappings().all()
    erased = set((await connection.execute(ERASED_TASKS, {"tasks": {row["task_id"] for row in rows}})).scalars())
    outcomes: dict[str, ReplayOutcome] = {}
    pending, ended = [], []
    for row in rows:
        if row["task_id"] in erased:
            outcomes[row["id"]] = "erased"
        elif row["status"] not in statuses:
            outcomes[row["id"]] = "changed"
        elif row["status"] != "pending":
            ended.append(row)
        elif row["leased_until"] is not None and row["leased_until"] > now:
            outcomes[row["id"]] = "running"
        else:
            pending.append(row)
    known = await lock_secrets(connection, [one for row in ended if (one := secret_id(row["target"]))])
    signed = [row for row in ended if secret_id(row["target"]) is None or secret_id(row["target"]) in known]
    outcomes |= dict.fromkeys((row["id"] for row in ended), "secret_deleted")
    outcomes |= dict.fromkeys((row["id"] for row in (*pending, *signed)), "replayed")
    again: Values = {"attempts": 0, "manual_at": manual_at, "circuit": None, "waiting_since": None}
    await update_many(
        connection,
        deliveries,
        [{"id": row["id"], "due_at": min(row["due_at"] or now, due[row["id"]])} | again for row in pending],
    )
    await update_many(connection, deliveries, [_reopened(row["id"], due[row["id"]]) | again for row in signed])
    return outcomes, rows


def _reopened(delivery_id: str, due_at: datetime) -> Values:
    """Return the columns of an ended delivery that is due again, with a new message id."""
    return {
        "id": delivery_id,
        "status": "pending",
        "message_id": f"msg_{uuid4().hex}",
        "due_at": due_at,
        "leased_until": None,
        "fault": None,
        "last_error": None,
        "finished_at": None,
    }
