"""The circuit breaker of a destination: when it opens, when one attempt probes it, when it closes. Only computes.

A destination is the host of an address that a request named, for its client alone, and else the handler. Consecutive
failures open its circuit: then its deliveries wait, and lose no attempt, while one attempt at a time probes it. The
first attempt that the destination answers closes the circuit, and what waits is due at once.
"""

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from service.domain.event_routing import target_host
from service.domain.task import Json

CircuitState = Literal["failing", "open", "busy", "closed"]
"""`failing`: failures are counted; `busy`: the destination asked to wait; `closed`: what has waited becomes due."""

HealthSign = Literal["failed", "answered", "busy"]
"""What an attempt says about its destination; None where it says nothing."""

FIRST_PAUSE = timedelta(seconds=5)
DOUBLED_PAUSE = timedelta(minutes=5)
"""The pause before the first probe; it doubles with each probe that fails, up to the second one."""

OPEN_SHARE = 12
"""Later the pause is a twelfth of the time for which the circuit has been open, at most CircuitLimits.max_pause."""

PROBE_TIME = timedelta(minutes=2)
"""Time within which the result of a probe is expected; then there is another one."""

LONG_FAILURE = timedelta(minutes=1)
FEW_FAILURES = 2
"""So few failures open a circuit, too, if the first was so long ago: a rare destination has no more of them."""

COUNT_FOR = timedelta(minutes=15)
"""Failures that are further apart are not consecutive."""

PARKED_FOR = timedelta(minutes=15)
"""How long a delivery waits before it is looked at again, unless the circuit closes."""

MAX_LATE = PARKED_FOR
"""How much later a waiting delivery may be looked at than was planned. Time beyond that is no time of waiting: the
clock jumped forward, the machine slept, or no process ran, and the destination had no chance to answer."""

MAX_BUSY = timedelta(days=1)
"""Longest time for which a destination may ask to wait."""

KEY_LENGTH = 32
"""Characters of a key, the hash of what a circuit is of."""

MAX_HOST = 253
"""Characters of a host that are shown."""


@dataclass(frozen=True, kw_only=True)
class CircuitLimits:
    """When a circuit opens, and the longest pause between its probes.

    `opens_after` is the number of consecutive failures that open it, 0 for never.
    """

    opens_after: int = 5
    max_pause: timedelta = timedelta(minutes=30)


LIMITS = CircuitLimits()
"""The default limits."""


@dataclass(frozen=True, kw_only=True)
class Destination:
    """What a circuit is of: a host for one client, or a handler by its stored name."""

    key: str
    handler: str
    host: str | None = None
    client: str | None = None


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """The state of a destination: `failures` are consecutive, `probes` those that have failed since it opened.

    `retry_at` is when the next probe may be made; of a `busy` one when it may be tried again. While it is `waking`,
    deliveries that have waited until `closed_at` become due.
    """

    key: str
    handler: str
    host: str | None
    client: str | None
    state: CircuitState
    failures: int = 0
    failing_since: datetime | None = None
    opened_at: datetime | None = None
    retry_at: datetime | None = None
    closed_at: datetime | None = None
    probes: int = 0
    waking: bool = False
    last_error: str | None = None
    changed_at: datetime

    def blocks(self, now: datetime) -> bool:
        """Return whether no delivery but a probe may be attempted."""
        return self.state == "open" or (self.state == "busy" and self.retry_at is not None and now < self.retry_at)

    @property
    def clean(self) -> bool:
        """Whether an answer of the destination changes nothing."""
        return self.state == "closed"


def destination_of(handler: str, client: str, target: Json) -> Destination:
    """Return the destination of a delivery of the handler with this stored name."""
    host = target_host(target)
    if host is None:
        return Destination(key=_key(handler), handler=handler)
    key = _key(f"{host}/{client}")  # no host and no name of a handler contains a slash
    return Destination(key=key, handler=handler, host=host[:MAX_HOST], client=client)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:KEY_LENGTH]


def unknown_circuit(destination: Destination, now: datetime) -> Circuit:
    """Return the circuit of a destination without failures."""
    return Circuit(
        key=destination.key,
        handler=destination.handler,
        host=destination.host,
        client=destination.client,
        state="closed",
        changed_at=now,
    )


def after_failure(
    circuit: Circuit, at: datetime, error: str | None, *, limits: CircuitLimits = LIMITS, probe: bool
) -> Circuit:
    """Return the circuit after a failed attempt: the failure may open it, that of a probe lengthens the pause."""
    known = circuit.state in {"failing", "open", "busy"} and at - circuit.changed_at < COUNT_FOR
    failures = circuit.failures + 1 if known or circuit.state == "open" else 1
    since = circuit.failing_since if known and circuit.failing_since else at
    after = replace(circuit, failures=failures, failing_since=since, last_error=error, changed_at=at)
    if circuit.state == "open":
        if not probe:
            return after
        return replace(after, probes=circuit.probes + 1, retry_at=at + _next_pause(circuit, at, limits))
    opens = failures >= limits.opens_after or (failures >= FEW_FAILURES and at - since >= LONG_FAILURE)
    if limits.opens_after and opens:
        retry_at = at + min(FIRST_PAUSE, limits.max_pause)
        return replace(after, state="open", opened_at=at, retry_at=retry_at, probes=0, waking=False)
    return replace(after, state="failing" if circuit.state == "closed" else circuit.state)


def _next_pause(circuit: Circuit, at: datetime, limits: CircuitLimits) -> timedelta:
    """Return the pause after a probe that failed: short at first, later a part of the time of the outage."""
    doubled: timedelta = min(DOUBLED_PAUSE, FIRST_PAUSE * 2 ** min(circuit.probes + 1, 10))
    return min(limits.max_pause, max(doubled, (at - (circuit.opened_at or at)) / OPEN_SHARE))


def after_answer(circuit: Circuit, at: datetime) -> Circuit:
    """Return the circuit after an attempt that the destination has answered: closed, without failures."""
    opened = circuit.state == "open"
    return replace(
        circuit,
        state="closed",
        failures=0,
        failing_since=None,
        retry_at=None,
        probes=0,
        waking=opened or circuit.waking,
        closed_at=at if opened else circuit.closed_at,
        changed_at=at,
    )


def after_busy(circuit: Circuit, at: datetime, until: datetime) -> Circuit:
    """Return the circuit of a destination that asked to wait until a time; an open one waits for its probe longer."""
    until = min(until, at + MAX_BUSY)
    retry_at = max(circuit.retry_at or until, until)
    if circuit.state == "open":
        return replace(circuit, retry_at=retry_at, changed_at=at)
    return replace(circuit, state="busy", retry_at=retry_at, changed_at=at)


def waiting_since_without_pause(waiting_since: datetime, due_at: datetime, now: datetime) -> datetime:
    """Return since when a delivery has waited for a circuit, if it was to be looked at by `due_at`: see MAX_LATE.

    It is no later than `now`, also for a process whose clock is behind that of another one.
    """
    late = now - due_at
    return min(now, waiting_since + late if late > MAX_LATE else waiting_since)


def closed_manually(circuit: Circuit, now: datetime) -> Circuit:
    """Return a circuit that a person closes: what waits for it is due at once."""
    return replace(after_answer(circuit, now), closed_at=now, waking=True)


def closed_for_nothing(circuit: Circuit, now: datetime) -> Circuit:
    """Return an open circuit that is closed since no delivery waits that could probe it."""
    return replace(after_answer(circuit, now), waking=False)
