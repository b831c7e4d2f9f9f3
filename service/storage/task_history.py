"""History of a task: its acceptance, waits, events, callbacks, polls, deliveries and attempts, oldest first.

A part of it is read from a position on, by the indexes that begin with the task. Those of events and deliveries have
another order, and attempts have none: the database looks at all of a task, and returns those of the part alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from heapq import merge
from itertools import islice
from typing import Any

from sqlalchemy import Column, ColumnElement, FromClause, Row, Select, literal, select, true, tuple_

from service.domain.history_position import HistoryEntry, HistoryKind, HistoryPosition
from service.domain.task import Json, TaskId
from service.domain.task_view import rfc3339
from service.storage.async_engine import AsyncConnection
from service.storage.delivery_tables import REQUESTED, attempts, deliveries
from service.storage.tables import coalesced, events, inbox, polls, refused_callbacks, task_waits, tasks

CREATED = (tasks.c.created_at.label("at"), literal("created").label("kind"), tasks.c.client)
WAIT = (
    task_waits.c.first_at.label("at"),
    literal("wait").label("kind"),
    task_waits.c.reason,
    task_waits.c["count"].label("count"),
    task_waits.c.last_at,
    task_waits.c.detail,
)
EVENT = (events.c.at, literal("event").label("kind"), events.c.id, events.c.type)
CALLBACK = (inbox.c.received_at.label("at"), literal("callback").label("kind"), inbox.c.submission, inbox.c.verdict)
REFUSED = (
    refused_callbacks.c.first_at.label("at"),
    literal("callback").label("kind"),
    refused_callbacks.c.submission,
    (literal("refused_") + refused_callbacks.c.reason).label("verdict"),
    refused_callbacks.c.count,
    refused_callbacks.c.last_at,
)
POLL = (polls.c.at, literal("poll").label("kind"), polls.c.outcome)
DELIVERY = (
    deliveries.c.created_at.label("at"),
    literal("delivery").label("kind"),
    deliveries.c.id,
    deliveries.c.event_id,
    deliveries.c.handler,
    deliveries.c.status,
    deliveries.c.attempts,
    deliveries.c.due_at,
    deliveries.c.fault,
    deliveries.c.last_error,
    deliveries.c.finished_at,
    REQUESTED,
    deliveries.c.endpoint_id,
)
ATTEMPT = (
    attempts.c.started_at.label("at"),
    literal("attempt").label("kind"),
    attempts.c.delivery_id,
    attempts.c.handler,
    attempts.c.number.label("attempt"),
    attempts.c.outcome,
    attempts.c.error,
    attempts.c.finished_at,
    attempts.c.answer_status,
    attempts.c.answer_body,
    REQUESTED,
)


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How entries of one kind are read: `at` is their time, and `keys` distinguish those of the same time.

    The newest ones are read in the order of `newest_by`, where an index has that of the keys and not that of the time.
    """

    kind: HistoryKind
    columns: tuple[ColumnElement[Any], ...]
    task_id: Column[str]
    at: ColumnElement[datetime]
    keys: tuple[tuple[Column[Any], Callable[[str], Any]], ...] = ()
    source: FromClause | None = None
    newest_by: tuple[ColumnElement[Any], ...] = ()

    def part(self, task_id: TaskId, after: HistoryPosition | None, limit: int) -> Select[Any]:
        """Return the query for the next `limit` entries after a position; the last columns are the keys."""
        keys = [column.label(f"key_{number}") for number, column in enumerate(self._keys)]
        query = self._all(*keys).where(self.task_id == task_id, self._follows(after))
        return query.order_by(self.at, *self._keys).limit(limit)

    def newest(self, task_id: TaskId, limit: int) -> Select[Any]:
        """Return the query for the newest `limit` entries, the newest first."""
        order = self.newest_by or (self.at, *self._keys)
        return self._all().where(self.task_id == task_id).order_by(*(each.desc() for each in order)).limit(limit)

    def chosen(self, *conditions: ColumnElement[bool]) -> Select[Any]:
        """Return the query for the entries for which the conditions hold, in the order of their keys."""
        return self._all().where(*conditions).order_by(*self._keys)

    @property
    def _keys(self) -> list[Column[Any]]:
        return [column for column, _ in self.keys]

    def _all(self, *more: ColumnElement[Any]) -> Select[Any]:
        query = select(*self.columns, *more)
        return query if self.source is None else query.select_from(self.source)

    def _follows(self, after: HistoryPosition | None) -> ColumnElement[bool]:
        """Return the condition that an entry comes after a position."""
        if after is None:
            return true()
        at = literal(after.at, self.at.type)
        if after.kind < self.kind:
            return self.at >= at
        if after.kind > self.kind or not self.keys:
            return self.at > at
        values = after.key.rsplit(".", 1) if len(self.keys) > 1 else [after.key]
        given = [literal(read(value), column.type) for (column, read), value in zip(self.keys, values, strict=True)]
        # The first condition is a range of the index where it has the time.
        return (self.at >= at) & ((self.at > at) | (tuple_(*self._keys) > tuple_(*given)))

    def entry(self, row: Row[Any]) -> HistoryEntry:
        """Return the entry of a row."""
        size = len(self.columns)
        key = ".".join(map(str, row[size:]))
        names = row._fields[:size]
        return HistoryEntry(
            position=HistoryPosition(at=row.at, kind=self.kind, key=key),
            row=_plain(dict(zip(names, row, strict=False))),
        )


