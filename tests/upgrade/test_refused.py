"""A database that is not for this release is refused in clear words, and left as it is."""

import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.storage.migrate import HEAD
from tests.acceptance.environment import settings
from tests.acceptance.processes import HOST, Workspace, command, free_port
from tests.upgrade.rows import engine, rows, schema, upgrade

NEWER = f"schema 9999, which a newer release has made; this one knows {HEAD} at most: start the newer release"
FOREIGN = "holds something else: give Boomerang one of its own"


def filled_by_the_future(at: sa.Engine) -> None:
    """Make a database of a later release: a table more, and a revision that nobody knows yet."""
    upgrade(at, HEAD)
    with at.begin() as connection:
        connection.execute(sa.text("CREATE TABLE dreams (id INTEGER)"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))


def filled_by_others(at: sa.Engine) -> None:
    """Make a database of an application that has nothing to do with us, though a table is called as one of ours."""
    with at.begin() as connection:
        connection.execute(sa.text("CREATE TABLE tasks (id INTEGER, todo TEXT)"))
        connection.execute(sa.text("INSERT INTO tasks VALUES (1, 'buy milk')"))


def migrated_by_others(at: sa.Engine) -> None:
    """Make a database of another application that uses the same tool for its migrations."""
    filled_by_others(at)
    with at.begin() as connection:
        connection.execute(sa.text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(sa.text("INSERT INTO alembic_version VALUES ('ae1027a6acf4')"))


STRANGE = {
    "future": (filled_by_the_future, NEWER),
    "others": (filled_by_others, FOREIGN),
    "others-alembic": (migrated_by_others, FOREIGN),
}


def state(at: sa.Engine) -> object:
    """Return everything that is in a database."""
    tables = schema(at)
    with at.connect() as connection:
        there = "alembic_version" in sa.inspect(connection).get_table_names()
        version = connection.execute(sa.text("SELECT * FROM alembic_version")).all() if there else None
    return {name: sorted(table.columns.keys()) for name, table in tables.items()}, rows(at, tables), version


@pytest.mark.parametrize("kind", STRANGE)
async def test_migrate_refuses_it_and_changes_nothing(workspace: Workspace, database_url: str, kind: str) -> None:
    """`boomerang migrate` ends with 2, one line says why, and every table is as it was."""
    fill, said = STRANGE[kind]
    at = engine(database_url)
    fill(at)
    was = state(at)
    code, _, err = await command(workspace, "migrate", env={"BOOMERANG_DATABASE_URL": database_url})
    assert (code, len(err.splitlines())) == (2, 1), err
    assert said in err
    assert state(at) == was
    at.dispose()


@pytest.mark.parametrize("kind", STRANGE)
async def test_serve_on_sqlite_refuses_it_and_touches_no_byte(workspace: Workspace, kind: str) -> None:
    """`boomerang serve` does not start over such a file, and leaves every byte of it, and no journal beside it."""
    path = workspace.home / "strange.db"
    at = engine(f"sqlite:///{path}")
    STRANGE[kind][0](at)
    at.dispose()
    was = path.read_bytes()
    env = settings("http://127.0.0.1:9", f"http://{HOST}:{free_port()}", f"sqlite:///{path}")
    code, _, err = await command(workspace, "serve", "--port", str(free_port()), env=env)
    assert code == 2, err
    assert STRANGE[kind][1] in err
    assert path.read_bytes() == was
    assert _beside(path) == []


async def test_file_that_is_no_database_is_refused(workspace: Workspace) -> None:
    """A text file is told apart, and stays what it is."""
    path = workspace.home / "notes.db"
    path.write_text("not a database, but a page of notes\n" * 100)
    code, _, err = await command(workspace, "migrate", env={"BOOMERANG_DATABASE_URL": f"sqlite:///{path}"})
    assert code in {1, 2}
    assert "file is not a database" in err
    assert path.read_text() == "not a database, but a page of notes\n" * 100


async def test_empty_file_and_emptied_database_are_taken(workspace: Workspace) -> None:
    """A file without any table is as good as none, whoever made it."""
    path = workspace.home / "empty.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE a (id INTEGER PRIMARY KEY AUTOINCREMENT)")
    connection.execute("DROP TABLE a")
    connection.close()
    code, _, err = await command(workspace, "migrate", env={"BOOMERANG_DATABASE_URL": f"sqlite:///{path}"})
    assert code == 0, err


def _beside(path: Path) -> list[str]:
    return [found.name for found in path.parent.glob(f"{path.name}-*")]
