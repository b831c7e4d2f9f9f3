"""Token buckets of handlers with a rate: a new table."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import SafeText, UtcDateTime

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table; the previous release neither reads nor writes it."""
    op.create_table(
        "rate_buckets",
        sa.Column("name", SafeText(), nullable=False),
        sa.Column("free_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
