"""The first schema."""

from typing import Any

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import JsonText, SafeText, UtcDateTime

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create every table and index."""
    _tasks()
    _inputs()
    _inbox()
    _events()
    _deliveries()
    _attempts()
    _polls()
    _run_times()


def _tasks() -> None:
    op.create_table(
        "tasks",
        *_task_state(),
        *_task_content(),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("client", "idempotency_key", name="tasks_idempotency"),
    )
    op.create_index("tasks_by_client", "tasks", ["client", "created_at", "id"])
    _partial("tasks_by_upstream_id", "tasks", ["upstream_id"], where="upstream_id IS NOT NULL")
    _partial("tasks_costs", "tasks", ["bucket", "created_at", "cost"], where="cost IS NOT NULL")
    _partial("tasks_in_flight", "tasks", ["status"], where="status IN ('in_doubt', 'in_progress', 'submitting')")
    op.create_index("tasks_newest", "tasks", ["created_at", "id", "status"])
    _partial(
        "tasks_open", "tasks", ["created_at"], where="status IN ('in_doubt', 'in_progress', 'queued', 'submitting')"
    )
    _partial(
        "tasks_polled", "tasks", ["due_at"], where="(status NOT IN ('queued', 'submitting')) AND due_at IS NOT NULL"
    )
    _partial("tasks_queued", "tasks", ["created_at", "id"], where="status = 'queued'")
    _partial("tasks_queued_deadline", "tasks", ["deadline_at"], where="status = 'queued'")
    _partial("tasks_queued_due", "tasks", ["due_at"], where="status = 'queued'")
    op.create_index("tasks_submitted", "tasks", ["submitted_at", "bucket", "cost", "status"])
    _partial("tasks_submitting", "tasks", ["leased_until"], where="status = 'submitting'")


def _task_state() -> list[sa.Column[Any]]:
    return [
        sa.Column("id", SafeText(), nullable=False),
        sa.Column("client", SafeText(), nullable=False),
        sa.Column("idempotency_key", SafeText()),
        sa.Column("idempotency_digest", SafeText()),
        sa.Column("provider", SafeText(), nullable=False),
        sa.Column("model", SafeText(), nullable=False),
        sa.Column("bucket", SafeText(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("deadline_at", UtcDateTime(), nullable=False),
        sa.Column("status", SafeText(), nullable=False),
        sa.Column("guessed", sa.Boolean(), nullable=False),
        sa.Column("unconfirmed", sa.Boolean(), nullable=False),
        sa.Column("submission", sa.Integer(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("polls", sa.Integer(), nullable=False),
        sa.Column("submitted_at", UtcDateTime()),
        sa.Column("settled_at", UtcDateTime()),
        sa.Column("due_at", UtcDateTime()),
        sa.Column("leased_until", UtcDateTime()),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("hinted_at", UtcDateTime()),
        sa.Column("hinted_id", SafeText()),
        sa.Column("hinted_fact", JsonText()),
        sa.Column("polled_at", UtcDateTime()),
    ]


def _task_content() -> list[sa.Column[Any]]:
    return [
        sa.Column("upstream_id", SafeText()),
        sa.Column("params", JsonText(), nullable=False),
        sa.Column("metadata", JsonText(), nullable=False),
        sa.Column("notify", JsonText(), nullable=False),
        sa.Column("progress", sa.Float()),
        sa.Column("output", JsonText(), nullable=False),
        sa.Column("error", JsonText()),
        sa.Column("warnings", JsonText(), nullable=False),
        sa.Column("usage", JsonText()),
        sa.Column("cost", sa.Float()),
        sa.Column("settled_by", SafeText()),
        sa.Column("resubmission_of", SafeText()),
        sa.Column("note", SafeText()),
    ]


def _inputs() -> None:
    op.create_table(
        "inputs",
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("place", SafeText(), nullable=False),
        sa.Column("media_type", SafeText(), nullable=False),
        sa.Column("sha256", SafeText(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "place"),
    )


def _inbox() -> None:
    op.create_table(
        "inbox",
        sa.Column("digest", SafeText(), nullable=False),
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("submission", sa.Integer(), nullable=False),
        sa.Column("nonce", SafeText()),
        sa.Column("verdict", SafeText(), nullable=False),
        sa.Column("received_at", UtcDateTime(), nullable=False),
        sa.Column("headers", JsonText(), nullable=False),
        sa.Column("body", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("digest"),
        sa.UniqueConstraint("nonce", name="inbox_nonce"),
    )
    op.create_index("inbox_by_task", "inbox", ["task_id", "received_at"])
    op.create_index("inbox_received", "inbox", ["received_at"])
    op.create_index("inbox_verdicts", "inbox", ["verdict"])


def _events() -> None:
    op.create_table(
        "events",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", SafeText(), nullable=False),
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("client", SafeText(), nullable=False),
        sa.Column("type", SafeText(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("data", JsonText(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id", name="events_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("events_by_client", "events", ["client", "seq"])
    op.create_index("events_by_task", "events", ["task_id", "seq"])


def _deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("id", SafeText(), nullable=False),
        sa.Column("event_id", SafeText(), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("client", SafeText(), nullable=False),
        sa.Column("handler", SafeText(), nullable=False),
        sa.Column("lane", SafeText(), nullable=False),
        sa.Column("target", JsonText(), nullable=False),
        sa.Column("message_id", SafeText(), nullable=False),
        sa.Column("status", SafeText(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("attempted", sa.Integer(), nullable=False),
        sa.Column("due_at", UtcDateTime()),
        sa.Column("leased_until", UtcDateTime()),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("fault", SafeText()),
        sa.Column("last_error", SafeText()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("event_id", "lane", name="deliveries_event_lane"),
    )
    op.create_index("deliveries_by_client", "deliveries", ["client", "created_at", "id"])
    op.create_index("deliveries_by_task", "deliveries", ["task_id", "event_seq"])
    _partial("deliveries_dead", "deliveries", ["created_at", "id"], where="status = 'dead'")
    _partial("deliveries_due", "deliveries", ["handler", "due_at", "event_seq"], where="status = 'pending'")
    _partial("deliveries_lanes", "deliveries", ["lane", "event_seq"], where="status = 'pending'")
    op.create_index("deliveries_newest", "deliveries", ["created_at", "id"])


def _attempts() -> None:
    op.create_table(
        "attempts",
        sa.Column("delivery_id", SafeText(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("handler", SafeText(), nullable=False),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("finished_at", UtcDateTime(), nullable=False),
        sa.Column("outcome", SafeText(), nullable=False),
        sa.Column("error", SafeText()),
        sa.PrimaryKeyConstraint("delivery_id", "number"),
    )
    op.create_index("attempts_finished", "attempts", ["finished_at"])
    op.create_index("attempts_outcomes", "attempts", ["handler", "outcome"])


def _polls() -> None:
    op.create_table(
        "polls",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("outcome", SafeText(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("polls_at", "polls", ["at"])
    op.create_index("polls_by_task", "polls", ["task_id", "at"])


def _run_times() -> None:
    op.create_table(
        "run_times",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("bucket", SafeText(), nullable=False),
        sa.Column("seconds", sa.Float(), nullable=False),
        sa.Column("called_back", sa.Boolean(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    op.create_index("run_times_at", "run_times", ["at"])
    op.create_index("run_times_by_bucket", "run_times", ["bucket", "at"])


def _partial(name: str, table: str, columns: list[str], *, where: str) -> None:
    op.create_index(name, table, columns, sqlite_where=sa.text(where), postgresql_where=sa.text(where))
