"""How many deliveries a process leases beyond those that it runs at once. Only computes."""

from collections import defaultdict
from collections.abc import Callable

from service.deliveries.handler_api import Handler

MAX_AHEAD = 256
"""Most deliveries of one handler that are leased ahead."""

RUN_WITHIN = 0.25
"""Seconds within which the slots of a handler are expected to run what is leased ahead of them."""

FORGET = 0.95
"""What is left of the slowest known run after each faster one: about 50 runs later a single slow one is forgotten."""

MIN_ATTEMPTS = 3
"""A handler with fewer attempts leases none ahead: a crash counts an attempt of each leased delivery."""


class LeaseAhead:
    """The recent run times of each handler, and how many of its deliveries may be leased ahead.

    `limit_of` returns how many attempts each delivery of a handler has, None for an unknown number.

    The slowest recent run counts, not the mean one: a delivery that waits here for a slow one could run in another
    process. A handler of unknown run time leases none ahead.
    """

    def __init__(self) -> None:
        self.limit_of: Callable[[Handler], int | None] = lambda handler: handler.attempts
        self._slowest: defaultdict[str, float] = defaultdict(lambda: RUN_WITHIN)  # seconds, by handler

    def note(self, handler: Handler, seconds: float) -> None:
        """Note how long a run, or the wait for a free slot, took."""
        self._slowest[handler.name] = max(seconds, self._slowest[handler.name] * FORGET)

    def of(self, handler: Handler) -> int:
        """Return how many deliveries may be leased beyond the handler's concurrency."""
        limit = self.limit_of(handler)
        if limit is not None and limit < MIN_ATTEMPTS:
            return 0
        runs = RUN_WITHIN / max(self._slowest[handler.name], RUN_WITHIN / MAX_AHEAD)  # of each slot
        return max(0, min(MAX_AHEAD, int(handler.concurrency * (runs - 1))))
