"""Callbacks by the crowd, without a thousand of them."""

from collections.abc import Callable
from datetime import datetime

from service.callbacks.limits import BurstDetector


class RandomBursts(BurstDetector):
    """Takes a share of all callbacks for members of a crowd, as the dice say."""

    def __init__(self, share: float, draw: Callable[[str], float]) -> None:
        super().__init__()
        self._share = share
        self._draw = draw

    def observe(self, now: datetime) -> bool:  # noqa: ARG002 - whenever it comes
        """Return whether one more callback is one of a crowd."""
        return self._draw("crowd") < self._share
