"""The request bodies of endpoints as pydantic models: they validate requests, and the document is made from them."""

from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field

from service.api.schema_types import SECRET_PATTERN, ApiModel, optional
from service.domain.endpoint_fields import (
    HEADER_NAME,
    HEADER_VALUE,
    MAX_DESCRIPTION,
    MAX_HEADER_NAME,
    MAX_HEADER_VALUE,
    MAX_HEADERS,
    MAX_URL,
    RATE,
)
from service.domain.event_routing import EVENT_NAMES
from service.domain.operator_event import OPERATOR_EVENT_NAMES
from service.domain.task_view import parse_time

MAX_OVERLAP = 7 * 86_400
DEFAULT_OVERLAP = 86_400
"""Seconds during which the replaced secret signs beside the new one."""


def _read_time(value: Any) -> Any:
    return parse_time(value) if isinstance(value, str) else value


Url = Annotated[
    str,
    Field(
        description="An http or https address that is public, or that NOTIFY_ALLOW names.",
        json_schema_extra={"pattern": r"^https?://[^\s/?#@]+([/?][^\s#]*)?$", "maxLength": MAX_URL},
    ),
]
Events = Annotated[
    list[str] | None,
    Field(
        description="The events that it gets; null for all of tasks. Operator events are for endpoints of admins.",
        json_schema_extra={
            "anyOf": [
                {
                    "type": "array",
                    "items": {"type": "string", "enum": [*EVENT_NAMES, *OPERATOR_EVENT_NAMES]},
                    "minItems": 1,
                    "uniqueItems": True,
                },
                {"type": "null"},
            ]
        },
    ),
]
Description = Annotated[str, Field(json_schema_extra={"maxLength": MAX_DESCRIPTION})]
Secret = Annotated[str, Field(json_schema_extra={"pattern": SECRET_PATTERN})]
CustomHeaders = Annotated[
    dict[str, str],
    Field(
        description="Headers that are sent with each event. Their values are never shown again.",
        json_schema_extra={
            "maxProperties": MAX_HEADERS,
            "propertyNames": {"pattern": f"^{HEADER_NAME.pattern}$", "maxLength": MAX_HEADER_NAME},
            "additionalProperties": {
                "type": "string",
                "pattern": f"^{HEADER_VALUE.pattern}$",
                "maxLength": MAX_HEADER_VALUE,
            },
        },
    ),
]
Rate = Annotated[
    str | None,
    Field(
        description="How many attempts start in a time, over all processes: 30/s, 600/m, 36000/h; null for no limit.",
        json_schema_extra={"anyOf": [{"type": "string", "pattern": f"^{RATE.pattern}$"}, {"type": "null"}]},
    ),
]
Time = Annotated[AwareDatetime, BeforeValidator(_read_time)]


class EndpointRequest(ApiModel):
    """A new endpoint: a standing address that gets the events of all tasks of its client."""

    url: Url
    events: Events = optional()
    description: Description = optional()
    secret: Secret = optional("Signs the events. Without it a new one is made.")
    headers: CustomHeaders = optional()
    rate: Rate = optional()


class EndpointPatch(ApiModel):
    """The fields of an endpoint to change; the others stay."""

    url: Url = optional()
    events: Events = optional()
    description: Description = optional()
    headers: CustomHeaders = optional()
    rate: Rate = optional()
    paused: bool = optional("A paused endpoint gets nothing; what waits is delivered once it is resumed.")
    disabled: Annotated[bool, Field(json_schema_extra={"const": False})] = optional(
        "Only false: enables an endpoint that was disabled. To stop one, pause it."
    )


class RotateRequest(ApiModel):
    """How to replace the secret of an endpoint."""

    secret: Secret = optional("The new secret. Without it one is made.")
    overlap_seconds: Annotated[int, Field(ge=0, le=MAX_OVERLAP)] = optional(
        f"How long the replaced secret signs beside the new one, by default {DEFAULT_OVERLAP}; 0 ends all older ones."
    )


class MissedRequest(ApiModel):
    """The time of the events to replay: those that the endpoint wants and has not got."""

    since: Time
    until: Time = optional("Exclusive; by default there is no end.")
    dry_run: bool = optional("Only count.")
    cursor: Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", max_length=100)] = optional(
        "The `next_cursor` of a call that reached its time limit, with the same times."
    )
