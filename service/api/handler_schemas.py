"""The bodies of the handlers' controls as pydantic models, like those of `service.api.schemas`."""

from typing import Annotated, Any, Literal

from pydantic import Field

from service.api.schema_types import ApiModel, ItemList, Moment, optional
from service.domain.task import EventType


class Handler(ApiModel):
    """A handler, and whether its deliveries wait."""

    name: str
    loaded: bool = Field(description="Whether the process that answers has loaded it; others may have.")
    paused: bool
    paused_at: Moment | None
    paused_by: str | None = Field(description="The client whose key paused it.")
    events: list[EventType] | None = Field(description="What it receives; null where it is not loaded.")
    by_request: bool | None = Field(
        description="Whether it receives only what `notify` asks for; null where it is not loaded."
    )


class HandlerList(ItemList[Handler]):
    """Every handler that is loaded, is paused or has pending deliveries, by name."""


class HandlerTestRequest(ApiModel):
    """What a test event is made of; everything may be left out."""

    target: dict[str, Any] | None = optional("What its `notify` entry has beside `handler`.")
    event: Annotated[str, Field(json_schema_extra={"enum": [each.value for each in EventType]})] = optional(
        "The type of the event, by default the first that it receives."
    )


class HandlerTest(ApiModel):
    """How the attempt of a test event ended; nothing is stored."""

    handler: str
    event: EventType
    outcome: Literal["delivered", "retry", "dead"]
    error: str | None
    seconds: Annotated[float, Field(ge=0)]
