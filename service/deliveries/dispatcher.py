"""Claims due deliveries and runs their handlers: deliveries are independent, and no handler waits for another."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import structlog

from service.concurrency.lease_pool import LeasePool
from service.deliveries.attempt_outcome import AttemptOutcome
from service.deliveries.attempt_runner import AttemptRunner
from service.deliveries.attempt_store import STORE_RETRY_DELAYS, AttemptStore
from service.deliveries.error_text import SecretMask, describe_error
from service.deliveries.handler_api import Handler, Tools
from service.deliveries.handler_slots import HandlerSlots, SlotReservations
from service.deliveries.loop_monitor import LoopMonitor
from service.deliveries.running_delivery import RunningDelivery, log_outcome, log_unfinished
from service.domain.duration_histogram import DurationHistogram, deliveries_by_handler
from service.domain.errors import StoreUnavailable
from service.domain.ports.queues import DeliveryQueue, HandlerCapacity
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import TaskId
from service.tasks.endpoint_targets import EndpointTargets
from service.tasks.secret_sealer import SecretSealer

AHEAD_TIMEOUT = 1.0
"""Seconds that a delivery that is leased ahead waits for a free slot before it is released."""

CANCEL_GRACE = 1.0
"""Seconds that cancelled handlers have to clean up."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.deliveries")


