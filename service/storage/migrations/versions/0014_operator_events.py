"""Operator events and who has got them. Everything new is a table or an index."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import JsonText, SafeText, UtcDateTime

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the tables; the previous release neither reads nor writes them."""
    op.create_table(
        "operator_events",
        sa.Column("id", SafeText(), nullable=False),
        sa.Column("type", SafeText(), nullable=False),
        sa.Column("data", JsonText(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("operator_events_times", "operator_events", ["at"])
    op.create_table(
        "operator_receipts",
        sa.Column("handler", SafeText(), nullable=False),
        sa.Column("event_id", SafeText(), nullable=False),
        sa.PrimaryKeyConstraint("handler", "event_id"),
    )
