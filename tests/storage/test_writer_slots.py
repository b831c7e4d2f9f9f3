"""Writers of one process wait for each other in the process, for a limited time."""

import asyncio

import pytest

from service.domain.errors import StoreUnavailable
from service.storage import Store
from service.storage import database as database_module
from tests.storage.builders import a_task, add_tasks, an_entry
from tests.storage.conftest import OpenStore


@pytest.fixture
def busy_store(monkeypatch: pytest.MonkeyPatch, open_another: OpenStore) -> Store:
    """Return a store with one writer on both databases, for which others wait a moment."""
    monkeypatch.setattr(database_module, "WRITER_TIMEOUT", 0.05)
    store = open_another()
    store._database._writer_slots = asyncio.Semaphore(1)
    return store


async def test_writer_that_waits_too_long_fails(busy_store: Store) -> None:
    """Behind a write that does not end, others fail with the reason; once it has ended, writes succeed."""
    async with asyncio.timeout(10):
        async with busy_store.units_of_work.transaction():
            with pytest.raises(StoreUnavailable, match="other writes take too long"):
                await add_tasks(busy_store, a_task())
            with pytest.raises(StoreUnavailable, match="other writes take too long"):
                await busy_store.inbox.store_unread([an_entry(verdict="unread")])
        await add_tasks(busy_store, a_task())


async def test_cancelled_writer_holds_no_slot(busy_store: Store) -> None:
    """A caller that stops waiting for the slot, or is cancelled while it writes, leaves it to the next one."""
    writing = asyncio.Event()

    async def write_forever() -> None:
        async with busy_store.units_of_work.transaction():
            writing.set()
            await asyncio.Event().wait()

    async with asyncio.timeout(10):
        for _ in range(3):
            writing.clear()
            writer = asyncio.create_task(write_forever())
            await writing.wait()
            waiting = asyncio.create_task(busy_store.inbox.store_unread([an_entry(verdict="unread")]))
            await asyncio.sleep(0)
            for task in (waiting, writer):
                task.cancel()
            await asyncio.gather(writer, waiting, return_exceptions=True)
        await add_tasks(busy_store, a_task())
