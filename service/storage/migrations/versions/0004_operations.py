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
    _task_waits()
    _watched_tasks()
    _submission_pauses()


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


def _task_waits() -> None:
    """Create the table of what each task waited for before it was submitted, one row for each reason."""
    op.create_table(
        "task_waits",
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("reason", SafeText(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("first_at", UtcDateTime(), nullable=False),
        sa.Column("last_at", UtcDateTime(), nullable=False),
        sa.Column("detail", SafeText()),
        sa.PrimaryKeyConstraint("task_id", "reason"),
    )
    op.create_index("task_waits_last", "task_waits", ["last_at"])


def _watched_tasks() -> None:
    """Create the table of tasks whose progress somebody watches."""
    op.create_table(
        "watched_tasks",
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("until", UtcDateTime(), nullable=False),
        sa.Column("polled_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("task_id"),
    )
    op.create_index("watched_tasks_until", "watched_tasks", ["until"])


def _submission_pauses() -> None:
    """Create the table of the pause while the provider's account has no credit."""
    op.create_table(
        "submission_pauses",
        sa.Column("name", SafeText(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("refused_at", UtcDateTime(), nullable=False),
        sa.Column("resume_at", UtcDateTime(), nullable=False),
        sa.Column("refusals", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
