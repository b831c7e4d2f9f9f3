"""The events of the event stream as a pydantic model."""

from typing import Annotated

from pydantic import Field
from pydantic.config import JsonDict

from service.api.schema_types import ApiModel
from service.domain.task import EventType

EVENT_TEXT: JsonDict = {"contentMediaType": "application/json", "contentSchema": {"$ref": "#/components/schemas/Event"}}


class StreamedEvent(ApiModel):
    """One event of the stream, with the fields of server-sent events."""

    id: Annotated[str, Field(pattern="^[0-9]{1,16}$")] = Field(description="Its position: send the last one to resume.")
    event: EventType
    data: str = Field(description="The event as JSON.", json_schema_extra=EVENT_TEXT)
