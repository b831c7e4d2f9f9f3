"""Indexes of lists by status, and of the submissions of a day with all that their sums need.

Every query of earlier releases has an index still.

On PostgreSQL, `index_builds` has built them before, beside running processes.
"""

from alembic import op

from service.storage.index_builds import INDEXES_OF_LISTS, INTERRUPTED

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the indexes that are not there, and drop two that others replace."""
    interrupted: set[str] = set()
    if op.get_context().dialect.name == "postgresql":
        interrupted = set(op.get_bind().exec_driver_sql(INTERRUPTED).scalars())
    for index in INDEXES_OF_LISTS:
        if index.name in interrupted:
            op.drop_index(index.name, index.table)
        op.execute(index.statement())
    for name in ("tasks_in_flight", "tasks_submitted"):
        op.drop_index(name, "tasks")
