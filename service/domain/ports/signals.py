"""What the parts of the service share: the time, and hints that something may be due."""

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Where `now` comes from."""

    def now(self) -> datetime:
        """Return this moment, aware, in UTC."""


class Signals(Protocol):
    """Hints between the parts of the service, and between its processes: never the truth, only a reason to look.

    Topics: `submit`, `reconcile`, `dispatch` (something may be due), `task:{id}` (that task changed), `events`.
    """

    def notify(self, *topics: str) -> None:
        """Wake whoever waits for any of `topics` in this process."""

    async def wait(self, topic: str, seconds: float) -> bool:
        """Return True as soon as `topic` rings, False after `seconds`."""
