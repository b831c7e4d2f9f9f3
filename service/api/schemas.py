"""The request and response bodies of the API as pydantic models: the source of the schemas of `/openapi.json`.

No request passes through them: endpoints write plain dicts, and tests validate real responses against these models. The
docstring of a model is its description in the document.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, RootModel, Tag

from service.api.deliveries import DeliveryStatus
from service.api.problems import TYPE_PREFIX
from service.domain.error_kinds import ErrorKind
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
FaultOwner = Annotated[ResponsibleParty, Field(description="The party responsible for a dead letter.")]


def _optional(description: str | None = None) -> Any:
    """Return the field of an optional key; its type decides whether null is allowed."""
    return Field(default_factory=lambda: None, description=description)


class ApiModel(BaseModel):
    """A JSON object of the API. Types are not converted and unknown keys are refused."""

    model_config = ConfigDict(strict=True, extra="forbid")


# Requests


class NotifyEntryFields(ApiModel):
    url: Address | None = _optional()
    events: Annotated[list[EventType], Field(min_length=1)] | None = _optional("Without it, all events of the handler.")
    secret: Annotated[str, Field(pattern=SECRET_PATTERN)] | None = _optional("Signs in place of all other secrets.")


class WebhookEntry(NotifyEntryFields):
    handler: Literal["webhook"]
    url: Address


class HandlerEntry(NotifyEntryFields):
    """May have further fields, which the handler defines."""

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
    """No text may contain the character U+0000."""

    model: str = Field(json_schema_extra={"enum": [*known_models()]})
    params: dict[str, Any]
    metadata: dict[str, Any] = _optional(
        "Data of the caller, at most 64 KiB of JSON. The task and its events contain it."
    )
    notify: Annotated[list[NotifyEntry], Field(max_length=MAX_ENTRIES)] | None = _optional(
        "Further recipients of the events of the task."
    )


class ProviderCallback(RootModel[Any]):
    pass


# Tasks


class TaskError(ApiModel):
    """Code and message of the provider, or of this service (`submission_unknown`), and their kind."""

    kind: ErrorKind = Field(
        description="`content`: a policy refuses it; `input`: the request has to change; `credit`: the provider's"
        " account is empty; `provider`: the provider failed; `timeout`; `unknown`."
    )
    code: str
    message: str


class Usage(ApiModel):
    cost: str | None = Field(description="US dollars, as decimal digits.")
    discount: float | None


class OutputItem(ApiModel):
    """One result. It may have further fields of the provider."""

    model_config = ConfigDict(extra="allow")

    type: str
    url: str = Field(description="URL at the provider, which may expire soon.")
    archived_url: str = _optional("URL of the copy that the `archive` handler stored.")


class Task(ApiModel):
    id: Id
    model: str
    status: Status
    upstream_id: str | None
    params: dict[str, Any] = Field(description="As submitted, with type, size and hash in place of inline media.")
    metadata: dict[str, Any] = _optional("Lists leave it out, except with `include=metadata`.")
    progress: Annotated[float, Field(ge=0, le=1)] | None
    output: list[OutputItem]
    error: TaskError | None
    warnings: list[str]
    usage: Usage | None
    settled_by: Source | None
    unconfirmed: bool = Field(description="Only a callback reported the end; no poll could confirm it.")
    note: str | None = Field(description="What the task waits for, if anything.")
    resubmission_of: str | None = Field(description="The task that this one resubmits.")
    created_at: Moment
    submitted_at: Moment | None
    settled_at: Moment | None
    deadline_at: Moment


class TaskWithPayload(Task):
    metadata: dict[str, Any]
    payload: str | None = Field(description="The `params.payload` of the caller.")


class Artifact(ApiModel):
    """The copy of the output that a handler stored."""

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
    attempts: WholeNumber = Field(description="Attempts since the last replay.")
    due_at: Moment | None
    fault: FaultOwner | None
    last_error: str | None = Field(description="An admin sees all of it.")
    finished_at: Moment | None
    requested: bool = Field(description="Whether a `notify` entry asked for it; a client replays no other one.")


class Delivery(DeliveryFields):
    """One event for one handler."""

    task_id: Id
    client: str
    event_type: EventType
    created_at: Moment


class EventData(ApiModel):
    task: Task
    payload: str | None = Field(description="The caller's own; null if it has more than 64 KiB.")
    payload_bytes: WholeNumber = _optional("The size of a payload that is left out.")
    payload_url: str = _optional("The path of its task.")
    metadata: dict[str, Any]
    client: str = Field(description="The client of the task; one secret may sign for all clients.")


class Event(ApiModel):
    """The body that the `webhook` handler posts, signed according to Standard Webhooks."""

    id: str = Field(description="The event, the same over attempts and replays.")
    type: EventType
    timestamp: Moment
    data: EventData


# The history of a task


class TaskWithArtifact(Task):
    artifact: Artifact = _optional()


class EventEntry(ApiModel):
    at: Moment
    kind: Literal["event"]
    id: str
    type: EventType
    data: TaskWithArtifact


class CreatedEntry(ApiModel):
    """The acceptance of the task, always the first entry."""

    at: Moment
    kind: Literal["created"]
    client: str


class WaitEntry(ApiModel):
    """What the task waited for before it was submitted: one entry for each reason, however often."""

    at: Moment = Field(description="When it first waited for this.")
    kind: Literal["wait"]
    reason: str = Field(
        description="`throttled`, `not_sent`: a submission had no effect; `waiting`: it waits now; otherwise the limit"
        " or the pause that it waited for."
    )
    count: Annotated[int, Field(ge=1)]
    last_at: Moment
    detail: str | None


class CallbackEntry(ApiModel):
    at: Moment
    kind: Literal["callback"]
    submission: WholeNumber
    verdict: str = Field(description="`refused_...` for callbacks that were refused; they are one entry by reason.")
    count: WholeNumber = _optional("Of refused callbacks: how many.")
    last_at: Moment = _optional("Of refused callbacks: when the last one came; `at` is the time of the first.")


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
    CreatedEntry | WaitEntry | EventEntry | CallbackEntry | PollEntry | DeliveryEntry | AttemptEntry,
    Field(discriminator="kind"),
]


class HistoryEntry(RootModel[AnyHistoryEntry]):
    pass


# Everything else


class Model(ApiModel):
    id: str
    parameters: dict[str, Any] = Field(description="The `params` of a task, as JSON Schema 2020-12.")


class Fault(ApiModel):
    """One fault, with its location and a hint."""

    loc: list[str | int]
    msg: str


class Problem(ApiModel):
    """A problem of RFC 9457; `errors` has every fault of the request."""

    type: str = Field(description=f"`{TYPE_PREFIX}...`, or `about:blank` when the status is sufficient.")
    title: str
    status: Annotated[int, Field(ge=400, le=599)]
    detail: str = _optional()
    errors: list[Fault] = _optional()
    error_id: str = _optional("The id of an unexpected error in the log of the service.")


class ItemList(ApiModel, Generic[T]):
    data: list[T]


class Page(ItemList[T], Generic[T]):
    next_cursor: str | None = Field(description="The `cursor` of the next page; null on the last page.")


class ProcessState(ApiModel):
    status: str


class Counts(RootModel[dict[str, WholeNumber]]):
    pass


class MetricsText(RootModel[str]):
    pass


class OpenApiDocument(RootModel[dict[str, Any]]):
    pass
