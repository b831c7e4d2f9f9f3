"""Putting deliveries through again, on a person's word."""

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from service.domain.ports.signals import Clock


class Replayable(Protocol):
    """Where deliveries are kept."""

    async def replay(self, delivery_ids: Sequence[str], *, now: datetime) -> list[str]:
        """Make dead or delivered deliveries due again, with a fresh message id and schedule; return those found."""


class ReplayService:
    """Makes deliveries due again from now: each with a fresh message id, so that no receiver takes it for a repeat."""

    def __init__(self, deliveries: Replayable, clock: Clock) -> None:
        self._deliveries = deliveries
        self._clock = clock

    async def replay(self, ids: Sequence[str]) -> list[str]:
        """Make the dead and delivered ones of `ids` due again; return their ids."""
        return await self._deliveries.replay(ids, now=self._clock.now())
