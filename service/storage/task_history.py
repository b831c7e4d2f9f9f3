"""History of a task: its acceptance, waits, events, callbacks, polls, deliveries and attempts, oldest first."""

from datetime import datetime

from sqlalchemy import literal, select

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


async def load_history(connection: AsyncConnection, task_id: TaskId, *, data: bool) -> list[Json]:
    """Return the history of one task as plain JSON, with times as RFC 3339 in UTC; without `data` events have none.

    Deliveries and attempts have `requested`: whether a `notify` entry of the task asked for the delivery.
    """
    tried = select(*ATTEMPT).join_from(attempts, deliveries, deliveries.c.id == attempts.c.delivery_id)
    queries = (  # causes before their effects
        select(*CREATED).where(tasks.c.id == task_id),
        select(*WAIT).where(task_waits.c.task_id == task_id),
        select(*EVENT, *([events.c.data] if data else [])).where(events.c.task_id == task_id).order_by(events.c.seq),
        select(*CALLBACK).where(inbox.c.task_id == task_id),
        select(*REFUSED).where(refused_callbacks.c.task_id == task_id).order_by(refused_callbacks.c.reason),
        select(*POLL).where(polls.c.task_id == task_id),
        select(*DELIVERY).where(deliveries.c.task_id == task_id).order_by(deliveries.c.event_seq),
        tried.where(deliveries.c.task_id == task_id).order_by(attempts.c.delivery_id, attempts.c.number),
    )
    rows: list[Json] = []
    for query in queries:
        rows += [dict(row) for row in (await connection.execute(query)).mappings()]
    rows.sort(key=lambda row: row["at"])  # stable: at equal times, causes stay before their effects
    return [
        {name: rfc3339(value) if isinstance(value, datetime) else value for name, value in row.items()} for row in rows
    ]
