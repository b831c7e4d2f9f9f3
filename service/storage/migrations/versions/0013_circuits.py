"""Circuits of destinations. Everything new is nullable, a table or an index."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import SafeText, UtcDateTime

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, and to a delivery the circuit that it waits for; the index has only pending ones that wait.

    The previous release does not read the columns: it attempts what it finds due.
    """
    op.create_table(
        "circuits",
        sa.Column("key", SafeText(), nullable=False),
        sa.Column("handler", SafeText(), nullable=False),
        sa.Column("host", SafeText()),
        sa.Column("client", SafeText()),
        sa.Column("state", SafeText(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", UtcDateTime()),
        sa.Column("opened_at", UtcDateTime()),
        sa.Column("retry_at", UtcDateTime()),
        sa.Column("closed_at", UtcDateTime()),
        sa.Column("probes", sa.Integer(), nullable=False),
        sa.Column("waking", sa.Boolean(), nullable=False),
        sa.Column("last_error", SafeText()),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index("circuits_changed", "circuits", ["changed_at"])
    op.add_column("deliveries", sa.Column("circuit", SafeText()))
    op.add_column("deliveries", sa.Column("waiting_since", UtcDateTime()))
    waiting = sa.text("status = 'pending' AND circuit IS NOT NULL")
    columns = ["circuit", "due_at"]
    op.create_index("deliveries_waiting", "deliveries", columns, sqlite_where=waiting, postgresql_where=waiting)
