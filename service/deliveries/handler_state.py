"""Small durable values of a handler by key, in the service's database."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from service.domain.ports.handler_store import Change, HandlerStateStore, StoredValue

MAX_KEY = 200
"""Characters of a key."""

MAX_VALUE = 65_536
"""Bytes of a value as JSON."""


class LimitReached(Exception):
    """A change was not made because its result would exceed a limit."""


@dataclass(frozen=True, kw_only=True)
class HandlerState:
    """The values of one handler; no other handler sees them. Each method is one transaction, safe over processes.

    A key is a text of 1 to 200 printable characters, a value anything that JSON can hold in 64 KiB. `expires_in`,
    seconds or a timedelta, counts from the time when the key was added, or set; an expired value counts as absent.
    Every method raises ValueError for a key or value that is not allowed, and StoreUnavailable.
    """

    store: HandlerStateStore
    handler: str
    now: Callable[[], datetime]

    async def get(self, key: str, default: Any = None) -> Any:
        """Return the value of `key`, or `default` if it is absent."""
        found = await self.store.load(self.handler, checked_key(key), now=self.now())
        return default if found is None else found.value

    async def set(self, key: str, value: Any, *, expires_in: timedelta | float | None = None) -> None:
        """Store `value`, in place of any other."""
        new = self._new(value, expires_in)
        await self._change(key, lambda _: new)

    async def add(self, key: str, value: Any = True, *, expires_in: timedelta | float | None = None) -> bool:
        """Store `value` if `key` is absent; return whether it was. Of concurrent calls one returns True."""
        new, added = self._new(value, expires_in), False

        def keep_first(old: StoredValue | None) -> StoredValue:
            nonlocal added
            added = old is None
            return old or new

        await self._change(key, keep_first)
        return added

    async def delete(self, key: str) -> bool:
        """Delete a value; return whether there was one."""
        return await self.pop(key, _ABSENT) is not _ABSENT

    async def pop(self, key: str, default: Any = None) -> Any:
        """Delete a value and return it, or `default` if it is absent. Of concurrent calls one gets the value."""
        found: Any = default

        def take(old: StoredValue | None) -> None:
            nonlocal found
            found = default if old is None else old.value

        await self._change(key, take)
        return found

    async def increment(
        self, key: str, by: int = 1, *, limit: int | None = None, expires_in: timedelta | float | None = None
    ) -> int | None:
        """Add `by` to a number, 0 if it is absent, and return it; None, without a change, if it would exceed `limit`.

        Raises TypeError for a value that is no whole number.
        """

        def count(old: StoredValue | None) -> StoredValue:
            before = old.value if old else 0
            if not isinstance(before, int) or isinstance(before, bool):
                raise TypeError(f"the state {key!r} is not a whole number")
            if limit is not None and by > 0 and before + by > limit:
                raise LimitReached
            return self._changed(old, before + by, expires_in)

        number: int | None = await self._limited(key, count)
        return number

    async def append(
        self, key: str, item: Any, *, max_items: int | None = None, expires_in: timedelta | float | None = None
    ) -> list[Any] | None:
        """Append to a list, empty if it is absent, and return it; None, without a change, if it has `max_items`.

        Raises TypeError for a value that is no list, ValueError if the list gets too large.
        """

        def longer(old: StoredValue | None) -> StoredValue:
            before = old.value if old else []
            if not isinstance(before, list):
                raise TypeError(f"the state {key!r} is not a list")
            if max_items is not None and len(before) >= max_items:
                raise LimitReached
            return self._changed(old, [*before, item], expires_in)

        items: list[Any] | None = await self._limited(key, longer)
        return items

    async def replace(self, key: str, old: Any, new: Any, *, expires_in: timedelta | float | None = None) -> bool:
        """Store `new` if the value is `old` (None: if it is absent), and return whether it was. None as `new` deletes.

        It is a compare-and-set, for changes that the other methods cannot make.
        """
        replaced = False

        def compare(stored: StoredValue | None) -> StoredValue | None:
            nonlocal replaced
            replaced = (stored.value if stored else None) == old
            if not replaced:
                return stored
            return None if new is None else self._changed(stored, new, expires_in)

        await self._change(key, compare)
        return replaced

    def _new(self, value: Any, expires_in: timedelta | float | None) -> StoredValue:
        return self._changed(None, value, expires_in)

    def _changed(self, old: StoredValue | None, value: Any, expires_in: timedelta | float | None) -> StoredValue:
        """Return the stored form of `value`, which keeps the time at which the `old` one expires."""
        after = timedelta(seconds=expires_in) if isinstance(expires_in, int | float) else expires_in
        expires_at = old.expires_at if old else self.now() + after if after is not None else None
        return StoredValue(value=checked_value(value), expires_at=expires_at)

    async def _change(self, key: str, change: Change) -> StoredValue | None:
        return await self.store.change(self.handler, checked_key(key), change, now=self.now())

    async def _limited(self, key: str, change: Change) -> Any:
        try:
            new = await self._change(key, change)
        except LimitReached:
            return None
        return new.value if new else None


_ABSENT = object()


def checked_key(key: str) -> str:
    """Return `key`; raises ValueError for one that is not allowed."""
    if not (1 <= len(key) <= MAX_KEY and key.isprintable()):
        raise ValueError(f"a key must be 1 to {MAX_KEY} printable characters")
    return key


def checked_value(value: Any) -> Any:
    """Return `value` as JSON returns it; raises ValueError for one that JSON cannot hold or that is too large."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"a value must be JSON: {error}") from None
    if len(text) > MAX_VALUE:
        raise ValueError(f"a value must be at most {MAX_VALUE:,} bytes of JSON, is {len(text):,}")
    return json.loads(text)
