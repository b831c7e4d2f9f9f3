"""Runs one attempt of a delivery: its handler, its timeout, and what follows from its error."""

import asyncio
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from service.deliveries.attempt_outcome import (
    HELD,
    Abandoned,
    AttemptContext,
    AttemptOutcome,
    cancelled_from_outside,
    classify_attempt,
    event_of,
    root_error,
)
from service.deliveries.circuit_board import CircuitBoard
from service.deliveries.error_text import SecretMask
from service.deliveries.handler_api import Handler, Tools
from service.deliveries.running_delivery import RunningDelivery
from service.domain.callback_forms import has_form
from service.domain.errors import Reject, Retry
from service.domain.fast_copy import replace_fields
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.retry_schedule import OWN_SCHEDULE, schedule_name
from service.domain.task import Json
from service.tasks.endpoint_targets import EndpointTargets
from service.tasks.secret_sealer import SecretSealer

DELIVERED = AttemptOutcome(outcome="delivered")
"""The outcome of a successful attempt without a target, which most are."""


@dataclass(kw_only=True)
class AttemptRunner:
    """Runs attempts; its fields are those of the dispatcher. `circuits` are those of the destinations.

    `schedules` are those of the handlers that have their own, by name; `schedule` is that of the others.
    """

    tools: Callable[[DeliveryClaim, Handler], Tools]
    clock: Clock
    schedule: Sequence[timedelta]
    jitter: Callable[[], float]
    mask: SecretMask
    sealer: SecretSealer | None
    endpoints: EndpointTargets | None = None
    schedules: Mapping[str, Sequence[timedelta]] = field(default_factory=dict)
    circuits: CircuitBoard | None = None

    async def run(self, delivery: RunningDelivery) -> AttemptOutcome:
        """Run the handler in its own asyncio task: if it cancels that task, its attempt has failed, and counts.

        A cancellation from outside cancels the task of the delivery.
        """
        if delivery.claim.abandoned:
            return self.outcome(delivery, Abandoned())
        if unmade := await self._open_endpoint(delivery):
            return unmade
        running = asyncio.create_task(self._run(delivery), name=f"handler {delivery.handler.name}")
        try:
            error = await running
        except asyncio.CancelledError as cancelled:
            ended = running.done() and not running.cancelled()  # before the cancellation, though not yet noticed
            error = running.result() if ended else cancelled
        if error is not None and cancelled_from_outside():
            raise asyncio.CancelledError from error
        if isinstance(error, asyncio.CancelledError):
            error = asyncio.CancelledError("the handler cancelled itself").with_traceback(error.__traceback__)
        return self.outcome(delivery, error)

    async def _open_endpoint(self, delivery: RunningDelivery) -> AttemptOutcome | None:
        """Complete a target that is an endpoint, as it is now; return the outcome if there is nothing to attempt."""
        endpoint_id = delivery.claim.endpoint_id
        if self.endpoints is None or endpoint_id is None:
            return None
        try:
            opened = await self.endpoints.open(endpoint_id)
        except Exception as error:  # noqa: BLE001 - after any error the attempt has failed
            return self.outcome(delivery, error)
        if opened is None:
            return HELD
        delivery.claim = replace(delivery.claim, target=opened.target)
        delivery.endpoint_updated_at = opened.updated_at
        return None

    def outcome(self, delivery: RunningDelivery, error: BaseException | None) -> AttemptOutcome:
        """Return the outcome of an attempt that ended with `error`, or without one."""
        self._note_health(delivery, error)
        if error is None and not delivery.claim.target:
            return DELIVERED
        return classify_attempt(error, self._context(delivery))

    def _note_health(self, delivery: RunningDelivery, error: BaseException | None) -> None:
        """Note what the attempt says about its destination; the failed one of a probe does not count."""
        if self.circuits is None or isinstance(error, Abandoned):
            return
        status = delivery.answer.status if delivery.answer else None
        delivery.health = self.circuits.health(delivery.stored_claim, delivery.handler, error, status)
        probe_failed = delivery.health is not None and delivery.health.probe and delivery.health.sign == "failed"
        delivery.last = self.circuits.last_attempt(delivery.stored_claim, delivery.handler)
        delivery.counted = delivery.last or not probe_failed

    def _context(self, delivery: RunningDelivery) -> AttemptContext:
        name = delivery.handler.name
        limit = self.limit_of(delivery.handler)
        return AttemptContext(
            attempt=delivery.attempt,
            limit=min(limit, delivery.attempt) if delivery.last else limit,
            schedule=self._schedule(delivery.handler),
            now=self.clock.now(),
            jitter=self.jitter(),
            secrets=delivery.secrets,
            mask=self.mask,
            requested=bool(delivery.claim.target),
            schedule_setting=f"{OWN_SCHEDULE}{schedule_name(name)}" if name in self.schedules else "RETRY_SCHEDULE",
            waited_long=delivery.last,
        )

    def limit_of(self, handler: Handler) -> int:
        """Return how many attempts each delivery of this handler has."""
        return handler.attempts or len(self._schedule(handler))

    def _schedule(self, handler: Handler) -> Sequence[timedelta]:
        return self.schedules.get(handler.name, self.schedule)

    async def _completed(self, claim: DeliveryClaim) -> Json:
        """Return the target of `claim` with its sealed secrets, and with the body in the form that it names."""
        target = await self.sealer.open(claim.target) if self.sealer else claim.target
        if self.endpoints and self.endpoints.callback_bodies and has_form(target):
            return await self.endpoints.callback_bodies.rendered(replace(claim, target=target))
        return target

    async def _run(self, delivery: RunningDelivery) -> BaseException | None:
        """Return the error that the handler raised, or None; None also for an event that it does not subscribe to.

        The process that recorded the delivery may not have loaded the handler, and so not known its events.
        """
        event = delivery.claim.event
        if not delivery.handler.wants(event.type, event.data.get("output") or ()):
            return None
        seconds = delivery.handler.timeout
        try:
            async with asyncio.timeout(seconds) as limit:
                if delivery.claim.target:
                    delivery.claim = replace(delivery.claim, target=await self._completed(delivery.claim))
                tools = replace_fields(self.tools(delivery.claim, delivery.handler), keep_answer=delivery.keep_answer)
                await delivery.handler.handle(event_of(delivery.claim), tools)
        except TimeoutError as error:
            if not limit.expired() or (cancelled := _cancellation_behind(error)) is None:
                return error
            late = TimeoutError(f"no end within {seconds:g} s")
            return late.with_traceback(cancelled.__traceback__)  # where the handler waited
        except BaseException as error:  # noqa: BLE001 - a handler may raise anything, and an extension of it may panic
            if not limit.expired() or isinstance(error, Reject | Retry):
                return error
            late = TimeoutError(f"no end within {seconds:g} s; the handler ended with {type(error).__name__}")
            return late.with_traceback(root_error(error).__traceback__)
        return None


def _cancellation_behind(error: TimeoutError) -> BaseException | None:
    """Return the cancellation that asyncio's time limit made an error of; older Pythons have it as the context."""
    if error.__cause__ is None and sys.version_info < (3, 11, 7):  # 3.11.2 does, 3.11.7 does not
        return error.__context__ if isinstance(error.__context__, asyncio.CancelledError) else None
    return error.__cause__
