"""The circuits of destinations, which all processes share."""

from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from service.domain.circuit import LIMITS, Circuit, CircuitLimits, Destination, HealthSign
from service.domain.task import Json


@dataclass(frozen=True, kw_only=True)
class DestinationHealth:
    """What an attempt says about its destination; `busy_until` is until when that has asked to wait.

    A `probe` was made although the circuit is open.
    """

    destination: Destination
    sign: HealthSign
    busy_until: datetime | None = None
    probe: bool = False
    limits: CircuitLimits = LIMITS


@dataclass(frozen=True, kw_only=True)
class Block:
    """Why a due delivery may not be attempted: the circuit with this key blocks it, until a time at least."""

    key: str
    until: datetime


class Blocks(Protocol):
    """The circuits that block deliveries, as this process knows them."""

    @property
    def any(self) -> bool:
        """Whether there is one at all."""

    def block(self, handler: str, client: str, target: Json, waiting_since: datetime | None) -> Block | None:
        """Return what blocks a delivery that has waited since a time, None where it may be attempted."""


class NoBlocks:
    """Implements `Blocks` without a circuit."""

    any = False

    def block(self, handler: str, client: str, target: Json, waiting_since: datetime | None) -> Block | None:  # noqa: ARG002 - as in Blocks
        """Return None."""
        return None


NO_BLOCKS = NoBlocks()


class Circuits(Protocol):
    """Stores the circuits."""

    async def recent(self, *, now: datetime) -> list[Circuit]:
        """Return those that block or wake deliveries, and those that have changed lately."""

    async def listed(self, *, limit: int, after: str | None, only_open: bool = False) -> list[Circuit]:
        """Return circuits that are open or busy, or `only_open` ones, by key, after the one with the key `after`."""

    async def probe(self, key: str, *, now: datetime) -> bool:
        """Make one waiting delivery due that probes an open circuit, or close it if none waits; return whether so.

        Of many processes one does it.
        """

    async def close(self, key: str, *, now: datetime) -> Circuit | None:
        """Close a circuit, so that what waits for it becomes due; return it, None if it is unknown."""

    async def wake(self, key: str, *, now: datetime) -> int:
        """Make deliveries due that have waited for a circuit which is closed now; return how many."""

    async def prune(self, *, before: datetime) -> int:
        """Delete circuits without a meaning and full rate buckets of hosts, unchanged since a time; return how many."""
