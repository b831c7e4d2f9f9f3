"""Readiness of the database, and the gauges of its contents."""

from datetime import UTC, datetime

from sqlalchemy import delete, insert, text

from service.domain.errors import OperatorError
from service.domain.ports.health import Gauges
from service.domain.prices import DEFAULT_EACH
from service.storage.database import Database
from service.storage.gauges import SqlGauges
from service.storage.migrate import HEAD, VERSION, is_newer
from service.storage.tables import polls

PROBE_ROW = {"task_id": "", "at": datetime.fromtimestamp(0, UTC), "outcome": "none"}
"""A row with an id that no task has: inserted and deleted to check whether the database can be written."""


class SqlHealth:
    """Implements `Health`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._schema_matched = False
        self._gauges = SqlGauges(database)

    async def ready(self) -> str | None:
        """Return None if the database answers and its schema fits, else the reason with its fix.

        After a failed write, the store is ready again once a write succeeds: a full or read-only disk can still be
        read. A schema that matched and is newer now still fits, because migrations only add: a running process of the
        previous release continues while the next one starts.
        """
        try:
            async with self._database.reading() as connection:
                version: str | None = (await connection.execute(text(VERSION))).scalar()
            if self._database.write_failed:
                await self._probe_write()
        except OperatorError as error:
            return str(error)
        if version == HEAD or (self._schema_matched and is_newer(version)):
            self._schema_matched = True
            return None
        if is_newer(version):
            return f"the database has schema {version}, this code knows {HEAD} at most: start the newer release"
        return f'the database has schema {version}, this code needs {HEAD}: run "boomerang migrate"'

    async def _probe_write(self) -> None:
        async with self._database.writing() as write:
            await write.connection.execute(insert(polls), PROBE_ROW)
            await write.connection.execute(delete(polls).where(polls.c.task_id == PROBE_ROW["task_id"]))
        self._database.write_failed = False

    async def close(self) -> None:
        """End what is running."""
        await self._gauges.close()

    async def gauges(self, now: datetime, *, each: float = DEFAULT_EACH) -> Gauges:
        """Return the gauges at `now`; `each` is BUDGET_EACH."""
        return await self._gauges.read(now, each=each)
