"""Columns and tables for running the service in real deployments. Everything is nullable or has a default."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import SafeText

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, tables and indexes."""
    _value_digest()


def _value_digest() -> None:
    """Add the digest of the JSON value of a request; rows of the previous release have that of its bytes alone."""
    op.add_column("tasks", sa.Column("idempotency_value_digest", SafeText()))
