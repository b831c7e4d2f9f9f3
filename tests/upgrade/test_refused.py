"""A database of another application or of a newer release is refused and does not change."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.storage.migrate import HEAD
from tests.acceptance.environment import settings
from tests.acceptance.processes import HOST, Workspace, command
from tests.support.ports import free_port
from tests.unit.cli.fake_service import run
from tests.upgrade.rows import engine, rows, schema, upgrade

NEWER = f"schema 9999, which a newer release has made; this one knows {HEAD} at most: start the newer release"
FOREIGN = "holds something else: give Boomerang one of its own"


def newer_release(at: sa.Engine) -> None:
    """Make a database of a newer release: an additional table, and an unknown revision."""
    upgrade(at, HEAD)
    with at.begin() as connection:
        connection.execute(sa.text("CREATE TABLE dreams (id INTEGER)"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))


def other_application(at: sa.Engine) -> None:
    """Make a database of another application, with a table that has the name of a table of this service."""
    with at.begin() as connection:
        connection.execute(sa.text("CREATE TABLE tasks (id INTEGER, todo TEXT)"))
        connection.execute(sa.text("INSERT INTO tasks VALUES (1, 'buy milk')"))


def other_application_with_alembic(at: sa.Engine) -> None:
    """Make a database of another application that uses Alembic too."""
    other_application(at)
    with at.begin() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('ae1027a6acf4')"))


FOREIGN_DATABASES = {
    "future": (newer_release, NEWER),
    "others": (other_application, FOREIGN),
    "others-alembic": (other_application_with_alembic, FOREIGN),
}


def state(at: sa.Engine) -> object:
    """Return the columns, the rows and the schema version of a database."""
    tables = schema(at)
    with at.connect() as connection:
        there = "alembic_version" in sa.inspect(connection).get_table_names()
        version = connection.execute(sa.text("SELECT * FROM alembic_version")).all() if there else None
    return {name: sorted(table.columns.keys()) for name, table in tables.items()}, rows(at, tables), version


@pytest.mark.parametrize("kind", FOREIGN_DATABASES)
def test_migrate_refuses_a_foreign_database(database_url: str, kind: str) -> None:
    """`boomerang migrate` exits with 2, prints one line with the reason, and changes no table."""
    fill, message = FOREIGN_DATABASES[kind]
    at = engine(database_url)
    fill(at)
    was = state(at)
    done = run("migrate", env={"BOOMERANG_DATABASE_URL": database_url})
    assert (done.exit_code, len(done.stderr.splitlines())) == (2, 1), done.output
    assert message in done.stderr
    assert state(at) == was
    at.dispose()


@pytest.mark.parametrize("kind", FOREIGN_DATABASES)
async def test_serve_refuses_a_foreign_sqlite_file(workspace: Workspace, kind: str) -> None:
    """`boomerang serve` does not start on such a file, changes no byte of it, and creates no journal."""
    path = workspace.home / "foreign.db"
    at = engine(f"sqlite:///{path}")
    FOREIGN_DATABASES[kind][0](at)
    at.dispose()
    was = path.read_bytes()
    env = settings("http://127.0.0.1:9", f"http://{HOST}:{free_port()}", f"sqlite:///{path}")
    code, _, err = await command(workspace, "serve", "--port", str(free_port()), env=env)
    assert code == 2, err
    assert FOREIGN_DATABASES[kind][1] in err
    assert path.read_bytes() == was
    assert _beside(path) == []


def test_file_that_is_no_database_is_refused(workspace: Workspace) -> None:
    """A text file is refused and does not change."""
    path = workspace.home / "notes.db"
    path.write_text("not a database, but a page of notes\n" * 100)
    done = run("migrate", env={"BOOMERANG_DATABASE_URL": f"sqlite:///{path}"})
    assert done.exit_code in {1, 2}
    assert "file is not a database" in done.stderr
    assert path.read_text() == "not a database, but a page of notes\n" * 100


def test_database_without_tables_is_accepted(workspace: Workspace) -> None:
    """A file without tables counts as a new database, also if another program created it."""
    path = workspace.home / "empty.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    connection.execute("DROP TABLE a")
    connection.close()
    done = run("migrate", env={"BOOMERANG_DATABASE_URL": f"sqlite:///{path}"})
    assert done.exit_code == 0, done.output


def _beside(path: Path) -> list[str]:
    return [found.name for found in path.parent.glob(f"{path.name}-*")]
