"""The rows of the database at the end of a run, read with plain SQL, without the code under test."""

import json
import sqlite3
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from tests.simulation.scheduler import EPOCH, MICROSECONDS

Row = dict[str, Any]
MOMENTS = frozenset(
    {
        "created_at",
        "deadline_at",
        "submitted_at",
        "settled_at",
        "due_at",
        "leased_until",
        "at",
        "started_at",
        "waiting_since",
        "finished_at",
        "received_at",
        "hinted_at",
        "polled_at",
    }
)
WAITING = """
SELECT id, status FROM tasks
WHERE (status IN ('queued', 'in_progress', 'in_doubt') AND due_at IS NULL AND leased_until IS NULL)
   OR (status = 'submitting' AND leased_until IS NULL)
"""
BUSY = """
SELECT (SELECT count(*) FROM tasks WHERE status IN ('queued', 'submitting', 'in_progress', 'in_doubt'))
     + (SELECT count(*) FROM tasks WHERE due_at <= ?)
     + (SELECT count(*) FROM deliveries WHERE status = 'pending')
     + (SELECT count(*) FROM inbox WHERE verdict = 'unread')
     + (SELECT count(*) FROM handler_jobs WHERE due_at IS NOT NULL)
"""
LEASED = """
SELECT (SELECT count(*) FROM tasks WHERE leased_until > :now AND status != 'submitting')
     + (SELECT count(*) FROM deliveries WHERE leased_until > :now)
"""
SOON = 30.0
OPEN = """
SELECT upstream_id FROM tasks
WHERE due_at IS NOT NULL AND upstream_id IS NOT NULL AND (status = 'expired' OR guessed)
"""


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Every row that the checks use; times are seconds of the loop."""

    tasks: dict[str, Row]
    events: dict[str, list[Row]]
    deliveries: dict[str, Row]
    attempts: dict[str, list[Row]]
    inbox: list[Row]


def read(connection: sqlite3.Connection) -> Facts:
    """Return the rows of the database."""
    events: dict[str, list[Row]] = defaultdict(list)
    attempts: dict[str, list[Row]] = defaultdict(list)
    for event in _rows(connection, "SELECT * FROM events ORDER BY seq"):
        events[event["task_id"]].append(event | {"data": json.loads(event["data"])})
    for attempt in _rows(connection, "SELECT * FROM attempts ORDER BY number"):
        attempts[attempt["delivery_id"]].append(attempt)
    return Facts(
        tasks={row["id"]: row for row in _rows(connection, "SELECT * FROM tasks ORDER BY id")},
        events=events,
        deliveries={row["id"]: row for row in _rows(connection, "SELECT * FROM deliveries ORDER BY event_seq, id")},
        attempts=attempts,
        inbox=_rows(connection, "SELECT digest, task_id, verdict, received_at FROM inbox"),
    )


def _rows(connection: sqlite3.Connection, query: str) -> list[Row]:
    cursor = connection.execute(query)
    names = [column[0] for column in cursor.description]
    return [{name: _read(name, value) for name, value in zip(names, row, strict=True)} for row in cursor]


def _read(name: str, value: Any) -> Any:
    if name in MOMENTS and value is not None:
        return (value - EPOCH) / MICROSECONDS
    return value


OVERDUE = "SELECT 1 FROM tasks WHERE status = 'queued' AND deadline_at < ?"


def waiting_silently(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Return unsettled tasks without a due time and without a lease: they wait for ever."""
    return list(connection.execute(WAITING))


def leased(connection: sqlite3.Connection, now: float) -> int:
    """Return how many tasks and deliveries are leased, apart from submissions that may have been sent."""
    moment = EPOCH + int(now * MICROSECONDS)
    count: int = connection.execute(LEASED, {"now": moment}).fetchone()[0]
    return count


def busy(connection: sqlite3.Connection, now: float) -> int:
    """Return how many tasks, deliveries and callbacks are unfinished, or due soon."""
    soon = EPOCH + int((now + SOON) * MICROSECONDS)
    count: int = connection.execute(BUSY, (soon,)).fetchone()[0]
    return count


def overdue(connection: sqlite3.Connection, now: float, grace: float) -> bool:
    """Return whether a task is still queued `grace` seconds after its deadline."""
    moment = EPOCH + int((now - grace) * MICROSECONDS)
    return connection.execute(OVERDUE, (moment,)).fetchone() is not None


def open_guesses(connection: sqlite3.Connection) -> list[str]:
    """Return the provider's ids of tasks with a local conclusion that are still polled."""
    return [row[0] for row in connection.execute(OPEN)]
