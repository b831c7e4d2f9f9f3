"""Waiting submissions of each client, and whose turn is next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement, Integer, Select, String, bindparam, func, select

from service.domain.task import TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import UtcDateTime, in_list
from service.storage.dialects import insert
from service.storage.tables import QUEUED, UNREAD_OF_TASK, client_turns, inbox, tasks

NOW = bindparam("now", type_=UtcDateTime())
LIMIT = bindparam("limit", type_=Integer())

HAS_UNREAD_CALLBACK = select(inbox.c.digest).where(inbox.c.task_id == tasks.c.id, UNREAD_OF_TASK).exists()
"""The task has an unread callback, so its submission was sent even if its status is `queued`."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A task that is due to be submitted.

    For the oldest of its client, `turn` is the number of the client's last turn, and `last_turn` that of any client.
    """

    id: TaskId
    client: str
    bucket: str
    turn: int = 0
    last_turn: int = 0


def _due(client: ColumnElement[str]) -> ColumnElement[bool]:
    return (
        QUEUED & (tasks.c.client == client) & (tasks.c.due_at <= NOW) & (tasks.c.deadline_at > NOW)
    ) & ~HAS_UNREAD_CALLBACK


LAST_TURN = select(func.coalesce(func.max(client_turns.c.turn), 0))


def _heads() -> Select[str, str, str, int, int]:
    """Return the query for the oldest due task of each client that has queued tasks, in the order of their turns.

    It reads one entry of the index for each client: how many tasks a client has queued does not matter.
    """
    queued = tasks.alias("queued_tasks")
    waiting = select(func.min(tasks.c.client).label("client")).where(QUEUED).cte("waiting", recursive=True)
    following = select(func.min(tasks.c.client)).where(QUEUED, tasks.c.client > waiting.c.client).scalar_subquery()
    waiting = waiting.union_all(select(following).where(waiting.c.client.is_not(None)))
    head = (
        select(tasks.c.id)
        .where(_due(waiting.c.client))
        .order_by(tasks.c.created_at, tasks.c.id)
        .limit(1)
        .correlate(waiting)
        .scalar_subquery()
    )
    turn = func.coalesce(client_turns.c.turn, 0)
    last_turn = LAST_TURN.scalar_subquery()
    return (
        select(queued.c.id, queued.c.client, queued.c.bucket, turn.label("turn"), last_turn.label("last_turn"))
        .select_from(
            waiting.join(queued, queued.c.id == head).outerjoin(client_turns, client_turns.c.client == waiting.c.client)
        )
        .where(waiting.c.client.is_not(None))
        .order_by(turn, queued.c.created_at, queued.c.id)
    )


# Statements of every claim, built once.
HEADS = _heads()
TO_BE_TRIED = (
    select(tasks.c.id, tasks.c.client, tasks.c.bucket)
    .where(QUEUED, tasks.c.due_at <= NOW, tasks.c.deadline_at > NOW, ~HAS_UNREAD_CALLBACK)
    .order_by(tasks.c.tries, tasks.c.created_at, tasks.c.id)
    .limit(LIMIT)
)
QUEUE_OF_CLIENT = (
    select(tasks.c.id, tasks.c.client, tasks.c.bucket)
    .where(_due(bindparam("of_client", type_=String())))
    .order_by(tasks.c.created_at, tasks.c.id)
    .limit(LIMIT)
)
STILL_QUEUED = (
    select(tasks.c.id).where(in_list(tasks.c.id, "ids"), QUEUED).order_by(tasks.c.id).with_for_update(skip_locked=True)
)


async def heads(connection: AsyncConnection, now: datetime) -> list[Candidate]:
    """Return the oldest due task of each client, those of clients that were served longest ago first."""
    return [Candidate(**row) for row in (await connection.execute(HEADS, {"now": now})).mappings()]


async def queue_of(connection: AsyncConnection, client: str, now: datetime, limit: int) -> list[Candidate]:
    """Return up to `limit` due tasks of `client`, oldest first."""
    rows = await connection.execute(QUEUE_OF_CLIENT, {"of_client": client, "now": now, "limit": limit})
    return [Candidate(**row) for row in rows.mappings()]


async def to_be_tried(connection: AsyncConnection, now: datetime, limit: int) -> list[Candidate]:
    """Return up to `limit` due tasks of all clients, those first that were refused least often."""
    rows = await connection.execute(TO_BE_TRIED, {"now": now, "limit": limit})
    return [Candidate(**row) for row in rows.mappings()]


async def lock_queued(connection: AsyncConnection, chosen: Sequence[Candidate]) -> list[Candidate]:
    """Lock those of `chosen` that are still queued and that no other transaction has locked; return them in order."""
    if connection.dialect.name != "postgresql" or not chosen:
        return list(chosen)  # SQLite has one writer at a time
    locked = set((await connection.execute(STILL_QUEUED, {"ids": [each.id for each in chosen]})).scalars())
    return [each for each in chosen if each.id in locked]


async def note_turns(connection: AsyncConnection, waiting: Sequence[Candidate], served: Sequence[Candidate]) -> None:
    """Store that the clients of `served` were served, in this order; `waiting` are the oldest tasks of all clients.

    A client that waits alone and was the last one served needs no entry: most claims store nothing.
    """
    first = waiting[0]
    if len(waiting) == 1 and 0 < first.turn == first.last_turn:
        return
    turns = {each.client: first.last_turn + number for number, each in enumerate(served, 1)}
    statement = insert(connection, client_turns)
    upsert = statement.on_conflict_do_update(index_elements=["client"], set_={"turn": statement.excluded.turn})
    await connection.execute(upsert, [{"client": client, "turn": turn} for client, turn in turns.items()])
