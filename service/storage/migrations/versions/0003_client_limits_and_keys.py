"""Columns and tables for limits of single clients, for the signing keys that processes know, and for stored inputs.

Equal inputs are stored once: `input_data` holds the data by hash, and `input_references` names them for each task. The
previous release, whose processes may run beside this one, reads `inputs` only. So that they never lack a picture, this
release keeps writing to `inputs` until the time in `rollouts`: SHARED_INPUTS_AFTER after the migration, when processes
of the previous release have long been replaced. One that still runs then finds no row for a shared input, and fails the
task with a message before it sends or pays anything: a row in `inputs` with empty data would make it send an empty
picture. A database that this run creates has no such processes, so sharing begins at once.
"""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import JsonText, SafeText, UtcDateTime

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SHARED_INPUTS_AFTER = timedelta(hours=24)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def upgrade() -> None:
    """Add the columns, tables and indexes."""
    _observed_answers()
    _signing_keys()
    _shared_inputs()
    _queue_bytes()
    _client_limits()
    _sealed_secrets()
    _destinations()


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


def _shared_inputs() -> None:
    op.create_table(
        "input_data",
        sa.Column("sha256", SafeText(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_table(
        "input_references",
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("place", SafeText(), nullable=False),
        sa.Column("media_type", SafeText(), nullable=False),
        sa.Column("sha256", SafeText(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("task_id", "place"),
    )
    op.create_index("input_references_by_sha256", "input_references", ["sha256"])
    rollouts = op.create_table(
        "rollouts",
        sa.Column("name", SafeText(), nullable=False),
        sa.Column("begins_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    new = op.get_context().opts["new_database"]
    begins_at = EPOCH if new else datetime.now(UTC) + SHARED_INPUTS_AFTER
    op.bulk_insert(rollouts, [{"name": "shared_inputs", "begins_at": begins_at}])


def _queue_bytes() -> None:
    op.add_column("tasks", sa.Column("input_bytes", sa.BigInteger()))
    counted = sa.text("status IN ('in_doubt', 'in_progress', 'queued', 'submitting') AND input_bytes IS NOT NULL")
    op.create_index(
        "tasks_open_bytes", "tasks", ["client", "input_bytes"], sqlite_where=counted, postgresql_where=counted
    )


def _client_limits() -> None:
    """Add the count of submissions that may have been billed before, and the turns of the clients in the queue."""
    queued = sa.text("status = 'queued'")
    op.add_column("tasks", sa.Column("resubmissions", sa.Integer(), nullable=False, server_default=sa.text("0")))
    again = sa.text("resubmissions > 0")
    op.create_index("tasks_resubmitted", "tasks", ["submitted_at"], sqlite_where=again, postgresql_where=again)
    op.create_table(
        "client_turns",
        sa.Column("client", SafeText(), primary_key=True),
        sa.Column("turn", sa.BigInteger(), nullable=False),
    )
    op.create_index("client_turns_last", "client_turns", ["turn"])
    op.create_index(
        "tasks_queued_by_client", "tasks", ["client", "created_at", "id"], sqlite_where=queued, postgresql_where=queued
    )


def _sealed_secrets() -> None:
    """Store the webhook secrets of clients apart from the deliveries."""
    op.create_table(
        "sealed_secrets",
        sa.Column("id", SafeText(), nullable=False),
        sa.Column("task_id", SafeText(), nullable=False),
        sa.Column("sealed", SafeText(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("sealed_secrets_by_task", "sealed_secrets", ["task_id"])


def _destinations() -> None:
    """Name the host of a client's target, so that the deliveries of one task to one host count as one."""
    op.add_column("deliveries", sa.Column("destination", SafeText))
    pending = sa.text("status = 'pending' AND destination IS NOT NULL")
    columns = ["destination", "leased_until"]
    op.create_index("deliveries_destinations", "deliveries", columns, sqlite_where=pending, postgresql_where=pending)
