"""What others see of a commit: its notification only afterwards, and its events in the order of the commits."""

import asyncio
from collections.abc import Iterator

import pytest
import sqlalchemy as sa

from service.domain.task import UpstreamId
from service.storage import Store, open_store
from service.storage.local_signals import LocalSignals
from tests.storage.builders import a_delivery, a_task, add_tasks, admitted, an_entry, an_event
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.held_locks import other_session
from tests.upgrade.rows import engine

TASKS, CALLBACKS = "SELECT count(*) FROM tasks", "SELECT count(*) FROM inbox"


class Onlooker(LocalSignals):
    """Signals that count the rows that another process sees at the first notification of each topic."""

    def __init__(self, engine: sa.Engine) -> None:
        super().__init__()
        self.engine, self.seen = engine, dict[str, tuple[int, int]]()

    def notify(self, *topics: str) -> None:
        """Look, then notify."""
        with self.engine.connect() as connection:
            tasks, callbacks = (connection.execute(sa.text(query)).scalar_one() for query in (TASKS, CALLBACKS))
        for topic in topics:
            self.seen.setdefault(topic, (tasks, callbacks))
        super().notify(*topics)


@pytest.fixture
def onlooker(database: EmptyDatabase) -> Iterator[Onlooker]:
    """Yield signals that look with a connection of their own."""
    connected = engine(database.url)
    yield Onlooker(connected)
    connected.dispose()


async def test_notification_comes_after_the_commit(database: EmptyDatabase, onlooker: Onlooker) -> None:
    """Whoever is woken finds the rows: tasks, callbacks of a burst, and what a unit of work has written."""
    async with open_store(database.url, signals=onlooker) as store:
        await add_tasks(store, a_task())
        assert onlooker.seen.pop("submit") == (1, 0)
        await store.inbox.store_unread([an_entry(verdict="unread")])
        assert onlooker.seen.pop("inbox") == (1, 1)
        async with store.units_of_work.transaction() as transaction:
            await admitted(transaction, [an_entry("d2")])
            transaction.notify(["dispatch"])
            assert onlooker.seen == {}
        assert onlooker.seen == {"dispatch": (1, 2)}


async def test_transaction_that_fails_notifies_nobody(database: EmptyDatabase, onlooker: Onlooker) -> None:
    """After an error nothing is written and nobody is woken."""
    async with open_store(database.url, signals=onlooker) as store:
        with pytest.raises(ZeroDivisionError):
            await _fail_after_a_write(store)
    assert onlooker.seen == {}


async def _fail_after_a_write(store: Store) -> None:
    async with store.units_of_work.transaction() as transaction:
        await admitted(transaction, [an_entry()])
        transaction.notify(["dispatch"])
        raise ZeroDivisionError


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_events_are_numbered_in_the_order_of_their_commits(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """A second process waits with its events for the commit of the first: a reader that resumes misses none."""
    other = open_another()
    event, later = an_event("e1"), an_event("e2")

    async def append_later() -> None:
        async with other.units_of_work.transaction() as transaction:
            await transaction.append([later], [a_delivery(later)])

    async with other_session(database) as session:
        async with store.units_of_work.transaction() as transaction:
            await transaction.append([event], [a_delivery(event)])
            await transaction.holders([UpstreamId("u1")])  # sends what would else go with the COMMIT
            appending = asyncio.create_task(append_later())
            await session.until_waiting(1)
            assert not appending.done()
            assert await store.events.after(0) == []
        await appending
    assert [one.event.id for one in await store.events.after(0)] == ["e1", "e2"]
