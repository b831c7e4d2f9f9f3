"""The steps of a migration: Alembic on a given connection. Imported only where a database lacks a step."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

MIGRATIONS = Path(__file__).parent / "migrations"


def alembic_config(connection: Connection) -> Config:
    """Return Alembic's configuration with the connection to use; `env.py` opens none."""
    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    configuration.attributes["connection"] = connection
    return configuration


def upgrade(connection: Connection, schema: str | None = None, revision: str = "head") -> None:
    """Migrate up to `revision`, in the transaction of `connection`; `schema` is that of the version table."""
    configuration = alembic_config(connection)
    configuration.attributes["version_table_schema"] = schema
    command.upgrade(configuration, revision)
