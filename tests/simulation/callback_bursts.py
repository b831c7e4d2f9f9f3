"""Bursts of callbacks, without sending a thousand of them."""

from collections.abc import Callable
from datetime import datetime

from service.callbacks.limits import BurstDetector


class RandomBursts(BurstDetector):
    """Reports a random share of all callbacks as part of a burst."""

    def __init__(self, share: float, draw: Callable[[str], float]) -> None:
        super().__init__()
        self._share = share
        self._draw = draw

    def observe(self, now: datetime) -> bool:  # noqa: ARG002 - the time plays no part
        """Return whether the callback counts as part of a burst."""
        return self._draw("crowd") < self._share  # the key of the draw is part of each seed's run
