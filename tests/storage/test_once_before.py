"""The place at which another session acts: see `once_before`."""

import psycopg
import pytest

from service.storage import Store
from tests.storage.builders import a_task, add_tasks
from tests.storage.conftest import EmptyDatabase
from tests.storage.emitted import emitted, once_before

ON_POSTGRES = pytest.mark.parametrize("database", ["postgresql"], indirect=True)


@ON_POSTGRES
@pytest.mark.parametrize("place", ["INSERT INTO tasks", "COMMIT"])
async def test_another_session_acts_before_a_deferred_statement(
    store: Store, database: EmptyDatabase, place: str
) -> None:
    """The transaction has begun, and nothing of it is committed."""
    seen: list[tuple[int, int]] = []

    def check() -> None:
        with psycopg.connect(database.url) as session:
            tasks = session.execute("SELECT count(*) FROM tasks").fetchone() or (-1,)
            begun = (
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in %'"
            )
            seen.append((tasks[0], (session.execute(begun).fetchone() or (-1,))[0]))

    with once_before(place, check):
        await add_tasks(store, a_task("t1"))
    assert seen == [(0, 1)]


@ON_POSTGRES
async def test_a_place_that_is_not_reached_is_an_error(store: Store) -> None:
    """A test whose other session never acts proves nothing."""
    with (
        emitted(store) as statements,
        pytest.raises(AssertionError, match="no statement began"),
        once_before("DELETE FROM tasks", statements.clear),
    ):
        await add_tasks(store, a_task("t1"))
    assert statements
