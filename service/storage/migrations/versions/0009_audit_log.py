"""The audit log and the sign-ins that ended. Processes of the previous release do not use them."""

import sqlalchemy as sa
from alembic import op

from service.storage.column_types import SafeText, UtcDateTime

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    """Create the tables and their indexes."""
    op.create_table(
        "audit_log",
        sa.Column("seq", SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("at", UtcDateTime(), nullable=False),
        sa.Column("actor", SafeText(), nullable=False),
        sa.Column("road", SafeText(), nullable=False),
        sa.Column("action", SafeText(), nullable=False),
        sa.Column("target", SafeText(), nullable=False),
        sa.Column("detail", SafeText(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sqlite_autoincrement=True,
    )
    for column in ("actor", "action", "target"):
        op.create_index(f"audit_log_by_{column}", "audit_log", [column, "seq"])
    op.create_table(
        "ended_sign_ins",
        sa.Column("id", SafeText(), nullable=False),
        sa.Column("expires_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ended_sign_ins_expires", "ended_sign_ins", ["expires_at"])
