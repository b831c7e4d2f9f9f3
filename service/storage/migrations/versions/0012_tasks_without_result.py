"""An index of the tasks that were paid and have no result, of which there are few."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    where = sa.text("status = 'completed' AND output = '[]'")
    columns = ["client", "created_at", "id"]
    op.create_index("tasks_without_result", "tasks", columns, sqlite_where=where, postgresql_where=where)
