"""Index of the callbacks that are stored but not recorded yet."""

from alembic import op
from sqlalchemy import text

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Index unread callbacks, which are always few."""
    unread = text("verdict = 'unread'")
    op.create_index("inbox_unread", "inbox", ["received_at"], sqlite_where=unread, postgresql_where=unread)
