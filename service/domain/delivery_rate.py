"""How many deliveries of a handler may start in a time, over all processes. Only computes."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

OWN_RATE = "RATE_"
"""Begins the name of the setting with the rate of one handler."""

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
RATE = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)/(s|m|h)")


def rate_of(text: str) -> float:
    """Return the rate per second that `10/s`, `600/m` or `36000/h` names; raises ValueError."""
    match = RATE.fullmatch(text)
    if match is None or not float(match[1]):
        raise ValueError("must be deliveries for a time, more than 0, like 30/s, 600/m or 36000/h")
    return float(match[1]) / UNITS[match[2]]


@dataclass(frozen=True, kw_only=True)
class TokenBucket:
    """A token bucket: `rate` tokens come in a second, and as many, at least one, are kept.

    `free_at` is when the next token may be taken; the further it lies in the past, the more there are.
    """

    rate: float
    free_at: datetime

    def tokens(self, now: datetime) -> int:
        """Return how many tokens may be taken at `now`."""
        full = max(1.0, self.rate)
        waited = max(0.0, (now - self.free_at).total_seconds())
        return 0 if now < self.free_at else int(min(full, waited * self.rate + 1.0) + 1e-9)

    def after(self, taken: int, now: datetime) -> datetime:
        """Return when the next token may be taken after `taken` ones were taken at `now`."""
        kept = timedelta(seconds=(max(1.0, self.rate) - 1.0) / self.rate)
        return max(self.free_at, now - kept) + timedelta(seconds=taken / self.rate)
