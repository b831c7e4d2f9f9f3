"""Decide which faults strike, from one seed, so that a run repeats whatever the order of its requests."""

import random
from collections import Counter
from hashlib import blake2b

from service.sandbox.switch_types import First, Span
from service.sandbox.switches import Switches


class SeededFaults:
    """Draw for each named fault and occasion; equal seeds and occasions give equal draws."""

    def __init__(self, source: random.Random) -> None:
        self._seed = source.getrandbits(128).to_bytes(16)
        self._seen: Counter[str] = Counter()

    def draw(self, fault: str, occasion: str) -> float:
        """Return a number from 0 up to 1 that only the seed, the fault and the occasion decide."""
        digest = blake2b(f"{fault}/{occasion}".encode(), key=self._seed, digest_size=8).digest()
        return int.from_bytes(digest) / 2**64

    def hits(self, switches: Switches, fault: str, occasion: str) -> bool:
        """Say whether the fault of that switch strikes on this occasion, and count the occasion."""
        chance: float | First = getattr(switches, fault)
        if isinstance(chance, First):
            self._seen[fault] += 1
            return self._seen[fault] <= chance.count
        return chance > 0.0 and self.draw(fault, occasion) < chance

    def within(self, span: Span, name: str, occasion: str) -> float:
        """Return seconds inside the span."""
        if not isinstance(span, tuple):
            return span
        low, high = span
        return low + (high - low) * self.draw(name, occasion)

    def forget(self, fault: str) -> None:
        """Count the first occasions of a fault anew."""
        self._seen.pop(fault, None)
