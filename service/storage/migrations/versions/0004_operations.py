"""Columns and tables for running the service in real deployments. Everything is nullable or has a default."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import SafeText, UtcDateTime

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, tables and indexes."""
    _value_digest()
    _refused_callbacks()
    _manual_attempts()


def _value_digest() -> None:
    """Add the digest of the JSON value of a request; rows of the previous release have that of its bytes alone."""
    op.add_column("tasks", sa.Column("idempotency_value_digest", SafeText()))


def _refused_callbacks() -> None:
    """Add one row for each task and reason, with a count, so that nobody fills the history of a task."""
    op.create_table(
        "refused_callbacks",
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("reason", SafeText(), nullable=False),
        sa.Column("submission", sa.Integer(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("first_at", UtcDateTime(), nullable=False),
        sa.Column("last_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "reason"),
    )


def _manual_attempts() -> None:
    """Add when a person requested the next attempt of a delivery: it is made although its host fails."""
    op.add_column("deliveries", sa.Column("manual_at", UtcDateTime()))
