"""An erasure beside other transactions of other processes: nothing private comes back, and none waits for the other."""

import asyncio
from dataclasses import replace

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from service.domain.ports.replays import ReplayFilter
from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task import Status, Task
from service.storage import Store
from tests.storage.builders import (
    HOUR,
    NOW,
    a_delivery,
    a_task,
    an_attempt,
    an_entry,
    an_event,
    claim_deliveries,
    stored,
)
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.emitted import once_before
from tests.storage.held_locks import other_session

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

SECRET = "a very private hedgehog"
DEAD = ReplayFilter(statuses=frozenset({"dead"}))


async def a_dead_letter(store: Store) -> Task:
    """Store a completed task with a dead letter, and return it."""
    event = an_event("e1")
    await store.intake.add(a_task(status=Status.COMPLETED, settled_at=NOW, due_at=None), [], None)
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], [a_delivery(event)])
    [claim] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(claim, "dead", fault="destination")])
    return await stored(store)


@pytest.mark.parametrize("many", [False, True])
async def test_replay_that_waits_for_an_erasure_replays_nothing(
    store: Store, open_another: OpenStore, database: EmptyDatabase, many: bool
) -> None:
    """The statement that locks the delivery still sees the task as it was before the erasure."""
    other, task = open_another(), await a_dead_letter(store)
    async with other_session(database) as session:
        await session.run(sql.SQL("LOCK TABLE events IN SHARE MODE"))  # the erasure has the delivery by then
        erasing = asyncio.create_task(store.eraser.erase(task, now=NOW + HOUR))
        await session.until_waiting(1)
        replaying = asyncio.create_task(
            other.replays.replay_at({"e1-log": NOW}, DEAD, now=NOW)
            if many
            else other.replays.replay(["e1-log"], now=NOW)
        )
        await session.until_waiting(2)
    await erasing
    assert await replaying == {"e1-log": "erased"}
    assert await claim_deliveries(store, now=NOW + HOUR) == []


async def an_expired_task(store: Store) -> Task:
    """Store a task that has expired and is no longer polled, with an unread callback, and return it."""
    await store.intake.add(a_task(status=Status.EXPIRED, guessed=True, due_at=None, submission=1), [], None)
    await store.inbox.store_unread([a_callback("early")])
    return await stored(store)


def a_callback(digest: str) -> InboxEntry:
    """Return an unread callback with private content."""
    return replace(an_entry(digest, body=SECRET.encode(), verdict="unread"), headers={"x": SECRET})


async def read_inbox(store: Store) -> None:
    """Record the unread callbacks as the worker of the inbox does: it locks them, then their tasks."""
    async with store.units_of_work.transaction() as transaction:
        rows = await transaction.unread(10, now=NOW)
        await transaction.lock({row.task_id for row in rows})
        await transaction.read([replace(row, verdict="accepted") for row in rows])


def private_callbacks(database: EmptyDatabase) -> list[str]:
    """Return the digests of stored callbacks with private content."""
    with psycopg.connect(database.url) as session:
        rows = session.execute("SELECT digest, body, headers::text FROM inbox")
        return [digest for digest, body, headers in rows if SECRET.encode() in bytes(body) or SECRET in headers]


async def test_reading_beside_an_erasure_leaves_nothing(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """The erasure has the task, and the worker has the callback: neither waits for the other."""
    other, task = open_another(), await an_expired_task(store)
    async with other_session(database) as session:
        await session.run(sql.SQL("LOCK TABLE inputs IN SHARE MODE"))
        erasing = asyncio.create_task(store.eraser.erase(task, now=NOW + HOUR))
        await session.until_waiting(1)
        reading = asyncio.create_task(read_inbox(other))
        await session.until_waiting(2)
    await asyncio.gather(reading, erasing)
    assert private_callbacks(database) == []


async def test_callback_that_is_stored_beside_an_erasure_is_erased_when_it_is_read(
    store: Store, database: EmptyDatabase
) -> None:
    """Another process stores it after the unread callbacks were deleted and before the erasure is committed."""
    task = await an_expired_task(store)

    def store_late() -> None:
        with psycopg.connect(database.url) as session:
            session.execute(
                "INSERT INTO inbox SELECT (jsonb_populate_record(i, %s)).* FROM inbox i",
                [Jsonb({"digest": "late"})],
            )

    with once_before("DELETE FROM sealed_secrets", store_late):
        await store.eraser.erase(task, now=NOW + HOUR)
    assert private_callbacks(database) == ["late"]
    await read_inbox(store)
    assert private_callbacks(database) == []


async def test_missed_event_of_a_task_that_is_erased_meanwhile_has_no_delivery(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """The replay of an endpoint found the event before the erasure, and stores its delivery afterwards."""
    other, task = open_another(), await a_dead_letter(store)
    missed = a_delivery(an_event("e1"), "webhook", endpoint_id="ep_1", target={"handler": "webhook"})
    async with other_session(database) as session:
        await session.run(sql.SQL("LOCK TABLE events IN SHARE MODE"))
        erasing = asyncio.create_task(store.eraser.erase(task, now=NOW + HOUR))
        await session.until_waiting(1)
        adding = asyncio.create_task(other.endpoints.add_missed([missed]))
        await session.until_waiting(2)
    await erasing
    assert await adding == 0
