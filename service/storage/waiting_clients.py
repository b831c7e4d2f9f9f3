"""Waiting submissions of each client, and whose turn is next."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import (
    ColumnElement,
    FromClause,
    Integer,
    Select,
    String,
    bindparam,
    func,
    literal_column,
    select,
)

from service.domain.task import TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import UtcDateTime, in_list
from service.storage.dialects import insert
from service.storage.lookups import first_value
from service.storage.tables import QUEUED, UNREAD_OF_TASK, client_turns, inbox, tasks

NOW = bindparam("now", type_=UtcDateTime())
ONE = literal_column("1", Integer())
LIMIT = bindparam("limit", type_=Integer())

WINDOW = literal_column("200", Integer())
"""Queued tasks of a client, its oldest before their deadline, among which a claim looks for due ones.

Those past it expire soon, but while the clock is doubted they stay, and must not fill the window. The others may all
wait to be submitted again. If none of the oldest is due, a claim looks among as many tasks of all clients that are due
for longest. Where those wait for a limit of other clients, a client has to wait until one of its oldest tasks is due
again: mostly a minute, see `next_submission`.
"""


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


def _has_unread_callback(task_id: ColumnElement[str]) -> ColumnElement[bool]:
    """Return the condition that the submission was sent even if the status of the task is `queued`."""
    return first_value(inbox.c.digest, inbox.c.task_id == task_id, UNREAD_OF_TASK).is_not(None)


def _is_due(task: FromClause) -> ColumnElement[bool]:
    return (task.c.due_at <= NOW) & (task.c.deadline_at > NOW) & ~_has_unread_callback(task.c.id)


COLUMNS = (tasks.c.id, tasks.c.client, tasks.c.bucket, tasks.c.created_at, tasks.c.due_at, tasks.c.deadline_at)
IN_TIME = tasks.c.deadline_at > NOW
EARLIEST_DUE = select(*COLUMNS).where(QUEUED, tasks.c.due_at <= NOW, IN_TIME).order_by(tasks.c.due_at).limit(WINDOW)


def _oldest_of(client: ColumnElement[str]) -> Select[Any]:
    mine = select(*COLUMNS).where(QUEUED, tasks.c.client == client, IN_TIME)
    return mine.order_by(tasks.c.created_at, tasks.c.id).limit(WINDOW)


def _first_due(found: FromClause, limit: ColumnElement[int]) -> Select[str, str, str]:
    """Return the query for the first due ones of `found`, in its order: both databases keep it where nothing is sorted.

    Sorted again, SQLite would read all of them for the first one.
    """
    return select(found.c.id, found.c.client, found.c.bucket).where(_is_due(found)).limit(limit)


def _earliest_due(found: FromClause, client: ColumnElement[str], limit: ColumnElement[int]) -> Select[str, str, str]:
    """Return the query for those of `client` among the tasks that are due for longest, the oldest first."""
    return _first_due(found, limit).where(found.c.client == client).order_by(found.c.created_at, found.c.id)


LAST_TURN = select(func.coalesce(func.max(client_turns.c.turn), 0))


def _heads() -> Select[str, str, str, int, int]:
    """Return the query for the oldest due task of each client that has queued tasks, in the order of their turns.

    It reads one entry of the index for each client, and at most WINDOW beside tasks past their deadline: how many tasks
    a client has queued does not matter.
    """
    queued = tasks.alias("queued_tasks")
    by_name = select(tasks.c.client).where(QUEUED).order_by(tasks.c.client).limit(ONE)  # MIN needs no order of an index
    waiting = select(by_name.scalar_subquery().label("client")).cte("waiting", recursive=True)
    following = by_name.where(tasks.c.client > waiting.c.client).scalar_subquery()
    waiting = waiting.union_all(select(following).where(waiting.c.client.is_not(None)))
    due = EARLIEST_DUE.cte("earliest_due").prefix_with("MATERIALIZED")  # read once, where a client needs it
    oldest = _oldest_of(waiting.c.client).correlate(waiting).subquery("oldest")
    lookups = (_first_due(oldest, ONE), _earliest_due(due, waiting.c.client, ONE))
    ids = [lookup.with_only_columns(lookup.selected_columns.id).correlate(waiting) for lookup in lookups]
    head = func.coalesce(*(one.scalar_subquery() for one in ids))
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
    .where(QUEUED, _is_due(tasks))
    .order_by(tasks.c.tries, tasks.c.created_at, tasks.c.id)
    .limit(LIMIT)
)
OF_CLIENT = bindparam("of_client", type_=String())
QUEUE_OF_CLIENT = _first_due(_oldest_of(OF_CLIENT).subquery("oldest"), LIMIT)
EARLIEST_DUE_OF_CLIENT = _earliest_due(EARLIEST_DUE.subquery("earliest_due"), OF_CLIENT, LIMIT)
STILL_QUEUED = (
    select(tasks.c.id).where(in_list(tasks.c.id, "ids"), QUEUED).order_by(tasks.c.id).with_for_update(skip_locked=True)
)


async def heads(connection: AsyncConnection, now: datetime) -> list[Candidate]:
    """Return the oldest due task of each client, those of clients that were served longest ago first."""
    return [Candidate(**row) for row in (await connection.execute(HEADS, {"now": now})).mappings()]


async def queue_of(connection: AsyncConnection, client: str, now: datetime, limit: int) -> list[Candidate]:
    """Return up to `limit` due tasks of `client`, oldest first, or where its oldest all wait, of those due for longest.

    See WINDOW.
    """
    given = {"of_client": client, "now": now, "limit": limit}
    rows = (await connection.execute(QUEUE_OF_CLIENT, given)).mappings().all()
    if not rows:
        rows = (await connection.execute(EARLIEST_DUE_OF_CLIENT, given)).mappings().all()
    return [Candidate(**row) for row in rows]


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
