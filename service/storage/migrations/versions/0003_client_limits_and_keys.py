"""Columns and tables for limits of single clients, for the signing keys that processes know, and for stored inputs."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import SafeText

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, tables and indexes."""
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
