"""Tables of handlers: their values by key, and their jobs. Processes of the previous release do not use them."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import JsonText, SafeText, UtcDateTime

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables and their indexes."""
    op.create_table(
        "handler_state",
        sa.Column("handler", SafeText(), nullable=False),
        sa.Column("key", SafeText(), nullable=False),
        sa.Column("value", JsonText()),
        sa.Column("expires_at", UtcDateTime()),
        sa.Column("changed_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("handler", "key"),
    )
    _partial_index("handler_state_expired", "handler_state", "expires_at")
    op.create_table(
        "handler_jobs",
        sa.Column("id", SafeText(), nullable=False),
        sa.Column("handler", SafeText(), nullable=False),
        sa.Column("name", SafeText(), nullable=False),
        sa.Column("key", SafeText(), nullable=False),
        sa.Column("data", JsonText()),
        sa.Column("due_at", UtcDateTime()),
        sa.Column("leased_until", UtcDateTime()),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("failed_at", UtcDateTime()),
        sa.Column("error", SafeText()),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("handler", "name", "key", name="handler_jobs_key"),
    )
    _partial_index("handler_jobs_due", "handler_jobs", "due_at")
    _partial_index("handler_jobs_failed", "handler_jobs", "failed_at")


def _partial_index(name: str, table: str, column: str) -> None:
    """Create an index of the rows in which `column` is not NULL."""
    where = sa.text(f"{column} IS NOT NULL")
    op.create_index(name, table, [column], sqlite_where=where, postgresql_where=where)
