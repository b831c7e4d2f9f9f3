"""Notifications within a process, and between processes on PostgreSQL."""

import asyncio
from pathlib import Path

from service.storage import Store, open_store
from service.storage.local_signals import MAX_TOPICS, LocalSignals
from tests.storage.builders import a_task
from tests.storage.conftest import Server
from tests.support.postgres import create_database, drop_database


async def test_notify_wakes_every_waiter_of_its_topic() -> None:
    """All waits for the topic end, others continue."""
    signals = LocalSignals()
    waiting = [asyncio.create_task(signals.wait("submit", 10)) for _ in range(3)]
    other = asyncio.create_task(signals.wait("dispatch", 0.05))
    await asyncio.sleep(0)
    signals.notify("submit")
    assert await asyncio.gather(*waiting) == [True, True, True]
    assert not await other


async def test_wait_times_out() -> None:
    """After its time, a wait returns False; also if the time is negative."""
    signals = LocalSignals()
    assert not await signals.wait("submit", 0.01)
    assert not await signals.wait("submit", -1)


async def test_notification_between_two_waits_is_not_lost() -> None:
    """A notification between two waits ends the second one, once."""
    signals = LocalSignals()
    assert not await signals.wait("submit", 0)
    signals.notify("submit")
    assert await signals.wait("submit", 10)
    assert not await signals.wait("submit", 0)


async def test_number_of_remembered_topics_is_limited() -> None:
    """Memory stays bounded, however many topics are notified or waited for."""
    signals = LocalSignals()
    for number in range(MAX_TOPICS + 100):
        signals.notify(f"task:{number}")
    assert not await signals.wait("events", 0)
    assert len(signals._last_notified) == MAX_TOPICS
    assert signals._waiters == {}


async def _received(listener: Store, speaker: Store, topic: str) -> bool:
    """Return whether `listener` receives `topic` when `speaker` notifies it."""
    async with speaker.units_of_work.transaction() as transaction:
        transaction.notify([topic])
    return await listener.signals.wait(topic, 10)


async def test_postgres_forwards_notifications_to_other_processes(postgres: Server) -> None:
    """A listening store receives the topics of another one's transaction after its commit."""
    url = create_database(postgres.base_url, template=postgres.template)
    async with open_store(url) as listener, open_store(url) as speaker, listener.listening():
        assert await listener.signals.wait("submit", 10)  # after connecting, it notifies topics that it may have missed
        many = [f"task:{number:036}" for number in range(500)]
        async with speaker.units_of_work.transaction() as transaction:
            transaction.notify(many)
        assert await listener.signals.wait(many[-1], 10)
        assert await _received(listener, speaker, "task:t1")
        await speaker.intake.add(a_task(), [], None)
        assert await listener.signals.wait("submit", 10)
    drop_database(postgres.base_url, url)


async def test_listening_does_nothing_on_sqlite(tmp_path: Path) -> None:
    """On SQLite `listening` is allowed and does nothing."""
    async with open_store(f"sqlite:///{tmp_path / 'x.db'}") as store, store.listening():
        assert not await store.signals.wait("submit", 0)
