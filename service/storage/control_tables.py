"""The tables that control deliveries; see `tables.py` for the rules."""

from sqlalchemy import Boolean, Column, Index, Integer, Table

from service.storage.column_types import JsonText, SafeText, UtcDateTime
from service.storage.tables import metadata

handler_pauses = Table(
    "handler_pauses",
    metadata,
    Column("handler", SafeText, primary_key=True),
    Column("names", JsonText, nullable=False),  # every name that its deliveries may have
    Column("since", UtcDateTime, nullable=False),
    Column("by", SafeText, nullable=False),
)

circuits = Table(
    "circuits",
    metadata,
    Column("key", SafeText, primary_key=True),
    Column("handler", SafeText, nullable=False),
    Column("host", SafeText),
    Column("client", SafeText),
    Column("state", SafeText, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("failing_since", UtcDateTime),
    Column("opened_at", UtcDateTime),
    Column("retry_at", UtcDateTime),
    Column("closed_at", UtcDateTime),
    Column("probes", Integer, nullable=False),
    Column("waking", Boolean, nullable=False),
    Column("last_error", SafeText),
    Column("changed_at", UtcDateTime, nullable=False),
)

Index("circuits_changed", circuits.c.changed_at)

operator_events = Table(
    "operator_events",
    metadata,
    Column("id", SafeText, primary_key=True),  # of its type and condition
    Column("type", SafeText, nullable=False),
    Column("data", JsonText, nullable=False),
    Column("at", UtcDateTime, nullable=False),
)

operator_receipts = Table(
    "operator_receipts",
    metadata,
    Column("handler", SafeText, primary_key=True),
    Column("event_id", SafeText, primary_key=True),
)

Index("operator_events_times", operator_events.c.at)

rate_buckets = Table(
    "rate_buckets",
    metadata,
    Column("name", SafeText, primary_key=True),  # the stored name of a handler, or what has a slash
    Column("free_at", UtcDateTime, nullable=False),
)
