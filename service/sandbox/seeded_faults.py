"""Decide from one seed which faults occur, so that a run is repeatable in any order of its requests."""

import random
from collections import Counter
from hashlib import blake2b

from service.sandbox.switch_types import First, Span
from service.sandbox.switches import Switches


class SeededFaults:
    """Draw a number for each fault and occasion; equal seeds and occasions give equal numbers."""

    def __init__(self, source: random.Random) -> None:
        self._seed = source.getrandbits(128).to_bytes(16)
        self._occasions: Counter[str] = Counter()

    def draw(self, fault: str, occasion: str) -> float:
        """Return a number from 0 up to 1 that depends only on the seed, the fault and the occasion."""
        digest = blake2b(f"{fault}/{occasion}".encode(), key=self._seed, digest_size=8).digest()
        return int.from_bytes(digest) / 2**64

    def hits(self, switches: Switches, fault: str, occasion: str) -> bool:
        """Return whether the fault of that switch occurs on this occasion; `First` counts the occasion."""
        chance: float | First = getattr(switches, fault)
        if isinstance(chance, First):
            self._occasions[fault] += 1
            return self._occasions[fault] <= chance.count
        return chance > 0.0 and self.draw(fault, occasion) < chance

    def within(self, span: Span, name: str, occasion: str) -> float:
        """Return a number of seconds inside the span."""
        if not isinstance(span, tuple):
            return span
        low, high = span
        return low + (high - low) * self.draw(name, occasion)

    def reset(self, fault: str) -> None:
        """Start counting the occasions of a fault from zero."""
        self._occasions.pop(fault, None)
