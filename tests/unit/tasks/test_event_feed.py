"""Listeners of the event feed: each gets every event that it wants once, in order, however slow it is."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from service.domain.logged_event import EventFilter
from service.domain.task import EventType, TaskId
from service.storage.local_signals import LocalSignals
from service.tasks import event_feed
from service.tasks.event_feed import ALL, MAX_QUEUED, EventFeed, Listener
from tests.support.fake_event_log import FakeEventLog


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for no pauses."""
    for name, seconds in {"READ_PAUSE": 0.0, "RETRY_PAUSE": 0.0, "READ_INTERVAL": 30.0}.items():
        monkeypatch.setattr(event_feed, name, seconds)


@pytest.fixture
def log() -> FakeEventLog:
    """Return an empty log."""
    return FakeEventLog()


@pytest.fixture
def signals() -> LocalSignals:
    """Return the signals of the process."""
    return LocalSignals()


@pytest.fixture
def feed(log: FakeEventLog, signals: LocalSignals) -> EventFeed:
    """Return a feed of the log."""
    return EventFeed(log, signals)


async def taken(listener: Listener, count: int) -> list[int]:
    """Return the numbers of the next events of a listener that begins now."""
    async with aclosing(listener.events()) as events:
        return await first(events, count)


async def first(events: AsyncIterator[object], count: int) -> list[int]:
    """Return the numbers of the next `count` events."""
    async with asyncio.timeout(10):
        return [(await anext(events)).seq for _ in range(count)]  # type: ignore[attr-defined]


async def test_stored_and_new_events_come_once_and_in_order(
    feed: EventFeed, log: FakeEventLog, signals: LocalSignals
) -> None:
    """A listener begins after its position with what is stored, and goes on with what is notified."""
    log.add(30)
    async with aclosing(feed.listener(ALL, after=3).events()) as events:
        assert await first(events, 28) == list(range(5, 60, 2))
        log.add(2)
        signals.notify("events")
        assert await first(events, 2) == [61, 63]


async def test_without_following_the_iteration_ends(feed: EventFeed, log: FakeEventLog) -> None:
    """What is stored is yielded, then the iteration ends."""
    log.add(40)
    events = feed.listener(ALL, after=0).events(follow=False)
    assert [each.seq async for each in events] == [each.seq for each in log.events]


@pytest.mark.parametrize(
    ("wanted", "numbers"),
    [
        (EventFilter(client="bob"), [3, 9]),
        (EventFilter(client="bob", types=frozenset({EventType.FAILED})), [9]),
        (EventFilter(tasks=frozenset({TaskId("t2")})), [5]),
        (EventFilter(types=frozenset({EventType.FAILED, EventType.COMPLETED})), [1, 3, 5, 9]),
    ],
)
async def test_listener_gets_what_it_wants_only(
    feed: EventFeed, log: FakeEventLog, signals: LocalSignals, wanted: EventFilter, numbers: list[int]
) -> None:
    """Filters hold for what is stored, and for what comes to a listener that waits."""
    waiting = asyncio.create_task(taken(feed.listener(wanted, after=0), len(numbers)))
    await asyncio.sleep(0.01)
    log.add()
    log.add(client="bob")
    log.add(task="t2")
    log.add(type_=EventType.PROGRESSED)
    log.add(client="bob", type_=EventType.FAILED)
    signals.notify("events")
    assert await waiting == numbers
    assert await taken(feed.listener(wanted, after=0), len(numbers)) == numbers


async def test_slow_listener_holds_no_memory_and_loses_nothing(
    feed: EventFeed, log: FakeEventLog, signals: LocalSignals
) -> None:
    """A listener whose queue is full continues from the log: nothing is missing, nothing comes twice."""
    listener = feed.listener(ALL, after=0)
    async with aclosing(listener.events()) as events:
        log.add()
        assert await first(events, 1) == [1]
        max_queued = 0
        for _ in range(3):
            log.add(MAX_QUEUED)
            signals.notify("events")
            for _ in range(200):
                await asyncio.sleep(0)
            max_queued = max(max_queued, len(listener._queue))
        assert (max_queued <= MAX_QUEUED, listener.behind) == (True, True)
        assert await first(events, 3 * MAX_QUEUED) == [each.seq for each in log.events][1:]


