"""Standing webhook addresses of clients, and the answers of receivers. Everything new is nullable or a table."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import JsonText, SafeText, UtcDateTime

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the table, the columns and the indexes."""
    _endpoints()
    _deliveries_of_endpoints()
    _answers()


def _endpoints() -> None:
    """Create the table of endpoints; the previous release neither reads nor writes it."""
    op.create_table(
        "endpoints",
        sa.Column("id", SafeText(), nullable=False),
        sa.Column("client", SafeText(), nullable=False),
        sa.Column("url", SafeText(), nullable=False),
        sa.Column("events", JsonText(), nullable=False),
        sa.Column("description", SafeText(), nullable=False),
        sa.Column("paused", sa.Boolean(), nullable=False),
        sa.Column("header_names", JsonText(), nullable=False),
        sa.Column("sealed", SafeText(), nullable=False),
        sa.Column("key_id", SafeText(), nullable=False),
        sa.Column("old_secrets_until", UtcDateTime()),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.Column("disabled_at", UtcDateTime()),
        sa.Column("disabled_reason", SafeText()),
        sa.Column("last_success_at", UtcDateTime()),
        sa.Column("last_failure_at", UtcDateTime()),
        sa.Column("last_failure_status", sa.Integer()),
        sa.Column("last_failure_error", SafeText()),
        sa.Column("consecutive_failures", sa.Integer(), nullable=False),
        sa.Column("failing_since", UtcDateTime()),
        sa.Column("recent", SafeText(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("endpoints_by_client", "endpoints", ["client", "created_at", "id"])


def _deliveries_of_endpoints() -> None:
    """Add to a delivery the endpoint that it goes to; the indexes have only pending ones of endpoints."""
    op.add_column("deliveries", sa.Column("endpoint_id", SafeText()))
    pending = sa.text("status = 'pending' AND endpoint_id IS NOT NULL")
    columns = ["endpoint_id", "due_at"]
    op.create_index("deliveries_of_endpoints", "deliveries", columns, sqlite_where=pending, postgresql_where=pending)


def _answers() -> None:
    """Add the status and the beginning of the body that the receiver of an attempt answered."""
    op.add_column("attempts", sa.Column("answer_status", sa.Integer()))
    op.add_column("attempts", sa.Column("answer_body", SafeText()))
