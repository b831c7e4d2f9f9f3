"""The clock, and notifications that something may be due."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """A source of the current time."""

    def now(self) -> datetime:
        """Return the current time, aware and in UTC."""


class Signals(Protocol):
    """Notifications inside the service and between its processes: hints that something changed, without its content.

    Topics: `submit`, `reconcile`, `dispatch`, `watch` (something may be due), `task:{id}` (that task changed),
    `events`.
    """

    def notify(self, *topics: str) -> None:
        """Wake all waiters for any of `topics` in this process."""

    async def wait(self, topic: str, seconds: float) -> bool:
        """Return True as soon as `topic` is notified, False after `seconds`."""
