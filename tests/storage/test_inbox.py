"""The inbox of callbacks that are kept before they are recorded, over both databases."""

import asyncio
from dataclasses import replace

import pytest

from service.domain.ports.unit_of_work import InboxEntry
from service.storage import Store, unit_of_work
from tests.storage.builders import NOW, SECOND, an_entry


def unread(digest: str, **changes: object) -> InboxEntry:
    """Return a callback that nobody has read."""
    return an_entry(digest, **{"verdict": "unread", "body": b'{"status": "\xc3\xa9"}', **changes})


async def test_kept_callbacks_come_back_as_they_came_oldest_first(store: Store) -> None:
    """Nothing is lost of a kept callback, and the oldest is read first."""
    late, early = unread("d1", received_at=NOW), unread("d2", received_at=NOW - SECOND, headers={"date": "now"})
    assert await store.inbox.unread_since() is None
    assert await store.inbox.keep([late, early]) == set()
    assert await store.inbox.unread_since() == NOW - SECOND
    async with store.units_of_work.transaction() as transaction:
        assert await transaction.unread(10) == [early, late]
        assert await transaction.unread(1) == [early]


async def test_large_ones_are_read_a_few_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory together is bounded in bytes, too; a callback that alone is larger is read by itself."""
    monkeypatch.setattr(unit_of_work, "MAX_UNREAD_BYTES", 10)
    bodies = [b"1" * 5, b"2" * 5, b"3" * 11, b"4"]
    large = [unread(f"d{at}", body=body, received_at=NOW + at * SECOND) for at, body in enumerate(bodies)]
    await store.inbox.keep(large)
    portions = []
    async with store.units_of_work.transaction() as transaction:
        while rows := await transaction.unread(10):
            portions.append(rows)
            await transaction.read([replace(row, verdict="accepted") for row in rows])
    assert portions == [large[:2], large[2:3], large[3:]]


async def test_what_is_known_stays_as_it_is(store: Store) -> None:
    """A repeat neither replaces nor renews what is kept, or what has been read."""
    await store.inbox.keep([unread("d1")])
    async with store.units_of_work.transaction() as transaction:
        await transaction.read([an_entry("d1", verdict="accepted")])
    assert await store.inbox.keep([unread("d1"), unread("d1", body=b"other")]) == set()
    assert await store.inbox.unread_since() is None


async def test_reused_nonces_are_named(store: Store) -> None:
    """The digest that brings another one's nonce is not kept; its own repeat, and what is not signed, is fine."""
    await store.inbox.keep([unread("d1", nonce="n1")])
    assert await store.inbox.keep([unread("d1", nonce="n1"), unread("d2", nonce="n1"), unread("d3")]) == {"d2"}


async def test_keeping_rings(store: Store) -> None:
    """Whoever reads the inbox hears of it after the commit."""
    waiting = asyncio.create_task(store.signals.wait("inbox", 10))
    await asyncio.sleep(0)
    await store.inbox.keep([unread("d1")])
    assert await waiting


async def test_two_readers_do_not_read_the_same(store: Store) -> None:
    """While one transaction has callbacks in hand, another one finds only the rest."""
    await store.inbox.keep([unread(f"d{number}", received_at=NOW + number * SECOND) for number in range(4)])
    taken: list[list[str]] = []
    both = asyncio.Barrier(2)

    async def read() -> None:
        async with store.units_of_work.transaction() as transaction:
            rows = await transaction.unread(2)
            taken.append([row.digest for row in rows])
            if store._database.address.postgres:  # SQLite lets one writer in at a time
                await both.wait()
            await transaction.read([an_entry(row.digest, verdict="accepted") for row in rows])

    async with asyncio.timeout(20):
        await asyncio.gather(read(), read())
    assert taken == [["d0", "d1"], ["d2", "d3"]]
    assert await store.inbox.unread_since() is None


async def test_reading_that_fails_leaves_them_unread(store: Store) -> None:
    """A transaction that is rolled back has read nothing."""
    await store.inbox.keep([unread("d1")])

    async def read_and_fail() -> None:
        async with store.units_of_work.transaction() as transaction:
            await transaction.read([an_entry(row.digest, verdict="accepted") for row in await transaction.unread(5)])
            raise RuntimeError("power failure")

    with pytest.raises(RuntimeError):
        await read_and_fail()
    assert await store.inbox.unread_since() == NOW
