"""When a task was erased, and the words by which tasks are found. Everything new is nullable or a table."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import SafeText, UtcDateTime

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column and the tables; the previous release leaves them empty, and a job fills the tables."""
    op.add_column("tasks", sa.Column("erased_at", UtcDateTime()))
    op.create_table(
        "search_words",
        sa.Column("word", sa.BigInteger(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("word", "seq"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "search_progress",
        sa.Column("name", SafeText(), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
