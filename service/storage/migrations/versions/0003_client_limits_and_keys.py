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
