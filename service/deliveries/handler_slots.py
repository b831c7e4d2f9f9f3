"""The slots of each handler in this process, and the new deliveries that are leased into free slots.

A delivery for which a slot is free when it is written is leased by the same commit and started right after it: no job
has to claim it. All others wait in the store until a job claims them.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from service.concurrency.fair_semaphore import FairSemaphore
from service.concurrency.immediate_claims import ImmediateClaims
from service.deliveries.circuit_board import CircuitBoard
from service.deliveries.handler_api import Handler
from service.deliveries.lease_ahead import LeaseAhead
from service.domain.event_routing import target_host
from service.domain.fair_share import FairShare
from service.domain.ports.circuits import NO_BLOCKS, Blocks
from service.domain.ports.queues import HandlerCapacity
from service.domain.ports.unit_of_work import DeliveryClaim, NewClaims, no_claims
from service.domain.task import Json

PAST_SERVED_INTERVAL = timedelta(seconds=1)
"""How often a claim searches past clients that have their share: it reads everything that these have waiting."""


@dataclass(kw_only=True, eq=False)
class SlotReservations:
    """The slots that one transaction reserves; `claims` has the deliveries that the store leased, `until` a moment."""

    slots: "HandlerSlots" = field(repr=False)
    reserved: list[tuple[Handler, str | None]] = field(default_factory=list)
    until: datetime | None = None
    claims: NewClaims = no_claims

    def lease(
        self, name: str, now: datetime, *, client: str | None = None, of: str = "", target: Json | None = None
    ) -> datetime | None:
        """Reserve a slot for a new delivery; return until when it is leased, None when it must wait in the store.

        `client` is whose share the slot is taken from, None where no request named a target. `of` is the client of the
        event: a delivery to a `target` whose circuit is open, or whose host has a rate, waits.
        """
        if self.slots.blocks.any and self.slots.blocks.block(name, of, target or {}, None):
            return None
        if self.slots.destination_rate is not None and target_host(target or {}) is not None:
            return None  # a claim counts what a rate allows
        handler = self.slots.reserve(name, self, client)
        if handler is None:
            return None
        self.reserved.append((handler, client))
        self.until = now + self.slots.lease
        return self.until

    def grant(self, claims: NewClaims) -> None:
        """Take what has the claims on the deliveries that the store leased, once the transaction is committed."""
        self.claims = claims


class HandlerSlots:
    """Counts the slots that are taken of each handler: as many as it runs at once, and those that are leased ahead.

    A delivery with a slot runs within `run`, which lets only the handler's concurrency run at once. Waiting deliveries
    come first: until a claim has found that no more wait for a handler, none of its new deliveries is leased at insert.
    Deliveries with a target, which a request named, take slots only within the share of their client (see `FairShare`),
    so that a client with slow receivers leaves slots to the others; a delivery that waits for its share holds up new
    deliveries of that client alone. `lease` is how long a claim lives without renewal. `notify` is called when slots
    become free for which a delivery may wait. `circuits` are those of the destinations, `destination_rate` how many
    deliveries a second each host that a client's addresses name gets at most, None for no limit.
    """

    def __init__(
        self,
        handlers: Iterable[Handler],
        *,
        lease: timedelta,
        notify: Callable[[], None],
        circuits: CircuitBoard | None = None,
        destination_rate: float | None = None,
    ) -> None:
        self.lease = lease
        self.notify = notify
        self.immediate: ImmediateClaims[SlotReservations] = ImmediateClaims(release=self._release_reserved)
        self.ahead = LeaseAhead()
        self.circuits = circuits
        self.destination_rate = destination_rate
        self.blocks: Blocks = circuits or NO_BLOCKS
        self._handlers = {handler.name: handler for handler in handlers}
        self._runs = {name: FairSemaphore(handler.concurrency) for name, handler in self._handlers.items()}
        self._by_name = {name: handler for handler in self._handlers.values() for name in handler.names}
        self._taken: Counter[str] = Counter()
        self._held: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._waiting: set[tuple[str, str | None]] = set()  # a handler and a client, None for all clients
        self._paused: frozenset[str] | None = frozenset()  # stored names, None for all handlers
        self._past_served_at = datetime.min.replace(tzinfo=UTC)
        self._freed = asyncio.Event()

    def handler(self, name: str) -> Handler:
        """Return the handler with this `name`, its own or a former one; KeyError for an unknown one."""
        return self._by_name[name]

    def hold_all(self) -> None:
        """Start no delivery until `hold` says which handlers are paused."""
        self._paused = None

    def hold(self, paused: frozenset[str]) -> None:
        """Start no delivery of the handlers with these stored names; those that run may end."""
        resumed = self._paused is None or self._paused - paused
        self._paused = paused
        if resumed:
            self.notify()

    def paused(self, handler: Handler) -> bool:
        """Return whether no delivery of the handler may start."""
        return self._paused is None or handler.stored_name in self._paused

    def knows(self, name: str) -> bool:
        """Return whether a handler with this name is loaded, its own or a former one."""
        return name in self._by_name

    @property
    def full(self) -> bool:
        """Return whether a handler has no free slot."""
        return any(not self._free(handler) for handler in self._handlers.values())

    def lease_half_elapsed(self, until: datetime, now: datetime) -> bool:
        """Return whether more than half of a new lease has elapsed, so that the rest may not last until its renewal."""
        return now >= until - self.lease / 2

    def take(self, handler: Handler, client: str | None = None) -> None:
        """Take a slot, from the share of `client`."""
        self._taken[handler.name] += 1
        if client is not None:
            self._held[handler.name][client] += 1

    def release(self, handler: Handler, client: str | None = None) -> None:
        """Free a slot again."""
        self._taken[handler.name] -= 1
        if client is not None:
            self._held[handler.name] -= Counter([client])  # drops clients that hold none any more
        if not self._taken[handler.name]:
            self._freed.set()
        if self._few_ahead(handler) and any(name == handler.name for name, _ in self._waiting):
            self.notify()

    def run(self, handler: Handler, client: str | None, seconds: float) -> AbstractAsyncContextManager[None]:
        """Run the block within the handler's concurrency and the share of `client`.

        Raises TimeoutError if it cannot begin in `seconds`, or if the handler is paused now.
        """
        if self.paused(handler):
            raise TimeoutError(f"handler {handler.name} is paused")
        return self._runs[handler.name].hold(1, client=client, seconds=seconds)

    def put_back(self, handler: Handler) -> None:
        """Note that a delivery that is leased ahead goes back to the store, where it comes before new ones."""
        self._waiting.add((handler.name, None))

    def _free(self, handler: Handler) -> int:
        return max(0, handler.concurrency + self.ahead.of(handler) - self._taken[handler.name])

    def _few_ahead(self, handler: Handler) -> bool:
        """Return whether at most half of what may be leased ahead is left, so that one claim takes many."""
        return self._taken[handler.name] <= handler.concurrency + self.ahead.of(handler) // 2

    # ── deliveries that wait in the store ────────────────────────────────────

    @contextmanager
    def reserve_free(self, now: datetime) -> Iterator[list[HandlerCapacity]]:
        """Yield the free capacity of each handler, reserved for the block, in which deliveries are claimed for it."""
        past_served = not timedelta() <= now - self._past_served_at < PAST_SERVED_INTERVAL
        self._past_served_at = now if past_served else self._past_served_at
        free = {
            name: slots
            for name, handler in self._handlers.items()
            if not self.paused(handler) and self._few_ahead(handler) and (slots := self._free(handler))
        }
        waiting, self._waiting = self._waiting, {(name, None) for name in self._handlers.keys() - free.keys()}
        self._taken.update(free)
        try:
            yield [
                HandlerCapacity(
                    names=self._handlers[name].names,
                    slots=slots,
                    held=dict(self._held[name]),
                    past_served=past_served,
                    rate=self._handlers[name].per_second,
                    destination_rate=self.destination_rate,
                )
                for name, slots in free.items()
            ]
        except BaseException:
            self._waiting |= waiting
            raise
        finally:
            self._taken.subtract(free)

    def note_waiting(self, claims: Sequence[DeliveryClaim], capacities: Sequence[HandlerCapacity]) -> None:
        """Note the handlers, and their clients, for which more deliveries may wait than were claimed."""
        owners = defaultdict(list)
        for claim in claims:
            owners[self._by_name[claim.handler].name].append(claim.share_owner)
        for capacity in capacities:
            name, shares = capacity.names[0], capacity.shares()
            for client in owners[name]:
                shares.take(client)
            self._waiting |= {(name, client) for client in (shares.served() if shares.free else {None})}
        self._freed.set()

    # ── deliveries that are leased at insert ─────────────────────────────────

    def reservations(self) -> AbstractContextManager[SlotReservations]:
        """Yield what leases new deliveries inside the block, a transaction; leaving it normally starts them."""
        return self.immediate.transaction(SlotReservations(slots=self))

    def reserve(self, name: str, reservations: SlotReservations, client: str | None = None) -> Handler | None:
        """Reserve a slot for a delivery that is being written, from the share of `client`.

        Return its handler, None when no slot is free or older deliveries may wait for it.
        """
        handler = self._by_name.get(name)
        if handler is None or not self.immediate.accepting:
            return None
        if (handler.name, None) in self._waiting:  # older deliveries of any client may wait: the shares decide nothing
            return None
        shares = FairShare(free=self._free(handler), held=self._held[handler.name])
        if self.paused(handler) or handler.per_second is not None:  # a claim counts what a rate allows
            self._waiting.add((handler.name, None))
            return None
        if (handler.name, client) in self._waiting or not shares.may_take(client):
            self._waiting.add((handler.name, client if shares.free else None))
            return None
        self.take(handler, client)
        self.immediate.await_end(reservations)
        return handler

    async def free_for_batch(self, seconds: float) -> bool:
        """Wait up to `seconds` until fast handlers have ended all that has a slot or waits; return whether they have.

        Fast are those whose deliveries are leased ahead. What is recorded then is leased at insert, also in a large
        batch: a claim would read and write each delivery again.
        """
        try:
            async with asyncio.timeout(seconds):
                while self.immediate.accepting and any(map(self._will_be_free, self._handlers.values())):
                    self._freed.clear()
                    await self._freed.wait()
        except TimeoutError:
            return False
        return True

    def _will_be_free(self, handler: Handler) -> bool:
        """Return whether all slots of a handler are free soon, and are not yet."""
        if self.paused(handler) or handler.per_second is not None:
            return False
        busy = self._taken[handler.name] or (handler.name, None) in self._waiting
        return bool(busy) and self.ahead.of(handler) > 0

    def _release_reserved(self, reservations: SlotReservations) -> None:
        for handler, client in reservations.reserved:
            self.release(handler, client)
