"""The bodies of circuits as pydantic models, like those of `service.api.schemas`."""

from typing import Literal

from pydantic import Field

from service.api.schema_types import ApiModel, Id, Moment, Page, WholeNumber


class Circuit(ApiModel):
    """A destination for which deliveries wait: a host of one client, or a handler."""

    key: Id
    handler: str
    host: str | None = Field(description="Null where the destination is the handler itself.")
    client: str | None = Field(description="The client whose address has this host.")
    state: Literal["open", "busy", "closed"] = Field(
        description="`open`: it fails; `busy`: it has asked to wait; `closed`: just closed by hand."
    )
    failures: WholeNumber = Field(description="Consecutive failures.")
    failing_since: Moment | None
    opened_at: Moment | None
    retry_at: Moment | None = Field(description="When the next probe may be made, or a busy one is tried again.")
    probes: WholeNumber = Field(description="Probes that have failed since it opened.")
    last_error: str | None


class CircuitPage(Page[Circuit]):
    """One page of circuits, by key."""
