"""Keeps the controls of deliveries of this process as the database has them: which handlers are paused."""

import asyncio
import math
from dataclasses import dataclass, field

import structlog

from service.deliveries.handler_slots import HandlerSlots
from service.domain.ports.handler_pauses import HandlerPauses

MAX_AGE = 1.0
"""Seconds for which a process without periodic jobs uses what it has read."""

log: structlog.stdlib.BoundLogger = structlog.get_logger("boomerang.deliveries")


@dataclass(kw_only=True, slots=True)
class HandlerControls:
    """Reads the pauses, and lets `slots` obey them."""

    pauses: HandlerPauses
    slots: HandlerSlots
    _paused: frozenset[str] = field(default=frozenset(), init=False)
    _read_at: float = field(default=-math.inf, init=False)  # the event loop's time

    def open(self) -> None:
        """Hold every handler until the first refresh has read which ones are paused."""
        self.slots.hold_all()

    async def refresh(self) -> int:
        """Read the pauses; raises StoreUnavailable. Return 0: nothing is left to do."""
        paused = frozenset(await self.pauses.paused())
        for name in sorted(paused ^ self._paused):
            log.info("handler paused" if name in paused else "handler resumed", handler=name)
        self._paused = paused
        self.slots.hold(paused)
        self._read_at = asyncio.get_running_loop().time()
        return 0

    async def refresh_old(self) -> None:
        """Read the pauses unless that was done within MAX_AGE: for a process without periodic jobs."""
        if asyncio.get_running_loop().time() - self._read_at > MAX_AGE:
            await self.refresh()
