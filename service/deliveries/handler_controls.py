"""Keeps the controls of deliveries of this process as the database has them: which handlers are paused."""

import asyncio
import math
from dataclasses import dataclass, field
from datetime import timedelta

import structlog

from service.deliveries.handler_slots import HandlerSlots
from service.domain.circuit import Circuit
from service.domain.ports.circuits import Circuits
from service.domain.ports.handler_pauses import HandlerPauses
from service.domain.ports.signals import Clock

MAX_AGE = 1.0
"""Seconds for which a process without periodic jobs uses what it has read."""

WAKES = 20
"""Transactions in which one refresh makes due what has waited for one circuit."""

KEPT_FOR = timedelta(hours=1)
"""How long a circuit without failures is kept."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.deliveries")


@dataclass(kw_only=True, slots=True)
class HandlerControls:
    """Reads the pauses and the circuits, and lets `slots` obey them; begins probes, and wakes what has waited."""

    pauses: HandlerPauses
    slots: HandlerSlots
    circuits: Circuits
    clock: Clock
    _paused: frozenset[str] = field(default=frozenset(), init=False)
    _read_at: float = field(default=-math.inf, init=False)  # the event loop's time

    def open(self) -> None:
        """Hold every handler until the first refresh has read which ones are paused."""
        self.slots.hold_all()

    async def refresh(self) -> int:
        """Read the pauses and circuits, and act on them; raises StoreUnavailable. Return how many circuits changed."""
        paused = frozenset(await self.pauses.paused())
        for name in sorted(paused ^ self._paused):
            log.info("handler paused" if name in paused else "handler resumed", handler=name)
        self._paused = paused
        await self._read_circuits()
        self.slots.hold(paused)
        self._read_at = asyncio.get_running_loop().time()
        return await self._act()

    async def _act(self) -> int:
        """Begin the probes that are due, and make due what waits for circuits that have closed; return how many."""
        now, acted = self.clock.now(), 0
        for circuit in list(self.slots.circuits.known.values()) if self.slots.circuits else ():
            if circuit.waking:
                acted += bool(await self._wake(circuit.key))
            elif circuit.state == "open" and circuit.retry_at and circuit.retry_at <= now and self._runs(circuit):
                acted += await self.circuits.probe(circuit.key, now=now)
        if acted:
            await self._read_circuits()
        return acted

    async def _read_circuits(self) -> None:
        if self.slots.circuits:
            self.slots.circuits.replace_all(await self.circuits.recent(now=self.clock.now()))

    def _runs(self, circuit: Circuit) -> bool:
        return circuit.handler not in self._paused and self.slots.knows(circuit.handler)

    async def _wake(self, key: str) -> int:
        """Make due what has waited; what is left after WAKES transactions becomes due at the next refresh."""
        woken = 0
        for _ in range(WAKES):
            found = await self.circuits.wake(key, now=self.clock.now())
            woken += found
            if not found:
                break
        return woken

    async def prune(self) -> int:
        """Delete circuits without a meaning."""
        return await self.circuits.prune(before=self.clock.now() - KEPT_FOR)

    async def refresh_old(self) -> None:
        """Read the pauses unless that was done within MAX_AGE: for a process without periodic jobs."""
        if asyncio.get_running_loop().time() - self._read_at > MAX_AGE:
            await self.refresh()
