"""Columns and tables for limits of single clients, for the signing keys that processes know, and for stored inputs."""

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns, tables and indexes."""
