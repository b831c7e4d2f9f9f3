"""PostgreSQL databases that tests share one after the other."""

import psycopg
import pytest

from tests.storage.conftest import Server
from tests.support.reused_databases import ReusedDatabases


def _dump(url: str, table: str) -> list[tuple[object, ...]]:
    with psycopg.connect(url) as connection:
        return connection.execute(f"select * from {table}").fetchall()  # noqa: S608 - a constant name


def test_returned_database_has_the_rows_of_the_template(postgres: Server) -> None:
    """New rows and changed ones are gone, and the database is used again."""
    databases = ReusedDatabases(postgres.base_url, postgres.template)
    url = databases.take()
    with psycopg.connect(url) as connection:
        connection.execute("insert into handler_pauses values ('log', '[]', now(), 'me')")
        connection.execute("update alembic_version set version_num = '0000'")
    databases.release(url)

    assert databases.take() == url
    assert _dump(url, "handler_pauses") == []
    assert _dump(url, "alembic_version") == _dump(postgres.template, "alembic_version")
    databases.release(url)
    databases.close()


@pytest.mark.parametrize(
    "change",
    ["alter table tasks add column odd text", "drop index tasks_unsuccessful", "analyze tasks"],
)
def test_database_of_another_shape_is_not_used_again(postgres: Server, change: str) -> None:
    """A test that changes schema or statistics leaves nothing to the next one."""
    databases = ReusedDatabases(postgres.base_url, postgres.template)
    url = databases.take()
    with psycopg.connect(url) as connection:
        connection.execute(change)
    databases.release(url)

    other = databases.take()
    assert other != url
    databases.release(other)
    databases.close()
