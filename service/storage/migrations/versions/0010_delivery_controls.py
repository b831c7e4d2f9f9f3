"""Pauses of handlers, and an index of dead letters by who is responsible. Everything new is a table or an index."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import JsonText, SafeText, UtcDateTime

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table and the index; the previous release neither reads nor writes the table."""
    op.create_table(
        "handler_pauses",
        sa.Column("handler", SafeText(), nullable=False),
        sa.Column("names", JsonText(), nullable=False),
        sa.Column("since", UtcDateTime(), nullable=False),
        sa.Column("by", SafeText(), nullable=False),
        sa.PrimaryKeyConstraint("handler"),
    )
    dead = sa.text("status = 'dead'")
    columns = ["fault", "created_at", "id"]
    op.create_index("deliveries_dead_by_fault", "deliveries", columns, sqlite_where=dead, postgresql_where=dead)
