"""The tables of what operators ask: waits of tasks, watched tasks, pauses of all submissions, refused callbacks."""

from sqlalchemy import BigInteger, Column, Index, Integer, Table

from service.storage.column_types import SafeText, UtcDateTime
from service.storage.tables import metadata

task_waits = Table(
    "task_waits",
    metadata,
    Column("task_id", SafeText, primary_key=True),
    Column("reason", SafeText, primary_key=True),
    Column("count", Integer, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
    Column("detail", SafeText),
)

watched_tasks = Table(
    "watched_tasks",
    metadata,
    Column("task_id", SafeText, primary_key=True),
    Column("until", UtcDateTime, nullable=False),
    Column("polled_at", UtcDateTime),  # the last poll for those who watch
)

submission_pauses = Table(
    "submission_pauses",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("since", UtcDateTime, nullable=False),
    Column("refused_at", UtcDateTime, nullable=False),
    Column("resume_at", UtcDateTime, nullable=False),
    Column("refusals", Integer, nullable=False),
)

Index("task_waits_last", task_waits.c.last_at)
Index("watched_tasks_until", watched_tasks.c.until)

refused_callbacks = Table(
    "refused_callbacks",
    metadata,
    Column("task_id", SafeText, primary_key=True),
    Column("reason", SafeText, primary_key=True),
    Column("submission", Integer, nullable=False),
    Column("count", BigInteger, nullable=False),
    Column("first_at", UtcDateTime, nullable=False),
    Column("last_at", UtcDateTime, nullable=False),
)
