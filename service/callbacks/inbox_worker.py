"""Reading the inbox: callbacks of a burst, stored before they were answered, are recorded."""

from collections import OrderedDict
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

BUSY_DELAY = timedelta(seconds=1)
"""Additional age of the callbacks that are read while the process is busy."""

BUSY_BATCH = 64
"""Most callbacks recorded in one commit while the process is busy."""

MAX_CACHED = 2048
"""Callbacks of a burst that are cached parsed until they are recorded; the bodies of others are read again."""

MAX_CACHED_BODY = 16 * 1024
"""Bytes of a body up to which the parsed callback is cached, so that all of them take some megabytes at most."""


@dataclass(kw_only=True, slots=True, eq=False)
class InboxWorker:
    """Records the callbacks in the inbox.

    With `confirm` a terminal callback is a hint, and a poll decides. `waiting` counts the callbacks that wait for an
    answer in this process.
    """

    recorder: Recorder
    inbox: Inbox
    tokens: Tokens
    clock: Clock
    confirm: bool
    read_fact: ReadFact
    waiting: int = field(init=False, default=0)
    _caching: bool = field(init=False, default=False)
    _cache: OrderedDict[str, Callback] = field(init=False, default_factory=OrderedDict)
    _oldest_seen: datetime | None = field(init=False, default=None)

    def enable_cache(self) -> None:
        """Cache parsed callbacks from now on: this process records them right after they are stored."""
        self._caching = True

    def remember(self, callback: Callback, size: int) -> None:
        """Cache a parsed callback with a body of `size` bytes until it is recorded, if the cache is enabled."""
        if not self._caching or size > MAX_CACHED_BODY:
            return
        self._cache[callback.digest] = callback
        if len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)

    async def run_once(self, min_age: timedelta = timedelta(0)) -> int:
        """Record callbacks that were stored at least `min_age` ago; return how many.

        Raises StoreUnavailable.
        """
        busy = self.waiting >= BUSY_FROM
        if busy:
            min_age += BUSY_DELAY
        if self._is_fresh(self._oldest_seen, min_age):
            return 0
        self._oldest_seen = oldest = await self.inbox.unread_since()
        if oldest is None or self._is_fresh(oldest, min_age):
            return 0
        self._oldest_seen = None
        return await self.recorder.process_inbox(self._update, limit=BUSY_BATCH if busy else BATCH)

    def _is_fresh(self, since: datetime | None, min_age: timedelta) -> bool:
        """Return whether less than `min_age` has passed; not for a time ahead, after a clock that moved backwards."""
        return since is not None and timedelta(0) <= self.clock.now() - since < min_age

    def _update(self, row: InboxEntry) -> TaskUpdate:
        """Return the update for a callback that was verified before it was stored."""
        try:
            callback = self._cache.pop(row.digest, None) or self._read(row)
        except UnreadableBody:  # an older release could read it
            return TaskUpdate.unreadable_callback(row.task_id, row)
        return TaskUpdate.callback(callback, row, confirm=self.confirm)

    def _read(self, row: InboxEntry) -> Callback:
        claims = TokenClaims(task_id=row.task_id, submission=row.submission)
        return read_body(claims, row.headers, row.body, tokens=self.tokens, read_fact=self.read_fact, nonce=row.nonce)
