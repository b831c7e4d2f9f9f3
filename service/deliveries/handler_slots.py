"""The places that each handler has in this process, and the deliveries that are born into free ones.

A delivery for which there is a free place when it is written is leased by the same commit and started right after it:
nobody has to look for it. All others wait in the store for a round that claims them.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from service.deliveries.handler_api import Handler
from service.domain.fair_share import FairShare
from service.domain.ports.queues import HandlerCapacity
from service.domain.ports.unit_of_work import DeliveryClaim

LOOK_PAST = timedelta(seconds=1)
"""How often to look past clients that have their share: all that they have waiting is read over each time."""

Start = Callable[[Sequence[DeliveryClaim], datetime], None]
"""Starts deliveries that are leased until a moment."""


@dataclass(kw_only=True, eq=False)
class SlotReservations:
    """The deliveries of one transaction for which places are kept; `claims` are those that the store did lease."""

    slots: "HandlerSlots" = field(repr=False)
    kept: list[tuple[Handler, str | None]] = field(default_factory=list)
    until: datetime | None = None
    claims: Sequence[DeliveryClaim] = ()

    def lease(self, name: str, now: datetime, *, client: str | None = None) -> datetime | None:
        """Keep a place for a new delivery; return until when it is leased, None when it is to wait in the store.

        `client` is whose share of the places it is to come from, None where no request named a target.
        """
        handler = self.slots.reserve(name, self, client)
        if handler is None:
            return None
        self.kept.append((handler, client))
        self.until = now + self.slots.lease
        return self.until


class HandlerSlots:
    """Counts who takes a place of which handler.

    What waits in the store comes first: until a round has found that no more waits for a handler, none of its new
    deliveries is born in hand. Deliveries with a target, which a request named, have places only within the share of
    their client (see `FairShare`), so that one with slow receivers leaves some to the others; what waits for its share
    holds up the births of that client alone. `lease` is how long a claim lives without renewal; `ring` is called when a
    place gets free that something may be waiting for.
    """

    def __init__(self, handlers: Iterable[Handler], *, lease: timedelta, ring: Callable[[], None]) -> None:
        self.lease = lease
        self.notify = ring
        self._handlers = {handler.name: handler for handler in handlers}
        self._by_name = {name: handler for handler in self._handlers.values() for name in handler.names}
        self._taken: Counter[str] = Counter()
        self._held: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._awaited: set[tuple[str, str | None]] = set()  # a handler and a client, None for everybody
        self._looked_past = datetime.min.replace(tzinfo=UTC)
        self._start: Start | None = None
        self._closing = False
        self._unborn: set[SlotReservations] = set()
        self._born = asyncio.Event()

    def handler(self, name: str) -> Handler:
        """Return the handler that goes by `name`, its own or a former one; KeyError for an unknown one."""
        return self._by_name[name]

    def lease_half_elapsed(self, until: datetime, now: datetime) -> bool:
        """Whether so much of a new lease, held `until`, is over that the rest may run out before it is renewed."""
        return now >= until - self.lease / 2

    def take(self, handler: Handler, client: str | None = None) -> None:
        """Take a place that was kept until now, of the share of `client`."""
        self._taken[handler.name] += 1
        if client is not None:
            self._held[handler.name][client] += 1

    def leave(self, handler: Handler, client: str | None = None) -> None:
        """Free a place again."""
        self._taken[handler.name] -= 1
        if client is not None:
            self._held[handler.name] -= Counter([client])  # without those that hold none any more
        if any(name == handler.name for name, _ in self._awaited):
            self.notify()

    def _free(self, handler: Handler) -> int:
        return max(0, handler.concurrency - self._taken[handler.name])

    # ── for what waits in the store ──────────────────────────────────────────

    @contextmanager
    def keep_free(self, now: datetime) -> Iterator[list[HandlerCapacity]]:
        """Yield the room that there is, and keep it inside the block, in which deliveries are claimed for it."""
        past_served = not timedelta() <= now - self._looked_past < LOOK_PAST
        self._looked_past = now if past_served else self._looked_past
        free = {name: slots for name, handler in self._handlers.items() if (slots := self._free(handler))}
        awaited, self._awaited = self._awaited, {(name, None) for name in self._handlers.keys() - free.keys()}
        self._taken.update(free)
        try:
            yield [self._room(name, slots, past_served) for name, slots in free.items()]
        except BaseException:
            self._awaited |= awaited
            raise
        finally:
            self._taken.subtract(free)

    def found(self, claims: Sequence[DeliveryClaim], rooms: Sequence[HandlerCapacity]) -> None:
        """Note for which handlers, and clients of them, more may wait than the `claims` that were made for `rooms`."""
        found = defaultdict(list)
        for claim in claims:
            found[self._by_name[claim.handler].name].append(claim.share_owner)
        for room in rooms:
            name, shares = room.names[0], room.shares()
            for client in found[name]:
                shares.take(client)
            self._awaited |= {(name, client) for client in (shares.served() if shares.free else {None})}

    def _room(self, name: str, slots: int, past_served: bool) -> HandlerCapacity:
        names, held = self._handlers[name].names, dict(self._held[name])
        return HandlerCapacity(names=names, slots=slots, held=held, past_served=past_served)

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
    def reservations(self) -> Iterator[SlotReservations]:
        """Yield what leases new deliveries inside the block, a transaction; leaving it in order starts them."""
        reservations = SlotReservations(slots=self)
        try:
            yield reservations
        finally:
            self._unborn.discard(reservations)
            self._born.set()
            for handler, client in reservations.kept:
                self.leave(handler, client)
        if reservations.claims and reservations.until and self._start:
            self._start(reservations.claims, reservations.until)

    def reserve(self, name: str, reservations: SlotReservations, client: str | None = None) -> Handler | None:
        """Keep a place for a delivery that is being written, unless older ones may be waiting for it.

        One of a `client` comes from its share.
        """
        handler = self._by_name.get(name)
        if handler is None or self._start is None or self._closing:
            return None
        shares = FairShare(free=self._free(handler), held=self._held[handler.name])
        ahead = self._awaited.intersection([(handler.name, None), (handler.name, client)])
        if ahead or not shares.may_take(client):
            self._awaited.add((handler.name, client if shares.free else None))
            return None
        self.take(handler, client)
        self._unborn.add(reservations)
        return handler
