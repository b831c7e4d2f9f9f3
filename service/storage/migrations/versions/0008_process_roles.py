"""What a process does and where it runs, and when a single pass was last made. Everything new may be missing."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import SafeText, UtcDateTime

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns and the table; the previous release neither reads nor writes them."""
    op.add_column("processes", sa.Column("role", SafeText()))
    op.add_column("processes", sa.Column("host", SafeText()))
    op.create_table(
        "last_runs",
        sa.Column("name", SafeText(), nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
