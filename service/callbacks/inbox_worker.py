"""Reading the inbox: callbacks of a burst, stored before they were answered, are recorded."""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.domain.callback import Callback, ReadFact, read_body
from service.domain.errors import UnreadableBody
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import Inbox, InboxEntry
from service.domain.task_update import TaskUpdate
from service.domain.tokens import TokenClaims, Tokens
from service.tasks.recorder import Recorder

BATCH = 256
"""Most callbacks recorded in one commit."""

BUSY_FROM = 16
"""Callbacks that wait for an answer at once, from which on reading the inbox is delayed in favour of them."""

BUSY_FOR = timedelta(milliseconds=50)
"""Time for which a process stays busy after that: senders wait for an answer before they send the next callback."""

BUSY_DELAY = timedelta(seconds=3)
"""Additional age of the callbacks that are read while the process is busy: most bursts are answered within it."""

BUSY_BATCH = 128
"""Most callbacks recorded in one commit while the process is busy."""

SLOTS_WAIT = 0.1
"""Most seconds that a batch waits until the deliveries of the one before have ended and left their slots free."""

SLOTS_RETRY = timedelta(seconds=1)
"""Time without such a wait after one in vain: slow handlers must not delay what others wait for."""

MAX_CACHED = 8192
"""Callbacks of a burst that are cached parsed until they are recorded; the bodies of others are read again."""

MAX_CACHED_BYTES = 8 * 1024 * 1024
"""Bytes of the bodies of all cached callbacks."""

CACHE_TIME = timedelta(seconds=30)
"""Age from which a cached callback gives way to newer ones: another process has recorded it."""


@dataclass(kw_only=True, slots=True, eq=False)
class InboxWorker:
    """Records the callbacks in the inbox.

    With `confirm` a terminal callback is a hint, and a poll decides. `waiting` counts the callbacks that wait for an
    answer in this process; `pause` waits for some seconds. `slots_free` waits up to some seconds for the slots of the
    handlers that this process runs, and returns whether they are free.
    """

    recorder: Recorder
    inbox: Inbox
    tokens: Tokens
    clock: Clock
    confirm: bool
    read_fact: ReadFact
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    slots_free: Callable[[float], Awaitable[bool]] | None = None
    waiting: int = field(init=False, default=0)
    _behind_full_batch: bool = field(init=False, default=False)
    _slots_taken_at: datetime | None = field(init=False, default=None)
    _busy_at: datetime | None = field(init=False, default=None)
    _caching: bool = field(init=False, default=False)
    _cache: OrderedDict[str, tuple[InboxEntry, Callback]] = field(init=False, default_factory=OrderedDict)
    _cached_bytes: int = field(init=False, default=0)
    _oldest_seen: datetime | None = field(init=False, default=None)

    @contextmanager
    def answering(self) -> Iterator[None]:
        """Count a callback that waits for its answer inside the block."""
        self.waiting += 1
        if self.waiting >= BUSY_FROM:
            self._busy_at = self.clock.now()
        try:
            yield
        finally:
            self.waiting -= 1

    def enable_cache(self) -> None:
        """Cache parsed callbacks from now on: this process records them right after they are stored."""
        self._caching = True

    def remember(self, callback: Callback, row: InboxEntry) -> None:
        """Cache a parsed callback and its row until it is recorded, if the cache is enabled and not full.

        The oldest ones stay, since they are recorded first.
        """
        if not self._caching:
            return
        while self._cache and self._is_full(len(row.body)):
            oldest, _ = next(iter(self._cache.values()))
            if self._is_fresh(oldest.received_at, CACHE_TIME):
                return
            self._uncache(oldest.digest)
        if row.digest not in self._cache:
            self._cache[row.digest] = row, callback
            self._cached_bytes += len(row.body)

    def _is_full(self, size: int) -> bool:
        return len(self._cache) >= MAX_CACHED or self._cached_bytes + size > MAX_CACHED_BYTES

    def _uncache(self, digest: str) -> Callback | None:
        """Remove a callback from the cache; return it, None if it is not cached."""
        if (cached := self._cache.pop(digest, None)) is None:
            return None
        self._cached_bytes -= len(cached[0].body)
        return cached[1]

    async def run_once(self, min_age: timedelta = timedelta(0)) -> int:
        """Record callbacks that were stored at least `min_age` ago; return how many.

        Raises StoreUnavailable.
        """
        if (busy := self._is_busy()) and not await self._has_unread(min_age + BUSY_DELAY):
            await self.pause(BUSY_FOR.total_seconds())  # a burst that ends meanwhile would else wait for the next tick
            busy = self._is_busy()
        if not await self._has_unread(min_age + BUSY_DELAY if busy else min_age):
            return 0
        self._oldest_seen = None
        if self._behind_full_batch:
            await self._wait_for_slots()
        limit = BUSY_BATCH if busy else BATCH
        count = await self.recorder.process_inbox(self._update, limit=limit, known=self._known)
        self._behind_full_batch = count == limit
        return count

    async def _wait_for_slots(self) -> None:
        """Wait a moment, between two batches of a burst, until the handlers have ended the deliveries of the first."""
        if self.slots_free is None or self._is_fresh(self._slots_taken_at, SLOTS_RETRY):
            return
        self._slots_taken_at = None if await self.slots_free(SLOTS_WAIT) else self.clock.now()

    def _is_busy(self) -> bool:
        """Return whether many callbacks wait for an answer, or did a moment ago."""
        return self.waiting >= BUSY_FROM or self._is_fresh(self._busy_at, BUSY_FOR)

    async def _has_unread(self, min_age: timedelta) -> bool:
        """Return whether a callback in the inbox is at least that old; a known oldest one is not read again."""
        if self._is_fresh(self._oldest_seen, min_age):
            return False
        self._oldest_seen = oldest = await self.inbox.unread_since()
        return oldest is not None and not self._is_fresh(oldest, min_age)

    def _known(self, digest: str) -> InboxEntry | None:
        """Return the row of a cached callback."""
        cached = self._cache.get(digest)
        return cached[0] if cached else None

    def _is_fresh(self, since: datetime | None, min_age: timedelta) -> bool:
        """Return whether less than `min_age` has passed; not for a time ahead, after a clock that moved backwards."""
        return since is not None and timedelta(0) <= self.clock.now() - since < min_age

    def _update(self, row: InboxEntry) -> TaskUpdate:
        """Return the update for a callback that was verified before it was stored."""
        try:
            callback = self._uncache(row.digest) or self._read(row)
        except UnreadableBody:  # an older release could read it
            return TaskUpdate.unreadable_callback(row.task_id, row)
        return TaskUpdate.callback(callback, row, confirm=self.confirm)

    def _read(self, row: InboxEntry) -> Callback:
        claims = TokenClaims(task_id=row.task_id, submission=row.submission)
        return read_body(claims, row.headers, row.body, tokens=self.tokens, read_fact=self.read_fact, nonce=row.nonce)
