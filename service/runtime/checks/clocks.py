"""Comparison of the own clock with that of another machine."""

from datetime import datetime, timedelta

from service.runtime.checks.finding import Finding, fault, ok, warning

NOTICEABLE = timedelta(seconds=5)
"""Below it, the difference may be that of a busy machine, or of a time without fractions of a second."""

HARMFUL = timedelta(seconds=60)
"""From it on, tokens are refused that another process has just signed, and leases expire early or late."""

FIX = "set the clock of this machine with NTP (timedatectl set-ntp true), or that of the other one"


def compare_clocks(whose: str, time: datetime, before: datetime, after: datetime) -> list[Finding]:
    """Return what differs between `time`, read at `whose` clock between two moments of our own, and those moments."""
    ahead = time - after if time > after else before - time if time < before else timedelta()
    text = f"the clock of {whose} differs from this one by {ahead.total_seconds():.0f} s"
    if ahead >= HARMFUL:
        return [fault(text, FIX)]
    if ahead >= NOTICEABLE:
        return [warning(text, FIX)]
    return [ok(f"the clock of {whose} agrees with this one")]
