"""The bodies of the API's requests and answers as pydantic models: the source of the schemas of `/openapi.json`.

No request passes through them: endpoints write plain dicts, and the tests hold real answers against these models. The
docstring of a model is its description in the document; a model without one has no description there.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag

from service.api.deliveries import DeliveryStatus
from service.api.problems import TYPE_PREFIX
from service.domain.models.catalog import known_models
from service.domain.notify import MAX_ENTRIES, WEBHOOK
from service.domain.ports.queues import Outcome, ResponsibleParty
from service.domain.task import EventType, Source, Status

ID_PATTERN = "^[A-Za-z0-9_-]{1,64}$"
_64 = "[A-Za-z0-9+/]"
SECRET_PATTERN = f"^whsec_(({_64}{{4}}){{8,21}}({_64}{{2}}==)?|({_64}{{4}}){{8,20}}{_64}{{3}}=)$"

T = TypeVar("T")

Id = Annotated[str, Field(pattern=ID_PATTERN)]
WholeNumber = Annotated[int, Field(ge=0)]
Moment = Annotated[AwareDatetime, Field(description="RFC 3339, in UTC, to the millisecond.")]
Address = Annotated[str, Field(pattern=r"^https?://[^\s/?#]\S*$", max_length=8192)]
FaultOwner = Annotated[ResponsibleParty, Field(description="Whose fault a dead letter is.")]


def optional(description: str | None = None) -> Any:
    """Return the field of a key that may be left out; its type alone decides whether null is allowed."""
    return Field(default_factory=lambda: None, description=description)


class ApiModel(BaseModel):
    """A JSON object of the API. Types are not converted and unknown keys are refused."""

    model_config = ConfigDict(strict=True, extra="forbid")


# Requests


class NotifyEntryFields(ApiModel):
    url: Address | None = optional()
    events: Annotated[list[EventType], Field(min_length=1)] | None = optional("Left out: all that the handler hears.")
    secret: Annotated[str, Field(pattern=SECRET_PATTERN)] | None = optional("Signs instead of WEBHOOK_SECRETS.")


class WebhookEntry(NotifyEntryFields):
    handler: Literal["webhook"]
    url: Address


class HandlerEntry(NotifyEntryFields):
    """May have fields of the handler's own."""

    model_config = ConfigDict(extra="allow")

    handler: str = Field(description="The name of a loaded handler.", json_schema_extra={"not": {"const": WEBHOOK}})


def _entry_tag(entry: Any) -> str:
    handler = entry.get("handler") if isinstance(entry, Mapping) else getattr(entry, "handler", None)
    return WEBHOOK if handler == WEBHOOK else "other"


AnyNotifyEntry = Annotated[
    Annotated[WebhookEntry, Tag(WEBHOOK)] | Annotated[HandlerEntry, Tag("other")], Discriminator(_entry_tag)
]


class NotifyEntry(RootModel[AnyNotifyEntry]):
    pass


class TaskRequest(ApiModel):
    """No text in it may hold the character U+0000."""

    model: str = Field(json_schema_extra={"enum": [*known_models()]})
    params: dict[str, Any]
    metadata: dict[str, Any] = optional(
        "The caller's own, at most 64 KiB of JSON; it comes back in the task and its events."
    )
    notify: Annotated[list[NotifyEntry], Field(max_length=MAX_ENTRIES)] | None = optional(
        "Who else is to hear of the task's events."
    )


class ProviderCallback(RootModel[Any]):
    pass


# Tasks


class TaskError(ApiModel):
    """The upstream's own code and words, or ours (`submission_unknown`)."""

    code: str
    message: str


class Usage(ApiModel):
    cost: str | None = Field(description="US dollars, as decimal digits.")
    discount: float | None


class OutputItem(ApiModel):
    """One result; what else the upstream tells of it stands beside."""

    model_config = ConfigDict(extra="allow")

    type: str
    url: str = Field(description="The upstream's address, which may soon expire.")
    archived_url: str = optional("Where the `archive` handler keeps the file.")