OWN_KINDS = (
    _Kind(kind=HistoryKind.CREATED, columns=CREATED, task_id=tasks.c.id, at=tasks.c.created_at),
    _Kind(
        kind=HistoryKind.WAIT,
        columns=WAIT,
        task_id=task_waits.c.task_id,
        at=task_waits.c.first_at,
        keys=((task_waits.c.reason, str),),
    ),
    _Kind(
        kind=HistoryKind.EVENT,
        columns=EVENT,
        task_id=events.c.task_id,
        at=events.c.at,
        keys=((events.c.seq, int),),
        newest_by=(events.c.seq,),
    ),
    _Kind(
        kind=HistoryKind.CALLBACK,
        columns=CALLBACK,
        task_id=inbox.c.task_id,
        at=inbox.c.received_at,
        keys=((inbox.c.digest, str),),
    ),
    _Kind(
        kind=HistoryKind.REFUSED_CALLBACK,
        columns=REFUSED,
        task_id=refused_callbacks.c.task_id,
        at=refused_callbacks.c.first_at,
        keys=((refused_callbacks.c.reason, str),),
    ),
    _Kind(kind=HistoryKind.POLL, columns=POLL, task_id=polls.c.task_id, at=polls.c.at, keys=((polls.c.seq, int),)),
)
"""What happened to the task itself, causes before their effects."""

DELIVERIES = _Kind(
    kind=HistoryKind.DELIVERY,
    columns=DELIVERY,
    task_id=deliveries.c.task_id,
    at=coalesced(deliveries.c.created_at),  # an index of all deliveries has this order: it is not the one to use
    keys=((deliveries.c.id, str),),
)
ATTEMPTS = _Kind(
    kind=HistoryKind.ATTEMPT,
    columns=ATTEMPT,
    task_id=deliveries.c.task_id,
    at=attempts.c.started_at,
    keys=((attempts.c.delivery_id, str), (attempts.c.number, int)),
    source=attempts.join(deliveries, deliveries.c.id == attempts.c.delivery_id),
)
KINDS = (*OWN_KINDS, DELIVERIES, ATTEMPTS)

LAST_ATTEMPTS = 50
"""Attempts of each delivery in a part of a history: replays add to them without limit."""


async def load_history(
    connection: AsyncConnection, task_id: TaskId, *, after: HistoryPosition | None, limit: int
) -> list[HistoryEntry]:
    """Return the next `limit` entries of the history of one task after a position, events without their data.

    Deliveries and attempts have `requested`: whether a `notify` entry of the task asked for the delivery.
    """
    found: list[list[tuple[_Kind, Row[Any]]]] = []
    for kind in KINDS:
        rows = await connection.execute(kind.part(task_id, after, limit))
        found.append([(kind, row) for row in rows])
    in_order = merge(*found, key=lambda each: each[1].at)  # at equal times, causes come first, as in KINDS
    return [kind.entry(row) for kind, row in islice(in_order, limit)]


async def load_newest_history(
    connection: AsyncConnection, task_id: TaskId, *, limit: int, with_delivery: str | None
) -> list[Json]:
    """Return the newest `limit` entries of each kind of a task's history, and those of the delivery `with_delivery`.

    Attempts do not count: they are those of the deliveries, the last LAST_ATTEMPTS of each.
    """
    rows: list[Json] = []
    for kind in OWN_KINDS:
        rows += reversed(await _read(connection, kind.newest(task_id, limit)))
    of_task = deliveries.c.task_id == task_id
    newest_ids = select(deliveries.c.id).where(of_task)
    newest_ids = newest_ids.order_by(deliveries.c.event_seq.desc(), deliveries.c.id.desc()).limit(limit)
    chosen = of_task & (deliveries.c.id.in_(newest_ids) | (deliveries.c.id == with_delivery))
    last = attempts.c.number > deliveries.c.attempted - LAST_ATTEMPTS
    rows += await _read(connection, DELIVERIES.chosen(chosen))
    rows += await _read(connection, ATTEMPTS.chosen(chosen, last))
    return _in_order(rows)


async def _read(connection: AsyncConnection, query: Select[Any]) -> list[Json]:
    return [dict(row) for row in (await connection.execute(query)).mappings()]


def _in_order(rows: list[Json]) -> list[Json]:
    rows.sort(key=lambda row: row["at"])  # stable: at equal times, causes stay before their effects
    return [_plain(row) for row in rows]


def _plain(row: Json) -> Json:
    return {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in row.items()}
