"""A process on PostgreSQL listens to the others, whatever its role."""

from typing import get_args

import psycopg
import pytest

from service.runtime.config.settings import load_settings
from service.runtime.process import running
from service.runtime.web import Role
from tests.acceptance.processes import until
from tests.storage.conftest import EmptyDatabase

LISTENING = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query ILIKE 'LISTEN%boomerang%'"
)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("role", get_args(Role))
async def test_process_listens(database: EmptyDatabase, role: Role) -> None:
    """What another process announces wakes the jobs and the waiting requests of this one at once."""
    settings = load_settings(
        {
            "BOOMERANG_DATABASE_URL": database.url,
            "BOOMERANG_UPSTREAM_KEY": "key",
            "BOOMERANG_SECRET_KEYS": "k" * 32,
        }
    )

    def listens() -> bool:
        with psycopg.connect(database.url) as connection:
            row = connection.execute(LISTENING).fetchone()
            return row is not None and row[0] == 1

    async with running(settings, host="127.0.0.1", port=None, role=role):
        await until(listens, what="the session that listens", seconds=20)