async def test_large_events_fill_a_queue_by_their_size(
    feed: EventFeed, log: FakeEventLog, signals: LocalSignals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few large events are as many as can wait; a single one always can."""
    monkeypatch.setattr(event_feed, "MAX_QUEUED_CHARACTERS", 100)
    listener = feed.listener(ALL, after=0)
    async with aclosing(listener.events()) as events:
        log.add()
        await first(events, 1)
        log.add(1)
        signals.notify("events")
        assert await first(events, 1) == [3]
        log.add(2)
        signals.notify("events")
        await asyncio.sleep(0.01)
        assert listener.behind
        assert await first(events, 2) == [5, 7]


async def test_many_listeners_share_one_reader(feed: EventFeed, log: FakeEventLog, signals: LocalSignals) -> None:
    """New events are read once for all listeners, and nothing is read when none is left."""
    listeners = [feed.listener(ALL, after=0) for _ in range(50)]
    streams = [listener.events() for listener in listeners]
    log.add()
    for stream in streams:
        await first(stream, 1)
    waiting = [asyncio.create_task(first(stream, 1)) for stream in streams]
    await asyncio.sleep(0.01)
    before = log.reads
    log.add()
    signals.notify("events")
    assert await asyncio.gather(*waiting) == [[3]] * 50
    assert log.reads - before <= 4
    for stream in streams:
        await stream.aclose()
    await asyncio.sleep(0.01)
    before = log.reads
    log.add()
    signals.notify("events")
    await asyncio.sleep(0.01)
    assert log.reads == before


async def test_listener_survives_an_absent_database(feed: EventFeed, log: FakeEventLog, signals: LocalSignals) -> None:
    """Failed reads are repeated, of the reader and of a listener that reads by itself."""
    log.add(20)
    log.failures = 5
    async with aclosing(feed.listener(ALL, after=0).events()) as events:
        assert await first(events, 20) == [each.seq for each in log.events]
        log.failures = 3
        log.add()
        signals.notify("events")
        assert await first(events, 1) == [41]


async def test_closed_listener_ends(feed: EventFeed, log: FakeEventLog) -> None:
    """`close` ends the iteration of a listener that waits, and of one that reads the log."""
    log.add(3)
    listener = feed.listener(ALL, after=0)
    seen = []
    async for event in listener.events():
        seen.append(event.seq)
        listener.close()
    assert seen == [1]
    waiting = feed.listener(ALL, after=5)
    ending = asyncio.create_task(taken(waiting, 1))
    await asyncio.sleep(0.01)
    waiting.close()
    with pytest.raises(StopAsyncIteration):
        await ending


async def test_new_events_come_to_those_who_want_them(
    feed: EventFeed, log: FakeEventLog, signals: LocalSignals
) -> None:
    """Of those that listeners of two clients follow at once, each gets its own alone."""
    ann, bob = (feed.listener(EventFilter(client=name), after=0).events() for name in ("ann", "bob"))
    async with aclosing(ann), aclosing(bob):
        log.add(1, client="ann")
        log.add(1, client="bob")
        assert [await first(ann, 1), await first(bob, 1)] == [[1], [3]]
        log.add(1, client="ann")
        log.add(1, client="bob")
        signals.notify("events")
        assert [await first(ann, 1), await first(bob, 1)] == [[5], [7]]
        log.add(1, client="bob")
        log.add(1, client="ann")
        signals.notify("events")
        assert [await first(ann, 1), await first(bob, 1)] == [[11], [9]]


async def test_event_that_is_read_and_queued_comes_once(
    feed: EventFeed, log: FakeEventLog, signals: LocalSignals
) -> None:
    """One that is committed while a listener reads the log may be in both."""
    log.add(3)
    listener = feed.listener(ALL, after=0)
    async with aclosing(listener.events()) as events:
        assert await first(events, 3) == [1, 3, 5]
        listener.push(log.events[-1])
        log.add(1)
        signals.notify("events")
        assert await first(events, 1) == [7]
