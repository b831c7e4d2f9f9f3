"""Columns and tables for limits of single clients, for the signing keys that processes know, and for stored inputs."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import JsonText, SafeText, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, tables and indexes."""
    _observed_answers()
    _signing_keys()


def _observed_answers() -> None:
    """Add when a task was first reported without a result, and its status word of unknown meaning."""
    op.add_column("tasks", sa.Column("empty_since", UtcDateTime()))
    op.add_column("tasks", sa.Column("status_word", SafeText()))
    op.add_column("tasks", sa.Column("status_since", UtcDateTime()))
    known = sa.text("status_word IS NOT NULL")
    op.create_index(
        "tasks_status_words", "tasks", ["status_word", "status_since"], sqlite_where=known, postgresql_where=known
    )


def _signing_keys() -> None:
    """Create the tables of processes with the keys that they know, and of keys that have signed."""
    op.create_table(
        "processes",
        sa.Column("id", SafeText(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("seen_at", UtcDateTime(), nullable=False),
        sa.Column("fingerprints", JsonText(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "signing_keys",
        sa.Column("fingerprint", SafeText(), nullable=False),
        sa.Column("used_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("fingerprint"),
    )
