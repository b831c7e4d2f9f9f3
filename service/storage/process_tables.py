"""The tables of running processes, the signing keys that they know, and changes that wait for older processes."""

from sqlalchemy import Column, Table

from service.storage.column_types import JsonText, SafeText, UtcDateTime
from service.storage.tables import metadata

rollouts = Table(
    "rollouts",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("begins_at", UtcDateTime, nullable=False),
)

processes = Table(
    "processes",
    metadata,
    Column("id", SafeText, primary_key=True),
    Column("started_at", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("fingerprints", JsonText, nullable=False),
    Column("role", SafeText),
    Column("host", SafeText),
)

last_runs = Table(
    "last_runs",
    metadata,
    Column("name", SafeText, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
)
"""When something was last done, by its name: a single pass (`reconcile`)."""

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("fingerprint", SafeText, primary_key=True),
    Column("used_at", UtcDateTime, nullable=False),
)
