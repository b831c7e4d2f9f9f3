"""The response bodies of endpoints as pydantic models, like those of `service.api.schemas`."""

from typing import Annotated, Literal

from pydantic import Field

from service.api.schema_types import ApiModel, Id, Moment, Page, WholeNumber
from service.domain.endpoint import DisabledReason
from service.domain.operator_event import OperatorEventType
from service.domain.task import EventType

EndpointEvent = EventType | OperatorEventType | Literal["service.*"]
"""What the filter of an endpoint may name: operator events for that of an admin alone."""


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
    events: list[EndpointEvent] | None = Field(description="Null for all of tasks.")
    description: str
    headers: list[str] = Field(description="The names of its headers.")
    rate: str | None = Field(description="How many attempts start in a time, like `30/s`; null for no limit.")
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
