"""The bodies of endpoints as pydantic models: requests are validated with them, and the document is made from them."""

from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field

from service.api.request_schemas import SECRET_PATTERN
from service.api.schema_types import ApiModel, Id, Moment, Page, WholeNumber, optional
from service.domain.endpoint import DisabledReason
from service.domain.endpoint_fields import (
    HEADER_NAME,
    HEADER_VALUE,
    MAX_DESCRIPTION,
    MAX_HEADER_NAME,
    MAX_HEADER_VALUE,
    MAX_HEADERS,
    MAX_URL,
)
from service.domain.task import EventType
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
        description="The events that it gets; null for all.",
        json_schema_extra={
            "anyOf": [
                {
                    "type": "array",
                    "items": {"type": "string", "enum": [each.value for each in EventType]},
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
Time = Annotated[AwareDatetime, BeforeValidator(_read_time)]


class EndpointRequest(ApiModel):
    """A new endpoint: a standing address that gets the events of all tasks of its client."""

    url: Url
    events: Events = optional()
    description: Description = optional()
    secret: Secret = optional("Signs the events. Without it a new one is made.")
    headers: CustomHeaders = optional()


class EndpointPatch(ApiModel):
    """The fields of an endpoint to change; the others stay."""

    url: Url = optional()
    events: Events = optional()
    description: Description = optional()
    headers: CustomHeaders = optional()
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
    until: Time = optional("Exclusive; by default now.")
    dry_run: bool = optional("Only count.")
    cursor: Annotated[str, Field(pattern="^[A-Za-z0-9_-]+$", max_length=100)] = optional(
        "The `next_cursor` of a call that reached its time limit, with the same times."
    )


class RecentAttempts(ApiModel):
    """The outcomes of the last 100 attempts."""

    succeeded: WholeNumber
    failed: WholeNumber


class EndpointHealth(ApiModel):
    """What the last attempts say about an endpoint."""

    last_success_at: Moment | None
    last_failure_at: Moment | None
    last_failure_status: int | None = Field(description="The HTTP status; null where there was no answer.")
    last_failure_error: str | None
    consecutive_failures: WholeNumber
    failing_since: Moment | None = Field(description="The first failure after the last success.")
    recent: RecentAttempts


class Endpoint(ApiModel):
    """A standing webhook address of a client."""

    id: Id
    client: str
    url: str = Field(description="Of another client an admin sees only scheme and host.")
    events: list[EventType] | None = Field(description="Null for all.")
    description: str
    headers: list[str] = Field(description="The names of its headers.")
    paused: bool
    disabled: bool
    disabled_at: Moment | None
    disabled_reason: DisabledReason | None = Field(
        description="`gone`: the receiver answered 410; `failing`: every attempt failed for 5 days."
    )
    old_secrets_until: Moment | None = Field(description="Until when a replaced secret signs beside the newest one.")
    created_at: Moment
    updated_at: Moment
    health: EndpointHealth


class EndpointWithSecret(Endpoint):
    """An endpoint with its secret, which is shown only here."""

    secret: str


class EndpointPage(Page[Endpoint]):
    """One page of endpoints, newest first."""


class EndpointTest(ApiModel):
    """What became of a test event: it is sent once, and is no delivery."""

    delivered: bool
    status: int | None = Field(description="The HTTP status; null where there was no answer.")
    answer: str | None = Field(description="The first KiB of the answer.")
    error: str | None
    seconds: Annotated[float, Field(ge=0)]
    message_id: str = Field(description="The `webhook-id` of the event.")


class MissedReport(ApiModel):
    """What one call has replayed, or would replay."""

    dry_run: bool
    matched: WholeNumber = Field(description="Events that the endpoint wants and has not got.")
    without_delivery: WholeNumber = Field(description="Of these: events for which no delivery was ever made.")
    dead: WholeNumber = Field(description="Of these: dead letters.")
    created: WholeNumber = Field(description="New deliveries.")
    replayed: WholeNumber = Field(description="Dead letters that are delivered again.")
    sample: list[Id] = Field(description="The first of these events.")
    last_due_at: Moment | None = Field(description="When the last one is due: 50 a second.")
    next_cursor: str | None = Field(description="Where to continue after the time limit; null at the end.")
