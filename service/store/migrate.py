"""Brings a database to the newest schema: safe to run twice, and by two at once."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from service.store.dialect import one_at_a_time
from service.store.engine import Database
from service.store.signals import LocalSignals

HEAD = "0002"
"""The schema that this code needs: the newest file of `migrations/versions`."""

MIGRATIONS = Path(__file__).parent / "migrations"


async def migrate(database_url: str) -> None:
    """Bring the database at `database_url` to the newest schema, in one transaction.

    Raises BadSetting for an address that is none, and StoreUnavailable when the database cannot take it.
    """
    database = Database(database_url, LocalSignals())
    try:
        async with database.writing() as write:  # on SQLite, that alone keeps a second migration waiting
            await one_at_a_time(write.connection, "migration")
            await write.connection.run_sync(_upgrade)
    finally:
        await database.close()


def config(connection: Connection) -> Config:
    """Return Alembic's configuration, with the connection to use: its `env.py` opens none."""
    made = Config()
    made.set_main_option("script_location", str(MIGRATIONS).replace("%", "%%"))
    made.attributes["connection"] = connection
    return made


def _upgrade(connection: Connection) -> None:
    command.upgrade(config(connection), "head")
