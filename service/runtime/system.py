"""The clock of the process, and ids that sort by creation time: UUID version 7 (RFC 9562, section 5.7)."""

import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime

MAX_62_BITS = (1 << 62) - 1


class SystemClock:
    """The clock of the operating system."""

    def now(self) -> datetime:
        """Return the current time in UTC, with its time zone."""
        return datetime.now(UTC)


def uuid7_factory(
    milliseconds: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    random_bits: Callable[[int], int] = secrets.randbits,
) -> Callable[[], str]:
    """Return a function that makes ids; each is greater than the previous one, even when the clock moves back."""
    last = 0

    def make() -> str:
        nonlocal last
        drawn = random_bits(70)  # at once, as each call asks the operating system
        last = max(last + 1, (milliseconds() << 12) | (drawn >> 62))
        stamp, sequence = last >> 12, last & 0xFFF
        value = stamp << 80 | 0x7 << 76 | sequence << 64 | 0b10 << 62 | (drawn & MAX_62_BITS)
        digits = f"{value:032x}"
        return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"

    return make
