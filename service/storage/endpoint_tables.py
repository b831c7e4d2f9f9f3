"""The table of endpoints and its index; see `tables.py` for the rules."""

from sqlalchemy import Boolean, Column, Index, Integer, Table

from service.storage.column_types import JsonText, SafeText, UtcDateTime
from service.storage.tables import metadata

endpoints = Table(
    "endpoints",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("client", SafeText, nullable=False),
    Column("url", SafeText, nullable=False),
    Column("events", JsonText, nullable=False),  # empty for all
    Column("description", SafeText, nullable=False),
    Column("paused", Boolean, nullable=False),
    Column("header_names", JsonText, nullable=False),
    Column("sealed", SafeText, nullable=False),  # the secrets, and the values of the headers
    Column("key_id", SafeText, nullable=False),  # the fingerprint of the signing key that sealed them
    Column("old_secrets_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("updated_at", UtcDateTime, nullable=False),
    Column("disabled_at", UtcDateTime),
    Column("disabled_reason", SafeText),
    Column("last_success_at", UtcDateTime),
    Column("last_failure_at", UtcDateTime),
    Column("last_failure_status", Integer),
    Column("last_failure_error", SafeText),
    Column("consecutive_failures", Integer, nullable=False),
    Column("failing_since", UtcDateTime),
    Column("recent", SafeText, nullable=False),
    Column("rate", SafeText),  # deliveries for a time, like 30/s
)

Index("endpoints_by_client", endpoints.c.client, endpoints.c.created_at, endpoints.c.id)
