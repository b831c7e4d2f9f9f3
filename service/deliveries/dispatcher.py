"""Choosing the deliveries that are due, and running them: each stands alone, and no handler waits for another."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta

import structlog

from service.concurrency.batcher import Batcher
from service.deliveries.attempt import (
    Abandoned,
    AttemptContext,
    AttemptOutcome,
    cancelled_by_us,
    classify_attempt,
    describe_error,
    event_of,
)
from service.deliveries.handler_api import Handler, Tools
from service.deliveries.handler_slots import HandlerSlots, SlotReservations
from service.deliveries.loop_monitor import LoopMonitor
from service.deliveries.running_delivery import RunningDelivery, cancel_lost, leases, log_outcome, log_unfinished, named
from service.domain.errors import StoreUnavailable
from service.domain.ports.queues import AttemptResult, DeliveryQueue, HandlerCapacity
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryClaim

BATCH = 256
"""Results in one commit at most."""

FINISH_AGAIN = (0.2, 1.0, 5.0)
"""Seconds between tries to store how an attempt ended, when the database cannot take it."""

CANCEL_GRACE = 1.0
"""Seconds that cancelled handlers have to clean up."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.dispatch")


class Dispatcher:
    """Runs due deliveries, each handler within its own places, and stores how each attempt ended.

    `tools` makes what a handler works with, `schedule` holds the delays before each attempt, `jitter` returns a number
    from 0 to 1, `finish_again` holds the seconds between tries to store a result that the database could not take.
    """

    def __init__(
        self,
        queue: DeliveryQueue,
        slots: HandlerSlots,
        tools: Callable[[DeliveryClaim, Handler], Tools],
        clock: Clock,
        *,
        schedule: Sequence[timedelta],
        jitter: Callable[[], float],
        finish_again: Sequence[float] = FINISH_AGAIN,
    ) -> None:
        self._queue = queue
        self._slots = slots
        self._tools = tools
        self._clock = clock
        self._schedule = schedule
        self._lease = slots.lease
        self._jitter = jitter
        self._finish_again = finish_again
        self._lease_pool: set[RunningDelivery] = set()
        self._claiming = asyncio.Lock()
        self._draining = False
        self._keeper: asyncio.Task[None] | None = None
        self._results = Batcher(self._store, most=BATCH)

    @property
    def in_hand(self) -> int:
        """How many deliveries are being worked on."""
        return len(self._lease_pool)

    def open(self) -> None:
        """Start also, from now on, what is recorded in this process: at once, where there is a free place for it."""
        self._slots.immediate.open(self._start_reserved)

    async def round(self) -> int:
        """Claim what is due for the free places of all handlers and start it; return how many were started."""
        return len(await self.begin())

    async def begin(self) -> list[asyncio.Task[None]]:
        """Claim what is due for the free places of all handlers and start it; return the asyncio tasks that deliver it.

        Never waits for a handler. Raises StoreUnavailable when nothing can be claimed.
        """
        async with self._claiming:
            with self._slots.reserve_free(self._clock.now()) as rooms:
                claims = await self._claim(rooms) if rooms and not self._draining else []
            return [self._start(claim, self._slots.handler(claim.handler)) for claim in claims]

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks that deliver what is in hand, without handlers that are past their timeout."""
        now = asyncio.get_running_loop().time()
        callback_stats = [hand for hand in self._lease_pool if not (hand.unresponsive or hand.overdue(now))]
        return {hand.task for hand in callback_stats if hand.task}

    async def drain(self, seconds: float) -> None:
        """Claim no more and wait up to `seconds`; then end what is past its time, and give the rest back, uncounted."""
        self._draining = True
        until = asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._slots.immediate.close()
                async with self._claiming:  # a round may still be giving back what it claimed
                    pass
        await self._wait(max(0.0, until - asyncio.get_running_loop().time()))
        await self._try(self.abandon_unresponsive)
        await self._release([hand for hand in self._lease_pool if hand.running])
        await self._wait(CANCEL_GRACE)
        log_unfinished(self._lease_pool)
        if self._keeper:
            self._keeper.cancel()

    async def renew(self) -> None:
        """Prolong the leases of all that is in hand; stop the handlers whose lease is lost."""
        hands = [hand for hand in self._lease_pool if hand.running]
        if not hands:
            return
        fences = leases(hands)
        held = await self._queue.renew(fences, until=self._clock.now() + self._lease)
        for hand in hands:
            mine = hand.claim.id in held and hand.claim.fence == fences[hand.claim.id]
            if hand.running and not mine:
                cancel_lost(hand)

    async def abandon_unresponsive(self) -> None:
        """End the attempts of handlers that took no notice of their timeout; their places stay taken."""
        now = asyncio.get_running_loop().time()
        await asyncio.gather(*[self._end_stuck(hand) for hand in self._lease_pool if hand.overdue(now)])

    # ── starting ─────────────────────────────────────────────────────────────

    async def _claim(self, rooms: Sequence[HandlerCapacity]) -> list[DeliveryClaim]:
        now = self._clock.now()
        until = now + self._lease
        claims = await self._queue.claim(rooms, now=now, until=until)
        self._slots.note_waiting(claims, rooms)
        if not (self._draining or self._slots.lease_half_elapsed(until, self._clock.now())):  # since the claim began
            return claims
        await self._queue.release({claim.id: claim.fence for claim in claims if not claim.abandoned})
        return [claim for claim in claims if claim.abandoned]

    def _start_reserved(self, reservations: SlotReservations) -> None:
        """Start deliveries that were leased at insert, unless the commit took so long that their leases may be lost."""
        if not reservations.claims or reservations.until is None:
            return
        if self._slots.lease_half_elapsed(reservations.until, self._clock.now()):
            self._slots.notify()
            return
        for claim in reservations.claims:
            self._start(claim, self._slots.handler(claim.handler))

    def _start(self, claim: DeliveryClaim, handler: Handler) -> asyncio.Task[None]:
        ends_by = asyncio.get_running_loop().time() + handler.timeout + CANCEL_GRACE
        hand = RunningDelivery(claim=claim, handler=handler, started_at=self._clock.now(), ends_by=ends_by)
        self._lease_pool.add(hand)
        self._slots.take(handler, claim.share_owner)
        hand.task = asyncio.create_task(self._deliver(hand), name=f"delivery {claim.id}")
        hand.task.add_done_callback(lambda task: self._ended(hand, task))
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep_leases(), name="delivery leases")
        return hand.task

    async def _wait(self, seconds: float) -> None:
        if tasks := self.running():
            await asyncio.wait(tasks, timeout=seconds)
            await asyncio.sleep(0)  # those that end just now are still to be taken off the list

    # ── one delivery ─────────────────────────────────────────────────────────

    async def _deliver(self, hand: RunningDelivery) -> None:
        verdict = await self._attempt(hand)
        hand.running = False
        await self._finish(hand, verdict)

    def _ended(self, hand: RunningDelivery, task: asyncio.Task[None]) -> None:
        """Free the place, even of a task that was cancelled before its first step."""
        self._lease_pool.discard(hand)
        error = None if task.cancelled() else task.exception()
        if error:
            log.error("delivery broke off", delivery=hand.claim.id, handler=hand.handler.name, exc_info=error)
        self._slots.release(hand.handler, hand.claim.share_owner)

    async def _attempt(self, hand: RunningDelivery) -> AttemptOutcome:
        """Let the handler run in a task of its own: should it cancel that one, its attempt has failed, and is counted.

        What stops it from outside cancels this one.
        """
        if hand.claim.abandoned:
            return self._judged(hand, Abandoned())
        running = asyncio.create_task(self._run(hand), name=f"handler {hand.handler.name}")
        try:
            error = await running
        except asyncio.CancelledError as cancelled:
            ended = running.done() and not running.cancelled()  # in the moment before, and it has not been heard yet
            error = running.result() if ended else cancelled
        if error is not None and cancelled_by_us():
            raise asyncio.CancelledError from error
        if isinstance(error, asyncio.CancelledError):
            error = asyncio.CancelledError("the handler cancelled itself").with_traceback(error.__traceback__)
        return self._judged(hand, error)

    def _judged(self, hand: RunningDelivery, error: BaseException | None) -> AttemptOutcome:
        trial = AttemptContext(
            attempt=hand.claim.attempt,
            limit=hand.handler.attempts or len(self._schedule),
            schedule=self._schedule,
            now=self._clock.now(),
            jitter=self._jitter(),
            secrets=[str(hand.claim.target.get("secret") or "")],
        )
        return classify_attempt(error, trial)

    async def _run(self, hand: RunningDelivery) -> BaseException | None:
        """Return what the handler raised; nothing for an event that it does not want.

        Where its delivery was recorded the handler may not have been loaded, and nobody knew what it wants.
        """
        if hand.claim.event.type not in hand.handler.events:
            return None
        try:
            async with asyncio.timeout(hand.handler.timeout) as limit:
                await hand.handler.handle(event_of(hand.claim), self._tools(hand.claim, hand.handler))
        except TimeoutError as error:
            if not limit.expired() or error.__cause__ is None:
                return error
            late = TimeoutError(f"no end within {hand.handler.timeout:g} s")
            return late.with_traceback(error.__cause__.__traceback__)  # of the cancellation: where the handler waited
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything, and an extension of it may panic
            return error
        return None

    # ── its end ──────────────────────────────────────────────────────────────

    async def _end_stuck(self, hand: RunningDelivery) -> None:
        hand.running, hand.unresponsive = False, True
        late = TimeoutError(f"no end within {hand.handler.timeout:g} s, though it was cancelled")
        await self._finish(hand, self._judged(hand, late))

    async def _finish(self, hand: RunningDelivery, verdict: AttemptOutcome) -> None:
        result = AttemptResult(
            delivery_id=hand.claim.id,
            fence=hand.claim.fence,
            attempt=hand.claim.attempt,
            started_at=hand.started_at,
            finished_at=self._clock.now(),
            outcome=verdict.outcome,
            error=verdict.error,
            fault=verdict.fault,
            due_at=verdict.due_at,
        )
        held = await self._store_patiently(result)
        log_outcome(hand, result, held=held, where=verdict.where)

    async def _store_patiently(self, result: AttemptResult) -> bool | None:
        """Return whether the result was stored; None when it could not be: the lease runs out, and it is done again."""
        for delay in (*self._finish_again, None):
            try:
                return await self._results.add(result)
            except Exception as error:  # noqa: BLE001 - whatever it was, the lease and the fence keep the delivery right
                log.warning("result not stored", delivery=result.delivery_id, error=describe_error(error))
                if delay is not None and not self._draining:
                    await asyncio.sleep(delay)
        return None

    async def _store(self, results: list[AttemptResult]) -> list[bool]:
        held = await self._queue.finish(results)
        return [result.delivery_id in held for result in results]

    async def _keep_leases(self) -> None:
        """Keep the leases of what is in hand, end what is stuck, and tell when all of it stood still."""
        with LoopMonitor(lambda: {hand.handler.name for hand in self._lease_pool}):
            while self._lease_pool:
                await asyncio.sleep(self._lease.total_seconds() / 3)
                await self._try(self.renew)
                await self._try(self.abandon_unresponsive)
        self._keeper = None

    async def _try(self, step: Callable[[], Awaitable[None]]) -> None:
        try:
            await step()
        except Exception as error:  # noqa: BLE001 - the next beat tries again, and a lease outlives two of them
            log.warning("leases not looked after", step=step.__name__, error=describe_error(error))

    async def _release(self, hands: Sequence[RunningDelivery]) -> None:
        tasks = [hand.task for hand in hands if hand.task]
        for hand in hands:
            log.info("delivery given back", **named(hand))
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=CANCEL_GRACE)
        try:
            await self._queue.release(leases(hand for hand in hands if hand.running))
        except StoreUnavailable as error:
            log.warning("leases not given back, they run out", error=describe_error(error))
