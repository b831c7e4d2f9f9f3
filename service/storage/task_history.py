"""History of a task: its acceptance, waits, events, callbacks, polls, deliveries and attempts, oldest first."""

from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Select, literal, select

from service.domain.task import Json, TaskId
from service.domain.task_view import rfc3339
from service.storage.async_engine import AsyncConnection
from service.storage.delivery_tables import REQUESTED, attempts, deliveries
from service.storage.tables import events, inbox, polls, refused_callbacks, task_waits, tasks

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


LAST_ATTEMPTS = 50
"""Attempts of each delivery in a part of a history: replays add to them without limit."""


async def load_history(connection: AsyncConnection, task_id: TaskId, *, data: bool) -> list[Json]:
    """Return the history of one task as plain JSON, with times as RFC 3339 in UTC; without `data` events have none.

    Deliveries and attempts have `requested`: whether a `notify` entry of the task asked for the delivery.
    """
    rows: list[Json] = []
    for query, keys in _own_entries(task_id, data=data):
        rows += await _read(connection, query.order_by(*keys))
    for query in _of_deliveries(deliveries.c.task_id == task_id):
        rows += await _read(connection, query)
    return _in_order(rows)


async def load_newest_history(
    connection: AsyncConnection, task_id: TaskId, *, limit: int, with_delivery: str | None
) -> list[Json]:
    """Return the newest `limit` entries of each kind of a task's history, and those of the delivery `with_delivery`.

    Attempts do not count: they are those of the deliveries, the last LAST_ATTEMPTS of each.
    """
    rows: list[Json] = []
    for query, keys in _own_entries(task_id, data=False):
        newest = query.order_by(*(key.desc() for key in keys)).limit(limit)
        rows += reversed(await _read(connection, newest))
    of_task = deliveries.c.task_id == task_id
    newest_ids = select(deliveries.c.id).where(of_task)
    newest_ids = newest_ids.order_by(deliveries.c.event_seq.desc(), deliveries.c.id.desc()).limit(limit)
    chosen = deliveries.c.id.in_(newest_ids) | (deliveries.c.id == with_delivery)
    listed, tried = _of_deliveries(of_task & chosen)
    rows += await _read(connection, listed)
    rows += await _read(connection, tried.where(attempts.c.number > deliveries.c.attempted - LAST_ATTEMPTS))
    return _in_order(rows)


async def _read(connection: AsyncConnection, query: Select[Any]) -> list[Json]:
    return [dict(row) for row in (await connection.execute(query)).mappings()]


def _own_entries(task_id: TaskId, *, data: bool) -> list[tuple[Select[Any], tuple[ColumnElement[Any], ...]]]:
    """Return the query for each kind of entry beside deliveries, causes before their effects, with its order."""
    event = select(*EVENT, *([events.c.data] if data else []))
    return [
        (select(*CREATED).where(tasks.c.id == task_id), ()),
        (select(*WAIT).where(task_waits.c.task_id == task_id), (task_waits.c.first_at,)),
        (event.where(events.c.task_id == task_id), (events.c.seq,)),
        (select(*CALLBACK).where(inbox.c.task_id == task_id), (inbox.c.received_at,)),
        (
            select(*REFUSED).where(refused_callbacks.c.task_id == task_id),
            (refused_callbacks.c.first_at, refused_callbacks.c.reason),
        ),
        (select(*POLL).where(polls.c.task_id == task_id), (polls.c.at,)),
    ]


def _of_deliveries(condition: ColumnElement[bool]) -> tuple[Select[Any], Select[Any]]:
    """Return the query for deliveries, and that for their attempts."""
    tried = select(*ATTEMPT).join_from(attempts, deliveries, deliveries.c.id == attempts.c.delivery_id)
    return (
        select(*DELIVERY).where(condition).order_by(deliveries.c.event_seq),
        tried.where(condition).order_by(attempts.c.delivery_id, attempts.c.number),
    )


def _in_order(rows: list[Json]) -> list[Json]:
    rows.sort(key=lambda row: row["at"])  # stable: at equal times, causes stay before their effects
    return [
        {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in row.items()} for row in rows
    ]
