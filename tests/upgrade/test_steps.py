"""Each migration alone, on a database with rows."""

from collections.abc import Iterator, Mapping

import anyio
import pytest
import sqlalchemy as sa

from service.storage import migrate, open_store
from service.storage.migrate import HEAD
from tests.acceptance.processes import Workspace, command
from tests.upgrade.releases import RELEASES
from tests.upgrade.rows import COUNT, engine, fill, revisions, rows, schema, upgrade

HEADS = [
    *(pytest.param(head, marks=pytest.mark.slow) for head in sorted({release.head for release in RELEASES[:-1]})),
    RELEASES[-1].head,
]
"""The schemas of earlier releases; those before the newest one with `-m slow`."""

STEPS = [
    pytest.param(before, after, marks=[pytest.mark.slow] if after <= RELEASES[-2].head else [])
    for before, after in zip(revisions(), revisions()[1:], strict=False)
]
"""Each migration; those that the release before the newest one had with `-m slow`."""


@pytest.fixture
def at(database_url: str) -> Iterator[sa.Engine]:
    """Yield an engine for an empty database."""
    found = engine(database_url)
    yield found
    found.dispose()


REPLACED = {
    ("inbox", "inbox_received"),
    ("inbox", "inbox_verdicts"),
    ("attempts", "attempts_finished"),
    ("attempts", "attempts_outcomes"),
    ("deliveries", "deliveries_destinations"),
    ("tasks", "tasks_in_flight"),
    ("tasks", "tasks_submitted"),
}
"""Indexes that 0005 and 0017 replaced: another one answers the queries of earlier releases, which name no index."""


@pytest.mark.parametrize(("before", "after"), STEPS)
def test_step_only_adds(at: sa.Engine, before: str, after: str) -> None:
    """Rows and columns from before a migration are unchanged after it, and an earlier release can still insert.

    Tables, columns and their types stay, no column becomes required, and no index is dropped but those replaced.
    """
    upgrade(at, before)
    old, old_indexes = schema(at), _indexes(at)
    own = {name: len(found) for name, found in rows(at, old).items()}  # rows that the migrations insert
    fill(at, old, "kept")
    was = rows(at, old)
    upgrade(at, after)
    assert all(was.values())
    assert rows(at, old) == was
    _assert_only_added(old, schema(at))
    assert old_indexes - REPLACED <= _indexes(at)
    fill(at, old, "after")
    assert {name: len(found) - own[name] for name, found in rows(at, old).items()} == dict.fromkeys(own, 2 * COUNT)


def _assert_only_added(old: Mapping[str, sa.Table], new: Mapping[str, sa.Table]) -> None:
    for name, table in old.items():
        for column in table.columns:
            assert str(new[name].columns[column.name].type) == str(column.type)
            assert new[name].columns[column.name].nullable == column.nullable
        added = [column for column in new[name].columns if column.name not in table.columns]
        assert [column.name for column in added if not column.nullable and column.server_default is None] == []


def _indexes(at: sa.Engine) -> set[tuple[str, str]]:
    found = sa.inspect(at)
    return {(table, str(index["name"])) for table in found.get_table_names() for index in found.get_indexes(table)}


@pytest.mark.parametrize("head", HEADS)
async def test_concurrent_and_repeated_migrations_succeed(
    workspace: Workspace, at: sa.Engine, database_url: str, head: str
) -> None:
    """From each earlier schema, two concurrent `boomerang migrate` succeed, and so does a third migration."""
    upgrade(at, head)
    known = schema(at)
    fill(at, known, "kept")
    was = rows(at, known)
    env = {"BOOMERANG_DATABASE_URL": database_url}
    found: list[tuple[int, str]] = []

    async def once() -> None:
        code, _, err = await command(workspace, "migrate", env=env)
        found.append((code, err))

    async with anyio.create_task_group() as group:
        for _ in range(2):
            group.start_soon(once)
    assert [code for code, _ in found] == [0, 0], found
    await migrate(database_url)
    assert rows(at, known) == was
    async with open_store(database_url) as store:
        assert await store.health.ready() is None


def test_every_release_has_a_known_schema() -> None:
    """The schema of each earlier release is one of the revisions; the releases are in order."""
    heads = [release.head for release in RELEASES]
    assert set(heads) <= set(revisions())
    assert heads == sorted(heads)
    assert revisions()[-1] == HEAD