@dataclass(kw_only=True, slots=True)
class Dispatcher:
    """Runs due deliveries, each handler within its own slots, and stores how each attempt ended.

    `tools` makes the tools of a handler, `schedule` holds the delays before each attempt, `schedules` those of the
    handlers that have their own, by name, `jitter` returns a number from 0 to 1. `mask` masks the values of handler
    settings in error texts, `sealer` opens sealed secrets, and `endpoints` reads endpoints. `delivery_times`
    are those since the event.
    """

    queue: DeliveryQueue
    slots: HandlerSlots
    tools: Callable[[DeliveryClaim, Handler], Tools]
    clock: Clock
    schedule: Sequence[timedelta]
    jitter: Callable[[], float]
    schedules: Mapping[str, Sequence[timedelta]] = field(default_factory=dict)
    store_retry_delays: Sequence[float] = STORE_RETRY_DELAYS
    mask: SecretMask = field(default_factory=SecretMask)
    sealer: SecretSealer | None = None
    endpoints: EndpointTargets | None = None
    delivery_times: dict[str, DurationHistogram] = field(default_factory=deliveries_by_handler, init=False)
    _in_flight: dict[tuple[str, int], RunningDelivery] = field(default_factory=dict, init=False)  # by id and fence
    _claiming: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    _attempts: AttemptRunner = field(init=False)
    _store: AttemptStore = field(init=False)
    _lease_pool: LeasePool[str] = field(init=False)

    def __post_init__(self) -> None:
        self._attempts = AttemptRunner(
            tools=self.tools,
            clock=self.clock,
            schedule=self.schedule,
            schedules=self.schedules,
            jitter=self.jitter,
            mask=self.mask,
            sealer=self.sealer,
            endpoints=self.endpoints,
            circuits=self.slots.circuits,
        )
        self.slots.ahead.limit_of = self._attempts.limit_of
        self._store = AttemptStore(
            queue=self.queue, retry_delays=self.store_retry_delays, stopping=lambda: self._lease_pool.closed
        )
        self._lease_pool = LeasePool(
            store=self.queue,
            clock=self.clock,
            lease=self.slots.lease,
            on_lost=self._cancel_lost,
            upkeep=self.abandon_unresponsive,
            monitor=LoopMonitor(lambda: {delivery.handler.name for delivery in self._in_flight.values()}),
        )

    @property
    def in_flight(self) -> int:
        """Return how many deliveries have been started and have not ended."""
        return len(self._in_flight)

    def open(self) -> None:
        """Start, from now on, also deliveries that this process records, right after their commit."""
        self.slots.immediate.open(self._start_reserved)

    async def run_once(self) -> int:
        """Claim due deliveries for the free slots of all handlers and start them; return how many."""
        return len(await self.start_due())

    async def start_due(self) -> list[asyncio.Task[None]]:
        """Claim due deliveries for the free slots of all handlers and start them; return their asyncio tasks.

        Never waits for a handler. Raises StoreUnavailable when nothing can be claimed.
        """
        async with self._claiming:
            until = self.clock.now() + self.slots.lease
            with self.slots.reserve_free(self.clock.now()) as capacities:
                claims = await self._claim(capacities, until) if capacities and not self._lease_pool.closed else []
            return [self._start(claim, until) for claim in claims]

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks of the started deliveries, without those whose handlers exceeded their timeout."""
        now = asyncio.get_running_loop().time()
        deliveries = [one for one in self._in_flight.values() if not (one.unresponsive or one.overdue(now))]
        return {delivery.task for delivery in deliveries if delivery.task}

    def task_ids(self) -> set[TaskId]:
        """Return the tasks whose deliveries `running` returns."""
        running = self.running()
        return {one.claim.event.task_id for one in self._in_flight.values() if one.task in running}

    async def end_running(self, reason: str, *, counted_after: timedelta) -> None:
        """Cancel the running deliveries: the process may stop running.

        An attempt that had `counted_after` has failed for `reason`; the others are released uncounted.
        """
        tasks = self.running()
        running = [one for one in self._in_flight.values() if one.running and one.task in tasks]
        began_by = self.clock.now() - counted_after
        await asyncio.gather(
            self._release([one for one in running if not one.begun or one.started_at > began_by]),
            *(self._end_late(one, reason) for one in running if one.begun and one.started_at <= began_by),
        )
        if not self._in_flight:
            self._lease_pool.stop()  # a stop of the process must not look like a handler that blocks it

    async def drain(self, seconds: float) -> None:
        """Claim no more, release what was leased ahead, and wait up to `seconds` for handlers.

        Then count the attempts of handlers past their timeout, and cancel and release the other deliveries uncounted.
        """
        self._lease_pool.close()
        until = asyncio.get_running_loop().time() + seconds
        await asyncio.sleep(0)  # lets those begin that were just started and have a free slot
        await self._release([delivery for delivery in self._in_flight.values() if not delivery.begun])
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self.slots.immediate.close()
                async with self._claiming:  # a claim may still be releasing what it claimed
                    pass
        await self._wait(max(0.0, until - asyncio.get_running_loop().time()))
        await self.abandon_unresponsive()
        await self._release([delivery for delivery in self._in_flight.values() if delivery.running])
        await self._wait(CANCEL_GRACE)
        log_unfinished(self._in_flight.values())
        self._lease_pool.stop()

    async def abandon_unresponsive(self) -> None:
        """End the attempts of handlers that ignored the cancellation at their timeout; their slots stay taken."""
        now = asyncio.get_running_loop().time()
        overdue = [delivery for delivery in self._in_flight.values() if delivery.overdue(now)]
        for error in await asyncio.gather(*map(self._abandon, overdue), return_exceptions=True):
            if isinstance(error, Exception):  # one failure must not end a drain
                log.error("unresponsive handler not abandoned", error=describe_error(error), exc_info=error)

    # ── starting ─────────────────────────────────────────────────────────────

    async def _claim(self, capacities: Sequence[HandlerCapacity], until: datetime) -> list[DeliveryClaim]:
        claims = await self.queue.claim(capacities, now=self.clock.now(), until=until, blocks=self.slots.blocks)
        self.slots.note_waiting(claims, capacities)
        if not (self._lease_pool.closed or self.slots.lease_half_elapsed(until, self.clock.now())):
            return claims
        await self.queue.release({claim.id: claim.fence for claim in claims if not claim.abandoned})
        return [claim for claim in claims if claim.abandoned]

    def _start_reserved(self, reservations: SlotReservations) -> None:
        """Start deliveries that were leased at insert, unless the commit took so long that their leases may be lost."""
        if (until := reservations.until) is None:
            return
        claims = [] if self.slots.lease_half_elapsed(until, self.clock.now()) else reservations.claims()
        if len(claims) < len(reservations.reserved):
            self.slots.notify()
        for claim in claims:
            self._start(claim, until)

    def _start(self, claim: DeliveryClaim, leased_until: datetime) -> asyncio.Task[None]:
        handler = self.slots.handler(claim.handler)
        delivery = RunningDelivery(claim=claim, handler=handler, started_at=self.clock.now())
        self._in_flight[claim.id, claim.fence] = delivery
        self.slots.take(handler, claim.share_owner)
        task = self._lease_pool.start(claim.id, claim.fence, self._deliver(delivery), leased_until=leased_until)
        delivery.task = task
        task.add_done_callback(lambda _: self._ended(delivery))
        return task

    async def _wait(self, seconds: float) -> None:
        if tasks := self.running():
            await asyncio.wait(tasks, timeout=seconds)
            await asyncio.sleep(0)  # the callbacks of tasks that end in this moment have not run yet

    # ── one delivery ─────────────────────────────────────────────────────────

    async def _deliver(self, delivery: RunningDelivery) -> None:
        try:
            outcome = await self._run(delivery)
            if outcome is None:
                await self._put_back(delivery)
            elif outcome.held:
                await self._store.hold(delivery.claim.id, delivery.claim.fence, self.clock.now())
            else:
                await self._finish(delivery, outcome)
        except Exception:  # ends only this delivery, whose lease expires
            log.exception("delivery failed unexpectedly", **delivery.log_fields)

    async def _run(self, delivery: RunningDelivery) -> AttemptOutcome | None:
        """Run the handler in a free slot; return how that ended, None if no slot was free in time."""
        loop, handler = asyncio.get_running_loop(), delivery.handler
        try:
            async with self.slots.run(handler, delivery.claim.share_owner, AHEAD_TIMEOUT):
                began = loop.time()
                delivery.begun, delivery.started_at = True, self.clock.now()
                delivery.ends_by = began + handler.timeout + CANCEL_GRACE
                outcome = await self._attempts.run(delivery)
                self._handler_ended(delivery)
                self.slots.ahead.note(handler, loop.time() - began)
                return outcome
        except TimeoutError:
            if delivery.begun:
                raise
            return None

    async def _put_back(self, delivery: RunningDelivery) -> None:
        """Release a delivery that was leased ahead and not begun: another process may run it sooner."""
        self.slots.ahead.note(delivery.handler, AHEAD_TIMEOUT)
        self.slots.put_back(delivery.handler)
        self._handler_ended(delivery)
        await self._store.release(delivery.claim.id, delivery.claim.fence)

    def _ended(self, delivery: RunningDelivery) -> None:
        """Free the slot, even of a task that was cancelled before its first step."""
        del self._in_flight[delivery.claim.id, delivery.claim.fence]
        self.slots.release(delivery.handler, delivery.claim.share_owner)

    # ── its end ──────────────────────────────────────────────────────────────

    def _handler_ended(self, delivery: RunningDelivery) -> None:
        """Only store the result from now on: if that fails, the lease expires and the delivery is made again."""
        delivery.running = False
        self._lease_pool.stop_renewing(delivery.claim.id, delivery.claim.fence)

    async def _abandon(self, delivery: RunningDelivery) -> None:
        self._handler_ended(delivery)
        delivery.unresponsive = True
        late = TimeoutError(f"no end within {delivery.handler.timeout:g} s, though it was cancelled")
        await self._finish(delivery, self._attempts.outcome(delivery, late))

    async def _end_late(self, delivery: RunningDelivery, reason: str) -> None:
        if delivery.task:
            delivery.task.cancel()
            await asyncio.wait([delivery.task], timeout=CANCEL_GRACE)
        if not delivery.running:  # it ended at the same moment, and its result is stored
            return
        self._handler_ended(delivery)
        delivery.unresponsive = delivery.task is not None and not delivery.task.done()
        await self._finish(delivery, self._attempts.outcome(delivery, TimeoutError(reason)))

    def _cancel_lost(self, delivery_id: str, fence: int) -> None:
        """Cancel a handler whose delivery is leased by another process now: the fence would reject its late result."""
        delivery = self._in_flight[delivery_id, fence]
        log.warning("lease lost", **delivery.log_fields)
        if delivery.task:
            delivery.task.cancel()

    async def _finish(self, delivery: RunningDelivery, outcome: AttemptOutcome) -> None:
        result = delivery.result(outcome, self.clock.now())
        stored = await self._store.store(result)
        if stored and result.outcome == "delivered":
            self.delivery_times[delivery.handler.name].observe(result.finished_at - delivery.claim.created_at)
        log_outcome(delivery, result, stored=stored, where=outcome.where)

    async def _release(self, deliveries: Sequence[RunningDelivery]) -> None:
        """Cancel handlers and release their deliveries, which another process may start at once."""
        tasks = [delivery.task for delivery in deliveries if delivery.task]
        for delivery in deliveries:
            log.info("delivery released", **delivery.log_fields)
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_GRACE)
        held = [delivery.claim for delivery in deliveries if delivery.running]
        fences = {claim.id: claim.fence for claim in sorted(held, key=lambda claim: claim.fence)}
        try:
            await self.queue.release(fences)
        except StoreUnavailable as error:
            log.warning("failed to release leases, they will expire", error=describe_error(error))
