"""The response bodies of the API and the webhook body as pydantic models: the source of the schemas of `/openapi.json`.

No request passes through them: endpoints write plain dicts, and tests validate real responses against these models. The
docstring of a model is its description in the document.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, RootModel

from service.api.deliveries import DeliveryStatus
from service.api.problems import TYPE_PREFIX
from service.api.schema_types import ApiModel, ByteCount, FaultOwner, Id, ItemList, Moment, Page, WholeNumber, optional
from service.domain.error_kinds import ErrorKind
from service.domain.ports.queues import Outcome
from service.domain.task import EventType, Source, Status

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
    """What the provider charged for the task."""

    cost: str | None = Field(description="US dollars, as decimal digits.")
    discount: float | None


class OutputItem(ApiModel):
    """One result. It may have further fields of the provider."""

    model_config = ConfigDict(extra="allow")

    type: str
    url: str = Field(description="URL at the provider, which may expire soon.")
    archived_url: str = optional("URL of the copy that the `archive` handler stored.")
    media_type: str = optional("Media type of the copy.")
    bytes: ByteCount = optional("Size of the copy.")
    sha256: str = optional("SHA-256 of the copy, in hexadecimal.")


class Task(ApiModel):
    """A task: one request to the provider, and what became of it."""

    id: Id
    client: str = optional("Name of the API key that submitted it.")
    model: str
    status: Status
    upstream_id: str | None
    params: dict[str, Any] = Field(description="As submitted, with type, size and hash in place of inline media.")
    metadata: dict[str, Any] = optional("Lists leave it out, except with `include=metadata`.")
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
    erased_at: Moment = optional("When its content was deleted; only id, times, cost and status are left.")


class TaskWithPayload(Task):
    """A task with its metadata and the payload of its caller."""

    metadata: dict[str, Any]
    payload: str | None = Field(description="The `params.payload` of the caller.")


class Artifact(ApiModel):
    """The copy of the output that a handler stored."""

    url: str
    archived_url: str
    sha256: str
    bytes: ByteCount
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
    requested: bool = Field(
        description="Whether a `notify` entry or an endpoint asked for it; a client replays no other one."
    )
    endpoint_id: str | None = Field(description="The endpoint that it goes to, if it goes to one.")


class Delivery(DeliveryFields):
    """One event for one handler."""

    task_id: Id
    client: str
    event_type: EventType
    created_at: Moment


class EventData(ApiModel):
    """The data of an event: the task as it is then, and what its caller gave with it."""

    task: Task
    payload: str | None = Field(description="The caller's own; null if it has more than 64 KiB.")
    payload_bytes: ByteCount = optional("The size of a payload that is left out.")
    payload_url: str = optional("The path of its task.")
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
    """The task at the time of an event; after `artifact.stored` with the stored copy."""

    artifact: Artifact = optional()


class EventEntry(ApiModel):
    """An event of the task, with the task at that time."""

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
    """A callback that was received, and what was made of it."""

    at: Moment
    kind: Literal["callback"]
    submission: WholeNumber
    verdict: str = Field(description="`refused_...` for callbacks that were refused; they are one entry by reason.")
    count: WholeNumber = optional("Of refused callbacks: how many.")
    last_at: Moment = optional("Of refused callbacks: when the last one came; `at` is the time of the first.")


class PollEntry(ApiModel):
    """A request to the provider for the state of the task, and its outcome."""

    at: Moment
    kind: Literal["poll"]
    outcome: str


class DeliveryEntry(DeliveryFields):
    """The delivery of one event to one handler."""

    at: Moment
    kind: Literal["delivery"]


class AttemptEntry(ApiModel):
    """One attempt of a delivery."""

    at: Moment
    kind: Literal["attempt"]
    delivery_id: str
    handler: str
    attempt: Annotated[int, Field(ge=1)]
    outcome: Outcome
    error: str | None
    finished_at: Moment
    answer_status: int | None = Field(description="The HTTP status that the receiver of a webhook answered.")
    answer_body: str | None = Field(description="The first KiB of its answer as text.")


AnyHistoryEntry = Annotated[
    CreatedEntry | WaitEntry | EventEntry | CallbackEntry | PollEntry | DeliveryEntry | AttemptEntry,
    Field(discriminator="kind"),
]


class HistoryEntry(RootModel[AnyHistoryEntry]):
    """One entry of a task's history; `kind` names its schema."""


class Model(ApiModel):
    """A model of the provider, with its parameters."""

    id: str
    object: Literal["model"] = Field(description="For SDKs of OpenAI, as `owned_by`.")
    owned_by: str = Field(description="Who made the model.")
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
    detail: str = optional()
    errors: list[Fault] = optional()
    error_id: str = optional("The id of an unexpected error in the log of the service.")


class TaskPage(Page[Task]):
    """One page of tasks, newest first."""


class HistoryPage(Page[HistoryEntry]):
    """One page of a task's history, oldest entry first."""


class DeliveryPage(Page[Delivery]):
    """One page of deliveries, newest first."""


class ModelList(ItemList[Model]):
    """Every model."""

    object: Literal["list"]


class LoginLink(ApiModel):
    """A link that signs a browser in to the dashboard, once."""

    url: str
    expires_at: Moment


class ProcessState(ApiModel):
    """The state of the process that answered."""

    status: str


class Counts(RootModel[dict[str, WholeNumber]]):
    """A number for each name."""


class MetricsText(RootModel[str]):
    """Metrics in the text format of Prometheus."""
