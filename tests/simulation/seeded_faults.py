"""Random draws by name: a fault depends on the seed, its name and the occasion alone."""

from hashlib import blake2b


class SeededFaults:
    """Draws numbers from 0 up to 1; a fault that is switched off does not change the others."""

    def __init__(self, seed: int) -> None:
        self._key = seed.to_bytes(16, "big")

    def draw(self, what: str, occasion: str) -> float:
        """Return the number for `what` on `occasion`."""
        return int.from_bytes(blake2b(f"{what}/{occasion}".encode(), key=self._key, digest_size=7).digest()) / 2**56
