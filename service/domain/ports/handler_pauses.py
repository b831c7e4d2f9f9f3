"""The pauses of handlers, which all processes obey."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

CONTROLS = "controls"
"""The topic of changes that all dispatchers obey."""


@dataclass(frozen=True, kw_only=True)
class HandlerPause:
    """A pause of a handler: its stored name, all its names, since when, and the name of the admin who asked for it."""

    handler: str
    names: tuple[str, ...] = ()
    since: datetime
    by: str


class HandlerPauses(Protocol):
    """Stores which handlers are paused."""

    async def paused(self) -> dict[str, HandlerPause]:
        """Return the pauses by the stored name of the handler."""

    async def pause(self, handler: str, *, names: Sequence[str], by: str, now: datetime) -> HandlerPause:
        """Pause a handler durably and return its pause; one that is paused stays as it is."""

    async def resume(self, handler: str) -> bool:
        """End the pause of a handler; return whether it was paused."""
