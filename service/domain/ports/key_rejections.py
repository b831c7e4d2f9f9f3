"""Since when the provider rejects our key."""

from datetime import datetime
from typing import Protocol


class KeyRejections(Protocol):
    """Since when the provider rejects our key, known to all processes."""

    async def rejected(self, now: datetime) -> bool:
        """Store that the key is rejected since `now`, unless it was before; return whether that is new."""

    async def accepted(self) -> bool:
        """Store that the key is accepted; return whether it was rejected before."""
