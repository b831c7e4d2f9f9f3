"""The slots of handlers, as the recorder needs them: deliveries are leased by the commit that inserts them."""

from contextlib import AbstractContextManager
from datetime import datetime
from typing import Protocol

from service.domain.ports.unit_of_work import NewClaims
from service.domain.task import Json


class SlotReservations(Protocol):
    """The slots that one transaction reserves."""

    def lease(
        self, name: str, now: datetime, *, client: str | None = None, of: str = "", target: Json | None = None
    ) -> datetime | None:
        """Reserve a slot of handler `name`; return the end of the delivery's lease, None if the delivery must wait.

        `client` is whose share the slot is taken from; None where no request named a target. `of` is the client of the
        event: a delivery to a `target` whose circuit is open, or whose host has a rate, waits.
        """

    def grant(self, claims: NewClaims) -> None:
        """Take what has the claims on the deliveries that the transaction leased, once it is committed."""


class DeliverySlots(Protocol):
    """The handlers' slots in this process."""

    def reservations(self) -> AbstractContextManager[SlotReservations]:
        """Yield the reservations of one transaction; leaving the block normally starts the leased deliveries."""
