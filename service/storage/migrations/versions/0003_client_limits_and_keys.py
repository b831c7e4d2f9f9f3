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
    _sealed_secrets()
    _destinations()


def _sealed_secrets() -> None:
    """Store the webhook secrets of clients apart from the deliveries."""
    op.create_table(
        "sealed_secrets",
        sa.Column("id", SafeText, nullable=False),
        sa.Column("task_id", SafeText, nullable=False),
        sa.Column("sealed", SafeText, nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("sealed_secrets_by_task", "sealed_secrets", ["task_id"])


def _destinations() -> None:
    """Name the host of a client's target, so that the deliveries of one task to one host count as one."""
    op.add_column("deliveries", sa.Column("destination", SafeText))
    pending = sa.text("status = 'pending' AND destination IS NOT NULL")
    columns = ["destination", "leased_until"]
    op.create_index("deliveries_destinations", "deliveries", columns, sqlite_where=pending, postgresql_where=pending)