class Task(ApiModel):
    id: Id
    model: str
    status: Status
    upstream_id: str | None
    params: dict[str, Any] = Field(description="As given; in place of each inline medium its type, size and hash.")
    metadata: dict[str, Any]
    progress: Annotated[float, Field(ge=0, le=1)] | None
    output: list[OutputItem]
    error: TaskError | None
    warnings: list[str]
    usage: Usage | None
    settled_by: Source | None
    unconfirmed: bool = Field(description="Only a callback told the end: no GET could confirm it.")
    note: str | None = Field(description="What the task waits for, when it waits for something.")
    resubmission_of: str | None = Field(description="The task that this one repeats.")
    created_at: Moment
    submitted_at: Moment | None
    settled_at: Moment | None
    deadline_at: Moment


class TaskWithPayload(Task):
    payload: str | None = Field(description="The caller's own `params.payload`.")


class Artifact(ApiModel):
    """What a handler has kept of the output."""

    url: str
    archived_url: str
    sha256: str
    bytes: WholeNumber
    media_type: str


# Deliveries and events


class DeliveryFields(ApiModel):
    id: Id
    event_id: str
    handler: str
    status: DeliveryStatus
    attempts: WholeNumber = Field(description="Since the last replay.")
    due_at: Moment | None
    fault: FaultOwner | None
    last_error: str | None
    finished_at: Moment | None


class Delivery(DeliveryFields):
    """One event for one handler."""

    task_id: Id
    client: str
    event_type: EventType
    created_at: Moment


class EventData(ApiModel):
    task: Task
    payload: str | None
    metadata: dict[str, Any]
    client: str = Field(description="Whose task it is: one secret may sign for all clients.")


class Event(ApiModel):
    """What the `webhook` handler posts, signed as Standard Webhooks says."""

    type: EventType
    timestamp: Moment
    data: EventData


# The history of a task


class TaskWithArtifact(Task):
    artifact: Artifact = optional()


class EventEntry(ApiModel):
    at: Moment
    kind: Literal["event"]
    id: str
    type: EventType
    data: TaskWithArtifact


class CallbackEntry(ApiModel):
    at: Moment
    kind: Literal["callback"]
    submission: WholeNumber
    verdict: str


class PollEntry(ApiModel):
    at: Moment
    kind: Literal["poll"]
    outcome: str


class DeliveryEntry(DeliveryFields):
    at: Moment
    kind: Literal["delivery"]


class AttemptEntry(ApiModel):
    at: Moment
    kind: Literal["attempt"]
    delivery_id: str
    handler: str
    attempt: Annotated[int, Field(ge=1)]
    outcome: Outcome
    error: str | None
    finished_at: Moment


AnyHistoryEntry = Annotated[
    EventEntry | CallbackEntry | PollEntry | DeliveryEntry | AttemptEntry, Field(discriminator="kind")
]


class HistoryEntry(RootModel[AnyHistoryEntry]):
    pass


# Everything else


class Model(ApiModel):
    id: str
    parameters: dict[str, Any] = Field(description="The `params` of a task, as JSON Schema 2020-12.")


class Fault(ApiModel):
    """One fault: where, and its mend."""

    loc: list[str | int]
    msg: str


class Problem(ApiModel):
    """RFC 9457; `errors` holds every fault of the request at once."""

    type: str = Field(description=f"`{TYPE_PREFIX}...`, or `about:blank` where the status says it all.")
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str = optional()
    errors: list[Fault] = optional()
    error_id: str = optional("Under which our log has an unforeseen fault.")


class ItemList(ApiModel, Generic[T]):
    data: list[T]


class Page(ItemList[T], Generic[T]):
    next_cursor: str | None = Field(description="Ask with it as `cursor` for the next page; null on the last one.")


class ProcessState(ApiModel):
    status: str


class Counts(RootModel[dict[str, WholeNumber]]):
    pass


class MetricsText(RootModel[str]):
    pass


class OpenApiDocument(RootModel[dict[str, Any]]):
    pass
