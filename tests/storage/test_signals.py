"""Hints within a process, and between processes where the database carries them."""

import asyncio
from pathlib import Path

from service.storage import Store, open_store
from service.storage.local_signals import MAX_TOPICS, LocalSignals
from tests.storage.builders import a_task
from tests.storage.conftest import Server
from tests.support.postgres import create_database, drop_database


async def test_ring_wakes_every_waiter_of_its_topic() -> None:
    """All who wait for a topic wake, others sleep on."""
    signals = LocalSignals()
    waiting = [asyncio.create_task(signals.wait("submit", 10)) for _ in range(3)]
    other = asyncio.create_task(signals.wait("dispatch", 0.05))
    await asyncio.sleep(0)
    signals.notify("submit")
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert not await other


async def test_wait_ends_without_a_ring() -> None:
    """After its time, a wait says that nothing rang; also when there is no time at all."""
    signals = LocalSignals()
    assert not await signals.wait("submit", 0.01)
    assert not await signals.wait("submit", -1)


async def test_ring_between_two_waits_is_not_lost() -> None:
    """What rings while one looks wakes the next wait, once."""
    signals = LocalSignals()
    assert not await signals.wait("submit", 0)
    signals.notify("submit")
    assert await signals.wait("submit", 10)
    assert not await signals.wait("submit", 0)


async def test_topics_that_nobody_waits_for_are_not_kept_for_ever() -> None:
    """Memory stays bounded however many topics ring or were waited for."""
    signals = LocalSignals()
    for number in range(MAX_TOPICS + 100):
        signals.notify(f"task:{number}")
    assert not await signals.wait("events", 0)
    assert len(signals._last_notified) == MAX_TOPICS
    assert signals._waiters == {}


async def _heard(listener: Store, speaker: Store, topic: str) -> bool:
    """Return whether `listener` hears of `topic` what `speaker` notifies."""
    async with speaker.units_of_work.transaction() as transaction:
        transaction.notify([topic])
    return await listener.signals.wait(topic, 10)


async def test_postgres_carries_hints_to_other_processes(postgres: Server) -> None:
    """What one store notifies rings in another that listens, in one transaction with what it announces."""
    url = create_database(postgres.base_url, template=postgres.template)
    async with open_store(url) as listener, open_store(url) as speaker, listener.listening():
        assert await listener.signals.wait("submit", 10)  # it listens now: it rings for what it may have missed
        many = [f"task:{number:036}" for number in range(500)]
        async with speaker.units_of_work.transaction() as transaction:
            transaction.notify(many)
        assert await listener.signals.wait(many[-1], 10)
        assert await _heard(listener, speaker, "task:t1")
        await speaker.intake.add(a_task(), [], None)
        assert await listener.signals.wait("submit", 10)
    drop_database(postgres.base_url, url)


async def test_sqlite_listens_to_nobody(tmp_path: Path) -> None:
    """On SQLite listening is allowed and does nothing."""
    async with open_store(f"sqlite:///{tmp_path / 'x.db'}") as store, store.listening():
        assert not await store.signals.wait("submit", 0)
