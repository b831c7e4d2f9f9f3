"""The places that each handler has in this process, and the deliveries that are born into free ones.

A delivery for which there is a free place when it is written is leased by the same commit and started right after it:
nobody has to look for it. All others wait in the store for a round that claims them.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.handling import Handler
from service.ports import DeliveryClaim, Room

Start = Callable[[Sequence[DeliveryClaim], datetime], None]
"""Starts deliveries that are leased until a moment."""


@dataclass(kw_only=True, eq=False)
class Births:
    """The deliveries of one transaction for which places are kept; `claims` are those that the store did lease."""

    places: "Places" = field(repr=False)
    kept: list[Handler] = field(default_factory=list)
    until: datetime | None = None
    claims: Sequence[DeliveryClaim] = ()

    def lease(self, name: str, now: datetime) -> datetime | None:
        """Keep a place for a new delivery; return until when it is leased, None when it is to wait in the store."""
        handler = self.places.keep_one(name, self)
        if handler is None:
            return None
        self.kept.append(handler)
        self.until = now + self.places.lease
        return self.until


class Places:
    """Counts who takes a place of which handler.

    What waits in the store comes first: until a round has found that no more waits for a handler, none of its new
    deliveries is born in hand. `lease` is how long a claim lives without renewal; `ring` is called when a place gets
    free that something may be waiting for.
    """

    def __init__(self, handlers: Iterable[Handler], *, lease: timedelta, ring: Callable[[], None]) -> None:
        self.lease = lease
        self.ring = ring
        self._handlers = {handler.name: handler for handler in handlers}
        self._by_name = {name: handler for handler in self._handlers.values() for name in handler.names}
        self._taken: Counter[str] = Counter()
        self._awaited: set[str] = set()
        self._start: Start | None = None
        self._closing = False
        self._unborn: set[Births] = set()
        self._born = asyncio.Event()

    def handler(self, name: str) -> Handler:
        """Return the handler that goes by `name`, its own or a former one; KeyError for an unknown one."""
        return self._by_name[name]

    def worn(self, until: datetime, now: datetime) -> bool:
        """Whether so much of a new lease, held `until`, is over that the rest may run out before it is renewed."""
        return now >= until - self.lease / 2

    def take(self, handler: Handler) -> None:
        """Take a place that was kept until now."""
        self._taken[handler.name] += 1

    def leave(self, *handlers: Handler) -> None:
        """Free a place of each of `handlers`."""
        self._taken.subtract(handler.name for handler in handlers)
        if any(handler.name in self._awaited for handler in handlers):
            self.ring()

    def _free(self, handler: Handler) -> int:
        return max(0, handler.concurrency - self._taken[handler.name])

    # ── for what waits in the store ──────────────────────────────────────────

    @contextmanager
    def keep_free(self) -> Iterator[list[Room]]:
        """Yield the room that there is, and keep it inside the block, in which deliveries are claimed for it."""
        free = {name: places for name, handler in self._handlers.items() if (places := self._free(handler))}
        awaited, self._awaited = self._awaited, self._handlers.keys() - free.keys()
        self._taken.update(free)
        try:
            yield [Room(names=self._handlers[name].names, places=places) for name, places in free.items()]
        except BaseException:
            self._awaited |= awaited
            raise
        finally:
            self._taken.subtract(free)

    def found(self, claims: Sequence[DeliveryClaim], rooms: Sequence[Room]) -> None:
        """Note for which handlers more may be waiting than the `claims` that their `rooms` were filled with."""
        found = Counter(self._by_name[claim.handler].name for claim in claims)
        self._awaited |= {room.names[0] for room in rooms if found[room.names[0]] >= room.places}

    # ── for what is born in hand ─────────────────────────────────────────────

    def open(self, start: Start) -> None:
        """Let deliveries be born in hand; `start` is called with their claims right after their commit."""
        self._start = start

    async def close(self) -> None:
        """Let no more be born in hand, and wait until those under way are started; later ones are not."""
        self._closing = True
        try:
            while self._unborn:
                self._born.clear()
                await self._born.wait()
        finally:
            self._start = None

    @contextmanager
    def births(self) -> Iterator[Births]:
        """Yield what leases new deliveries inside the block, a transaction; leaving it in order starts them."""
        births = Births(places=self)
        try:
            yield births
        finally:
            self._unborn.discard(births)
            self._born.set()
            self.leave(*births.kept)
        if births.claims and births.until and self._start:
            self._start(births.claims, births.until)

    def keep_one(self, name: str, births: Births) -> Handler | None:
        """Keep a place for a delivery that is being written, unless older ones may be waiting for it."""
        handler = self._by_name.get(name)
        if handler is None or self._start is None or self._closing:
            return None
        if handler.name in self._awaited or not self._free(handler):
            self._awaited.add(handler.name)
            return None
        self.take(handler)
        self._unborn.add(births)
        return handler
