"""Indexes of lists by status, and of the submissions of a day with all that their sums need.

Every query of earlier releases has an index still.

On PostgreSQL, `index_builds` has built them before, beside running processes.
"""

from alembic import op

from service.storage.index_builds import INDEXES_OF_LISTS, create_missing

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the indexes that are not there, and drop two that others replace."""
    create_missing(op.get_bind(), INDEXES_OF_LISTS)
    for name in ("tasks_in_flight", "tasks_submitted"):
        op.drop_index(name, "tasks")
