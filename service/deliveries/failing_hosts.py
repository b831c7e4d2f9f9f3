"""The hosts of clients' addresses that fail now: attempts to one host back off together."""

from collections import OrderedDict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

MAX_PAUSE = timedelta(minutes=10)
"""Longest time after a failed attempt in which no other attempt is made to its host."""

MAX_HOSTS = 10_000
"""Hosts that are remembered; the one whose last failure is the oldest is dropped first."""

HostKey = tuple[str, str]
"""A client and a host: a client does not delay the deliveries of another one."""


@dataclass(kw_only=True)
class FailingHosts:
    """Remembers, in this process, until when no attempt is made to a host that failed."""

    _until: OrderedDict[HostKey, datetime] = field(default_factory=OrderedDict)

    def pause(self, key: HostKey, now: datetime, timeout: timedelta) -> datetime | None:
        """Return until when an attempt has to wait, or None if it may be made.

        After the pause one attempt is made, and the others wait for its result, at most for its `timeout`.
        """
        until = self._until.get(key)
        if until is None or until - now > MAX_PAUSE + timeout:  # the clock jumped back
            return None
        if until > now:
            return until
        self._until[key] = now + timeout
        return None

    def failed(self, key: HostKey, now: datetime, next_attempt: datetime) -> None:
        """Note a failed attempt; the pause ends with the next attempt of its delivery, at most MAX_PAUSE later."""
        self._until[key] = min(next_attempt, now + MAX_PAUSE)
        self._until.move_to_end(key)
        if len(self._until) > MAX_HOSTS:
            self._until.popitem(last=False)

    def answered(self, key: HostKey) -> None:
        """Note an attempt that the host accepted."""
        self._until.pop(key, None)
