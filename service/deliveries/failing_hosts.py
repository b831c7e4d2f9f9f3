"""The hosts of clients' addresses that fail now: attempts to one host back off together."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

MAX_PAUSE = timedelta(minutes=10)
"""Longest time after a failed attempt in which no other attempt is made to its host."""

TURN = timedelta(seconds=2)
"""Time after a pause in which the address that failed last gives way to others that wait."""

MAX_HOSTS = 10_000
"""Hosts that are remembered; the one whose last failure is the oldest is dropped first."""

HostKey = tuple[str, str]
"""A client and a host: a client does not delay the deliveries of another one."""


@dataclass(kw_only=True, slots=True)
class _Pause:
    """A pause of a host: its end, the address that failed last, and whether another address has waited since."""

    until: datetime
    address: int
    others_wait: bool = False


@dataclass(kw_only=True)
class FailingHosts:
    """Remembers, in this process, until when no attempt is made to a host that failed.

    An `address` is the hash of a whole address: after a pause, the one that failed last gives way to another one.
    """

    _pauses: OrderedDict[HostKey, _Pause] = field(default_factory=OrderedDict)

    def pause(self, key: HostKey, now: datetime, timeout: timedelta, address: int = 0) -> datetime | None:
        """Return until when an attempt has to wait, or None if it may be made.

        After the pause one attempt is made, and the others wait for its result, at most for its `timeout`. If other
        addresses wait, one of them has the turn: a path that does not exist must not stop those that do.
        """
        pause = self._pauses.get(key)
        if pause is None or pause.until - now > MAX_PAUSE + timeout:  # the clock jumped back
            return None
        if pause.until > now:
            pause.others_wait |= address != pause.address
            return pause.until
        if pause.others_wait and address == pause.address:
            pause.others_wait = False
            return now + TURN
        pause.until = now + timeout
        return None

    def failed(self, key: HostKey, now: datetime, next_attempt: datetime, address: int = 0) -> None:
        """Note a failed attempt; the pause ends with the next attempt of its delivery, at most MAX_PAUSE later."""
        self._pauses[key] = _Pause(until=min(next_attempt, now + MAX_PAUSE), address=address)
        self._pauses.move_to_end(key)
        if len(self._pauses) > MAX_HOSTS:
            self._pauses.popitem(last=False)

    def answered(self, key: HostKey) -> None:
        """Note an attempt that the host accepted."""
        self._pauses.pop(key, None)
