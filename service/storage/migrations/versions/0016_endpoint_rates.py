"""The rate of an endpoint: a new column."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import SafeText

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; the previous release writes none, and attempts what it finds due."""
    op.add_column("endpoints", sa.Column("rate", SafeText()))
