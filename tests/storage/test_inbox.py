"""The inbox of unread callbacks, over both databases."""

import asyncio
from dataclasses import replace

import pytest

from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task import Status, TaskId
from service.storage import Store, unit_of_work
from tests.storage.builders import NOW, SECOND, a_task, an_entry


def unread(digest: str, **changes: object) -> InboxEntry:
    """Return an unread callback."""
    return an_entry(digest, **{"verdict": "unread", "body": b'{"status": "\xc3\xa9"}', **changes})


async def test_unread_callbacks_are_returned_unchanged_oldest_first(store: Store) -> None:
    """Every field of a stored callback is returned, and the oldest callback comes first."""
    late, early = unread("d1", received_at=NOW), unread("d2", received_at=NOW - SECOND, headers={"date": "now"})
    assert await store.inbox.unread_since() is None
    assert await store.inbox.store_unread([late, early]) == set()
    assert await store.inbox.unread_since() == NOW - SECOND
    async with store.units_of_work.transaction() as transaction:
        assert await transaction.unread(10, now=NOW) == [early, late]
        assert await transaction.unread(1, now=NOW) == [early]


async def test_bytes_of_unread_callbacks_are_limited(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One transaction reads a limited number of bytes; a callback over the limit is read alone."""
    monkeypatch.setattr(unit_of_work, "MAX_UNREAD_BYTES", 10)
    bodies = [b"1" * 5, b"2" * 5, b"3" * 11, b"4"]
    large = [unread(f"d{at}", body=body, received_at=NOW + at * SECOND) for at, body in enumerate(bodies)]
    await store.inbox.store_unread(large)
    batches = []
    async with store.units_of_work.transaction() as transaction:
        while rows := await transaction.unread(10, now=NOW):
            batches.append(rows)
            await transaction.read([replace(row, verdict="accepted") for row in rows])
    assert batches == [large[:2], large[2:3], large[3:]]


async def test_known_callback_does_not_change(store: Store) -> None:
    """A repeat neither replaces a stored callback nor makes it unread again."""
    await store.inbox.store_unread([unread("d1")])
    async with store.units_of_work.transaction() as transaction:
        await transaction.read([an_entry("d1", verdict="accepted")])
    assert await store.inbox.store_unread([unread("d1"), unread("d1", body=b"other")]) == set()
    assert await store.inbox.unread_since() is None


async def test_reused_nonces_are_returned(store: Store) -> None:
    """A callback with another one's nonce is not stored; its own repeat, and unsigned callbacks, are accepted."""
    await store.inbox.store_unread([unread("d1", nonce="n1")])
    assert await store.inbox.store_unread([unread("d1", nonce="n1"), unread("d2", nonce="n1"), unread("d3")]) == {"d2"}


async def test_new_callback_notifies_the_inbox(store: Store) -> None:
    """A wait for `inbox` ends after the commit."""
    waiting = asyncio.create_task(store.signals.wait("inbox", 10))
    await asyncio.sleep(0)
    await store.inbox.store_unread([unread("d1")])
    assert await waiting


async def test_two_readers_never_share_a_callback(store: Store) -> None:
    """While one transaction has locked callbacks, another one finds only the others."""
    await store.inbox.store_unread([unread(f"d{number}", received_at=NOW + number * SECOND) for number in range(4)])
    taken: list[list[str]] = []
    both = asyncio.Barrier(2)

    async def read() -> None:
        async with store.units_of_work.transaction() as transaction:
            rows = await transaction.unread(2, now=NOW)
            taken.append([row.digest for row in rows])
            if store._database.address.postgres:  # SQLite has one writer at a time
                await both.wait()
            await transaction.read([an_entry(row.digest, verdict="accepted") for row in rows])

    async with asyncio.timeout(20):
        await asyncio.gather(read(), read())
    assert sorted(taken) == [["d0", "d1"], ["d2", "d3"]]
    assert await store.inbox.unread_since() is None


async def test_rollback_leaves_callbacks_unread(store: Store) -> None:
    """A transaction that is rolled back sets no verdict."""
    await store.inbox.store_unread([unread("d1")])

    async def read_and_fail() -> None:
        async with store.units_of_work.transaction() as transaction:
            await transaction.read(
                [an_entry(row.digest, verdict="accepted") for row in await transaction.unread(5, now=NOW)]
            )
            raise RuntimeError("power failure")

    with pytest.raises(RuntimeError):
        await read_and_fail()
    assert await store.inbox.unread_since() == NOW


async def test_usage_counts_what_is_stored_of_each_task(store: Store) -> None:
    """Callbacks and bytes of a task are counted, whatever became of the callbacks."""
    entries = [
        unread("d1", task_id=TaskId("t1"), body=b"12345"),
        unread("d2", task_id=TaskId("t1"), body=b"", verdict="accepted"),
        unread("d3", task_id=TaskId("t2"), body=b"1"),
        unread("d4", task_id=TaskId("t3"), body=b"1"),
    ]
    await store.inbox.store_unread(entries)
    ids = {TaskId("t1"), TaskId("t2"), TaskId("unknown")}
    assert await store.inbox.usage(ids) == {"t1": (2, 5), "t2": (1, 1)}
    assert await store.inbox.usage(set()) == {}


async def test_callbacks_of_final_tasks_are_not_stored(store: Store) -> None:
    """A terminal status that is our own conclusion, and an expired task, are not final; neither is an unknown task."""
    for name, status, guessed in [
        ("done", Status.COMPLETED, False),
        ("failed", Status.FAILED, False),
        ("guessed", Status.FAILED, True),
        ("expired", Status.EXPIRED, True),
        ("running", Status.IN_PROGRESS, False),
    ]:
        await store.intake.add(a_task(name, status=status, guessed=guessed), [], None)
    names = ("done", "failed", "guessed", "expired", "running", "unknown")
    await store.inbox.store_unread([unread(f"d-{name}", task_id=TaskId(name)) for name in names])
    async with store.units_of_work.transaction() as transaction:
        stored = {row.task_id for row in await transaction.unread(10, now=NOW)}
    assert stored == {"guessed", "expired", "running", "unknown"}


async def test_signed_callback_of_a_final_task_is_no_forgery(store: Store) -> None:
    """Its nonce was not used by another callback: it is not stored for another reason."""
    await store.intake.add(a_task("done", status=Status.COMPLETED), [], None)
    await store.inbox.store_unread([unread("d1", nonce="n1")])
    again, final = unread("d2", nonce="n1"), unread("d3", task_id=TaskId("done"), nonce="n3")
    assert await store.inbox.store_unread([again, final]) == {"d2"}
