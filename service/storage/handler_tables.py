"""The tables of handlers: their values by key, and their jobs; see `tables.py` for the rules."""

from sqlalchemy import BigInteger, Column, Integer, Table, UniqueConstraint

from service.storage.column_types import JsonText, SafeText, UtcDateTime
from service.storage.tables import metadata, partial_index

handler_state = Table(
    "handler_state",
    metadata,
    Column("handler", SafeText, primary_key=True),
    Column("key", SafeText, primary_key=True),
    Column("value", JsonText),
    Column("expires_at", UtcDateTime),
    Column("changed_at", UtcDateTime, nullable=False),
)

handler_jobs = Table(
    "handler_jobs",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("handler", SafeText, nullable=False),
    Column("name", SafeText, nullable=False),
    Column("key", SafeText, nullable=False),
    Column("data", JsonText),
    Column("due_at", UtcDateTime),
    Column("leased_until", UtcDateTime),
    Column("fence", BigInteger, nullable=False),
    Column("revision", BigInteger, nullable=False),  # grows with each request for the key
    Column("attempts", Integer, nullable=False),
    Column("created_at", UtcDateTime, nullable=False),  # of the first request since the last run
    Column("failed_at", UtcDateTime),
    Column("error", SafeText),
    UniqueConstraint("handler", "name", "key", name="handler_jobs_key"),
)

IS_WAITING = handler_jobs.c.due_at.is_not(None)

partial_index("handler_state_expired", handler_state.c.expires_at, where=handler_state.c.expires_at.is_not(None))
partial_index("handler_jobs_due", handler_jobs.c.due_at, where=IS_WAITING)
partial_index("handler_jobs_failed", handler_jobs.c.failed_at, where=handler_jobs.c.failed_at.is_not(None))
