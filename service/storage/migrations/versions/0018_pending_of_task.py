"""An index of the pending deliveries of a task, which claims and the ends of attempts look up.

It replaces `deliveries_lanes` and `deliveries_by_destination`, which the previous release still uses: a later migration
drops them.
"""

from alembic import op

from service.storage.index_builds import INDEXES_OF_TASKS, create_missing

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index unless it is there."""
    create_missing(op.get_bind(), INDEXES_OF_TASKS)
