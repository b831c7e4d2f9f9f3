"""An endpoint that changes while a transaction makes events: it gets what is committed after the answer to the change.

SQLite has one writer, so that no change can commit within a transaction that makes events.
"""

import asyncio
from collections.abc import Awaitable, Callable
from zlib import crc32

import pytest
from psycopg import sql

from service.domain.task import TaskId
from service.storage import Store
from service.storage.endpoint_store import ROUTES, SqlEndpoints
from service.tasks.endpoints import EndpointChanges
from tests.storage.builders import NOW, a_task, add_tasks, an_entry
from tests.storage.conftest import EmptyDatabase
from tests.storage.held_locks import OtherSession, other_session
from tests.support.endpoint_harness import Harness

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

Change = Callable[[Harness], Awaitable[object]]
LOCK_EVENTS = sql.SQL("LOCK TABLE events IN SHARE MODE")


async def _create(harness: Harness) -> None:
    await harness.endpoints.create()


async def _enable(harness: Harness) -> None:
    [endpoint] = await harness.endpoints.service.listed(client="anna", limit=1, cursor=None)
    await harness.endpoints.service.change(endpoint, EndpointChanges(given={"disabled": False}))


async def _widen(harness: Harness) -> None:
    [endpoint] = await harness.endpoints.service.listed(client="anna", limit=1, cursor=None)
    await harness.endpoints.service.change(endpoint, EndpointChanges(given={"events": None}))


async def _prepared(store: Store, change: Change) -> tuple[Harness, str]:
    """Return a process with a task, and the endpoint that `change` needs: without it nothing is delivered."""
    harness = Harness(store=store)
    [task] = await harness.tasks()
    if change is not _create:
        endpoint = await harness.endpoints.create(events=["task.failed"] if change is _widen else None)
        if change is _enable:
            await store.endpoints.change(endpoint.id, {"disabled_at": harness.clock.at, "disabled_reason": "gone"})
    return harness, task


async def _until_it_waits(session: OtherSession, changing: asyncio.Task[object]) -> None:
    """Return once the change has ended, or waits for the transaction that makes an event."""
    waiting = asyncio.ensure_future(session.until_waiting(2))
    await asyncio.wait([changing, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()


@pytest.mark.parametrize("change", [_create, _enable, _widen])
async def test_event_that_is_committed_after_the_answer_is_delivered(
    store: Store, database: EmptyDatabase, change: Change
) -> None:
    """The transaction has read the endpoints before the change, and commits after the change was asked for."""
    harness, task = await _prepared(store, change)
    async with other_session(database) as session:
        await session.run(LOCK_EVENTS)
        submitting = asyncio.ensure_future(harness.submit(task))
        await session.until_waiting(1)
        changing: asyncio.Task[object] = asyncio.ensure_future(change(harness))
        await _until_it_waits(session, changing)
        answered_first = changing.done()
    await asyncio.gather(submitting, changing)
    assert not answered_first or await harness.deliveries()
    await harness.complete(task)
    assert "task.completed" in {each.event_type for each in await harness.deliveries()}


async def test_new_address_and_description_wait_for_no_event(store: Store, database: EmptyDatabase) -> None:
    """Only what decides which events an endpoint gets waits for those that are being made."""
    harness, task = await _prepared(store, _widen)
    [endpoint] = await harness.endpoints.service.listed(client="anna", limit=1, cursor=None)
    async with other_session(database) as session:
        await session.run(LOCK_EVENTS)
        submitting = asyncio.ensure_future(harness.submit(task))
        await session.until_waiting(1)
        async with asyncio.timeout(10):
            await SqlEndpoints(store._database).change(endpoint.id, {"description": "new"})
    await submitting


@pytest.mark.parametrize("reads", ["callbacks", "tasks"])
async def test_transaction_that_waits_for_a_change_holds_nothing(
    store: Store, database: EmptyDatabase, reads: str
) -> None:
    """An erasure may wait for the callback or the task, and a transaction with a share of the lock for the erasure."""
    await add_tasks(store, a_task())
    await store.inbox.store_unread([an_entry(verdict="unread")])

    async def read() -> None:
        async with store.units_of_work.transaction() as transaction:
            await (transaction.unread(10, now=NOW) if reads == "callbacks" else transaction.lock([TaskId("t1")]))

    async with other_session(database) as session, other_session(database) as erasing:
        await session.run(sql.SQL("SELECT pg_advisory_xact_lock(%s)"), crc32(f"boomerang {ROUTES}".encode()))
        reading = asyncio.ensure_future(read())
        await session.until_waiting(1)
        await erasing.run(sql.SQL("SELECT * FROM inbox, tasks FOR UPDATE"))
    await reading
