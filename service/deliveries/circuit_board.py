"""The circuits as this process knows them: which deliveries they block, and what its own attempts say about them."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus

import httpx

from service.deliveries.attempt_outcome import responsible_party, root_error
from service.deliveries.handler_api import Handler
from service.domain.circuit import (
    LIMITS,
    PARKED_FOR,
    Circuit,
    CircuitLimits,
    HealthSign,
    after_answer,
    after_failure,
    destination_of,
    unknown_circuit,
)
from service.domain.errors import Reject, Retry
from service.domain.ports.circuits import Block, DestinationHealth
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryClaim
from service.domain.task import Json

BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})
"""Answers whose Retry-After is for the destination as a whole."""

BROKEN = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY})
"""Answers below 500 that say that the destination does not work now."""


@dataclass(kw_only=True)
class CircuitBoard:
    """Implements `Blocks` for the `handlers` of this process.

    `max_wait` is how long a delivery of a handler waits for a circuit: then it has one last attempt. `limits` are those
    of handlers without a number of failures of their own.
    """

    handlers: Iterable[Handler]
    clock: Clock
    max_wait: Callable[[Handler], timedelta]
    limits: CircuitLimits = LIMITS
    _by_name: dict[str, Handler] = field(init=False)
    _known: dict[str, Circuit] = field(default_factory=dict, init=False)
    _blocking: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        self._by_name = {name: handler for handler in self.handlers for name in handler.names}

    # ── what is stored ───────────────────────────────────────────────────────

    def replace_all(self, circuits: Iterable[Circuit]) -> None:
        """Take over the circuits as they are stored."""
        self._known = {circuit.key: circuit for circuit in circuits}
        self._note_blocking()

    @property
    def known(self) -> Mapping[str, Circuit]:
        """Return the circuits by key."""
        return self._known

    def _note_blocking(self) -> None:
        self._blocking = any(circuit.state in {"open", "busy"} for circuit in self._known.values())

    # ── what they block ──────────────────────────────────────────────────────

    @property
    def any(self) -> bool:
        """Whether a circuit may block a delivery."""
        return self._blocking

    def block(self, handler: str, client: str, target: Json, waiting_since: datetime | None) -> Block | None:
        """Return what blocks a delivery that has waited since a time, None where it may be attempted."""
        found = self._by_name.get(handler)
        if not self._blocking or found is None:
            return None
        circuit = self._known.get(destination_of(found.stored_name, client, target).key)
        now = self.clock.now()
        if circuit is None or not circuit.blocks(now) or self._waited_long(found, waiting_since):
            return None
        until = circuit.retry_at if circuit.state == "busy" and circuit.retry_at else now + PARKED_FOR
        return Block(key=circuit.key, until=until)

    def last_attempt(self, claim: DeliveryClaim, handler: Handler) -> bool:
        """Return whether a delivery has waited so long for its destination that no further attempt follows."""
        return self._waited_long(handler, claim.waiting_since)

    def _waited_long(self, handler: Handler, waiting_since: datetime | None) -> bool:
        return waiting_since is not None and self.clock.now() - waiting_since >= self.max_wait(handler)

    # ── what attempts say ────────────────────────────────────────────────────

    def health(
        self, claim: DeliveryClaim, handler: Handler, error: BaseException | None, status: int | None
    ) -> DestinationHealth | None:
        """Return what an attempt says about its destination, None if nothing that is worth a statement.

        `claim` is as it is stored; `status` is that of the receiver's answer, None without one.
        """
        sign = sign_of(error, status)
        if sign is None or (error is None and not (self._known or claim.probe)):
            return None
        destination = destination_of(handler.stored_name, claim.event.client, claim.target)
        known = self._known.get(destination.key)
        if sign == "answered" and not claim.probe and (known is None or known.clean):
            return None
        now = self.clock.now()
        after = self._requested_wait(error, status)
        found = DestinationHealth(
            destination=destination,
            sign=sign,
            busy_until=now + after if after else None,
            probe=claim.probe,
            limits=self._limits(handler),
        )
        self._note(found, known)
        return found

    def _limits(self, handler: Handler) -> CircuitLimits:
        own = handler.circuit_failures
        return self.limits if own is None else replace(self.limits, opens_after=own)

    def _requested_wait(self, error: BaseException | None, status: int | None) -> timedelta | None:
        cause = None if error is None else root_error(error)
        return cause.after if isinstance(cause, Retry) and status in BUSY else None

    def _note(self, health: DestinationHealth, known: Circuit | None) -> None:
        """Obey at once what this process knows before it is stored."""
        now, key = self.clock.now(), health.destination.key
        circuit = known or unknown_circuit(health.destination, now)
        if health.sign == "answered":
            self._known[key] = after_answer(circuit, now)
        elif health.sign == "failed":
            self._known[key] = after_failure(circuit, now, None, limits=health.limits, probe=health.probe)
        self._note_blocking()


def sign_of(error: BaseException | None, status: int | None) -> HealthSign | None:
    """Return what the end of an attempt says about the destination.

    An answer is an answer, whatever the receiver thinks of this event; errors of this installation say nothing. Nor do
    Reject, and a Retry at a time that the handler chose.
    """
    if error is None:
        return "answered"
    cause = root_error(error)
    if status is None and isinstance(cause, httpx.HTTPStatusError):
        status = cause.response.status_code
    if status is not None:
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return "busy"
        failed = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in BROKEN
        return "failed" if failed else "answered"
    if isinstance(cause, Reject) or (isinstance(cause, Retry) and cause.after is not None):
        return None
    return "failed" if responsible_party(cause) == "destination" else None
