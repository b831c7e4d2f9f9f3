"""The events of all processes for the listeners of this one: one reader of the log, and a bounded queue each.

Events are numbered in the order of their commits, so a number is a position: whoever resumes after the last number that
it got misses nothing and gets nothing twice. Until a listener has read the log up to the reader, and whenever its queue
is full, it reads the log itself, from its own position; so a slow one loses nothing and holds no memory.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import islice

import structlog

from service.domain.errors import OperatorError
from service.domain.logged_event import EventFilter, EventHead, LoggedEvent
from service.domain.ports.event_log import EventLog
from service.domain.ports.signals import Signals

READ_INTERVAL = 1.0
"""Seconds between two reads without a notification: one may be lost, and SQLite has none between processes."""

READ_PAUSE = 0.02
"""Seconds between two reads of a busy log: the events of many commits are read together."""

RETRY_PAUSE = 1.0
"""Seconds until the log is read again after the database was away."""

HEADS_AT_ONCE = 500
EVENTS_AT_ONCE = 16
"""Events whose data are read at once; a payload in it has up to 64 KiB."""

MAX_QUEUED = 256
MAX_QUEUED_CHARACTERS = 1024 * 1024
"""How much waits for one listener; with more it reads the log itself."""

MAX_CATCHING_UP = 2
"""Listeners that read the log at once: they leave connections to the database for other requests."""

ALL = EventFilter()

log = structlog.get_logger("boomerang.tasks")


@dataclass(kw_only=True, eq=False)
class Listener:
    """One listener: iterate over it once, in one task. `position` is the number of the last event that it got."""

    feed: "EventFeed"
    wanted: EventFilter
    position: int
    behind: bool = True
    closed: bool = False
    _queue: deque[LoggedEvent] = field(default_factory=deque)
    _characters: int = 0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def close(self) -> None:
        """End the iteration."""
        self.closed = True
        self._changed.set()

    def push(self, event: LoggedEvent) -> None:
        """Queue an event; a full queue is dropped, and the listener reads the log itself."""
        if self.behind:
            return
        self._characters += len(event.body)
        self._queue.append(event)
        if len(self._queue) > MAX_QUEUED or (len(self._queue) > 1 and self._characters > MAX_QUEUED_CHARACTERS):
            self._clear()
            self.behind = True
        self._changed.set()

    async def events(self, *, follow: bool = True) -> AsyncGenerator[LoggedEvent]:
        """Yield each event after `position` once, in order, until `close`; without `follow` those that are stored."""
        with self.feed.joined(self):
            await self.feed.started()
            while not self.closed:
                if self.behind:
                    self._clear()
                    self.behind = False  # before the log is read: what comes meanwhile is queued
                    async for event in self._stored():
                        yield event
                    if not follow:
                        return
                elif self._queue:
                    event = self._queue.popleft()
                    self._characters -= len(event.body)
                    if event.seq > self.position:
                        self.position = event.seq
                        yield event
                else:
                    self._changed.clear()
                    await self._changed.wait()

    async def _stored(self) -> AsyncGenerator[LoggedEvent]:
        """Yield the events that the log has after `position`."""
        heads: Sequence[EventHead] = ()
        read = self.position
        while not self.closed:
            heads = await self.feed.heads(read, self.wanted)
            matching = iter([head.seq for head in heads if self.wanted.matches(head)])
            while numbers := list(islice(matching, EVENTS_AT_ONCE)):
                for event in await self.feed.load(numbers):
                    if self._ended():
                        return
                    self.position = event.seq
                    yield event
            if len(heads) < HEADS_AT_ONCE:
                return
            read = heads[-1].seq

    def _ended(self) -> bool:
        return self.closed

    def _clear(self) -> None:
        self._queue.clear()
        self._characters = 0


class EventFeed:
    """Reads the log once for all listeners of this process, and only while there are any."""

    def __init__(self, event_log: EventLog, signals: Signals) -> None:
        self._log = event_log
        self._signals = signals
        self._listeners: set[Listener] = set()
        self._position: int | None = None
        self._reader: asyncio.Task[None] | None = None
        self._starting = asyncio.Lock()
        self._catching_up = asyncio.Semaphore(MAX_CATCHING_UP)

    async def last(self) -> int:
        """Return the number of the newest event, 0 if there is none; raises StoreUnavailable."""
        return await self._log.last()

    def listener(self, wanted: EventFilter, *, after: int) -> Listener:
        """Return a listener for the events after the number `after`."""
        return Listener(feed=self, wanted=wanted, position=after)

    @contextmanager
    def joined(self, listener: Listener) -> Iterator[None]:
        """Give the listener new events inside the block; the reader ends with the last one."""
        self._listeners.add(listener)
        if self._reader is None:
            self._reader = asyncio.create_task(self._read(), name="event feed")
        try:
            yield
        finally:
            self._listeners.discard(listener)
            if not self._listeners and self._reader is not None:
                self._reader.cancel()
                self._reader, self._position = None, None

    async def started(self) -> None:
        """Return once the reader has a position: what the log has before it, a listener finds by itself."""
        async with self._starting:
            while self._position is None:
                with suppress(OperatorError):
                    self._position = await self._log.last()
                    return
                await asyncio.sleep(RETRY_PAUSE)

    async def heads(self, after: int, wanted: EventFilter) -> list[EventHead]:
        """Return the next entries of the log for a listener that reads it itself."""
        while True:
            with suppress(OperatorError):
                async with self._catching_up:
                    return await self._log.heads(after, wanted, limit=HEADS_AT_ONCE)
            await asyncio.sleep(RETRY_PAUSE)

    async def load(self, numbers: Sequence[int]) -> list[LoggedEvent]:
        """Return events for a listener that reads the log itself."""
        while True:
            with suppress(OperatorError):
                async with self._catching_up:
                    return await self._log.load(numbers)
            await asyncio.sleep(RETRY_PAUSE)

    async def _read(self) -> None:
        """Read the log when it is notified, and every READ_INTERVAL."""
        failed = False
        await self.started()
        while True:
            try:
                more = await self._read_some()
                failed = False
            except Exception as error:  # noqa: BLE001 - a later attempt may succeed after any error
                if not failed:
                    log.warning("reading events failed", error=type(error).__name__)
                failed = more = True
            await asyncio.sleep(RETRY_PAUSE if failed else READ_PAUSE)
            if not more:
                await self._signals.wait("events", READ_INTERVAL)

    async def _read_some(self) -> bool:
        """Give the next events to their listeners; return whether the log may have more."""
        heads = await self._log.heads(self._position or 0, ALL, limit=HEADS_AT_ONCE)
        awaited = iter([head for head in heads if self._is_awaited(head)])
        while part := list(islice(awaited, EVENTS_AT_ONCE)):
            by_number = {head.seq: head for head in part}
            for event in await self._log.load(list(by_number)):
                for listener in self._listeners:
                    if listener.wanted.matches(by_number[event.seq]):
                        listener.push(event)
        if heads:
            self._position = heads[-1].seq
        return len(heads) == HEADS_AT_ONCE

    def _is_awaited(self, head: EventHead) -> bool:
        return any(not each.behind and each.wanted.matches(head) for each in self._listeners)
