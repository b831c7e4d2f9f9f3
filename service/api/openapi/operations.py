"""The operations of the API as one table: each route and method with its parameters, bodies and answers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel

from service.api.metrics import MEDIA_TYPE as METRICS_TYPE
from service.api.openapi.parameters import (
    DELIVERY_ID,
    DELIVERY_STATUS,
    IDEMPOTENCY_KEY,
    NAME,
    PAGE,
    PREFER,
    TASK_ID,
    TASK_STATUS,
    TEXT,
    WAIT,
    Parameter,
    in_path,
    in_query,
)
from service.api.problems import MEDIA_TYPE as PROBLEM_TYPE
from service.api.schemas import (
    Counts,
    Delivery,
    HistoryEntry,
    ItemList,
    MetricsText,
    Model,
    OpenApiDocument,
    Page,
    Problem,
    ProcessState,
    ProviderCallback,
    Task,
    TaskRequest,
    TaskWithPayload,
)

Headers = dict[str, dict[str, Any]]
"""Headers of an answer by name, as OpenAPI header objects."""


@dataclass(frozen=True)
class DeclaredResponse:
    """An answer: its body, None for no body, and its headers by name."""

    description: str
    body: type[BaseModel] | None = None
    media_type: str = "application/json"
    headers: Headers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route. `responses` are those of success, by status; `errors` are statuses of problem answers.

    `authenticated` says whether a key is needed. The errors that every operation can have are added by `all_answers`.
    """

    path: str
    method: Literal["get", "post"]
    id: str
    tag: str
    summary: str
    responses: Mapping[int, DeclaredResponse]
    parameters: Sequence[Parameter] = ()
    request: type[BaseModel] | None = None
    errors: Sequence[int] = ()
    authenticated: bool = True

    def all_responses(self) -> dict[int, DeclaredResponse]:
        """Return every answer by status: those of success first, then all errors in ascending order."""
        common = {401, 403, 500, 503} if self.authenticated else {500, 503}
        return {**self.responses, **{status: ERRORS[status] for status in sorted({*self.errors, *common})}}


CHALLENGE: Headers = {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}}
RETRY_AFTER: Headers = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
LOCATION: Headers = {"Location": {"description": "Where the task is.", "required": True, "schema": {"type": "string"}}}
PREFERENCE_APPLIED: Headers = {
    "Preference-Applied": {"description": "The wait that was granted.", "schema": {"type": "string"}}
}


def _error(description: str, headers: Headers | None = None) -> DeclaredResponse:
    return DeclaredResponse(description, Problem, media_type=PROBLEM_TYPE, headers=headers or {})


ERRORS: Mapping[int, DeclaredResponse] = {
    400: _error("The body or a header cannot be read."),
    401: _error("No key of this service.", CHALLENGE),
    403: _error("Not for this caller."),
    404: _error("There is none, or it is another client's."),
    408: _error("The body did not arrive in time."),
    409: _error("It is where this cannot be done; `detail` says why."),
    413: _error("The body is too large."),
    415: _error("Not plain `application/json`."),
    422: _error("Faults, each with its place and its mend."),
    500: _error("A fault of ours."),
    502: _error("The upstream gave no clear answer."),
    503: _error("Not now; try again.", RETRY_AFTER),
}

OPERATIONS = (
    Operation(
        path="/v1/tasks",
        method="get",
        id="listTasks",
        tag="tasks",
        summary="Tasks, newest first.",
        parameters=[
            in_query("status", "Only those.", TASK_STATUS),
            in_query("model", "Only those of it.", NAME),
            *PAGE,
        ],
        responses={200: DeclaredResponse("One page.", Page[Task])},
        errors=[422],
    ),
    Operation(
        path="/v1/tasks",
        method="post",
        id="createTask",
        tag="tasks",
        summary="Checks everything at once and stores the task, to be submitted.",
        parameters=[WAIT, IDEMPOTENCY_KEY, PREFER],
        request=TaskRequest,
        responses={
            200: DeclaredResponse(
                "The first task that came with this Idempotency-Key.",
                TaskWithPayload,
                headers=LOCATION | PREFERENCE_APPLIED,
            ),
            202: DeclaredResponse(
                "The task, as soon as it is durable: the upstream is not waited for.",
                TaskWithPayload,
                headers=LOCATION | PREFERENCE_APPLIED,
            ),
        },
        errors=[400, 408, 413, 415, 422],
    ),
    Operation(
        path="/v1/tasks/{id}",
        method="get",
        id="showTask",
        tag="tasks",
        summary="One task; with `wait` once it is settled or expired, or when the time is up.",
        parameters=[TASK_ID, WAIT],
        responses={200: DeclaredResponse("The task.", TaskWithPayload)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/tasks/{id}/cancel",
        method="post",
        id="cancelTask",
        tag="tasks",
        summary="Cancels a task that is still ours, or asks the upstream to.",
        parameters=[TASK_ID],
        responses={200: DeclaredResponse("Canceled.", TaskWithPayload)},
        errors=[404, 409, 422, 502],
    ),
    Operation(
        path="/v1/tasks/{id}/resubmit",
        method="post",
        id="resubmitTask",
        tag="tasks",
        summary="Submits the same again as a new, linked task: for a task in doubt, failed, expired or canceled.",
        parameters=[TASK_ID],
        responses={
            202: DeclaredResponse("The new task; of a second call, the first one's.", TaskWithPayload, headers=LOCATION)
        },
        errors=[404, 409, 422],
    ),
    Operation(
        path="/v1/tasks/{id}/events",
        method="get",
        id="taskHistory",
        tag="tasks",
        summary="Everything that happened to a task, oldest first.",
        parameters=[TASK_ID],
        responses={200: DeclaredResponse("Its history.", ItemList[HistoryEntry])},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/deliveries",
        method="get",
        id="listDeliveries",
        tag="deliveries",
        summary="Deliveries, newest first; with `status=dead` the dead letters.",
        parameters=[
            in_query("status", "Only those.", DELIVERY_STATUS),
            in_query("handler", "Only its own.", NAME),
            *PAGE,
        ],
        responses={200: DeclaredResponse("One page.", Page[Delivery])},
        errors=[422],
    ),
    Operation(
        path="/v1/deliveries/{id}",
        method="get",
        id="showDelivery",
        tag="deliveries",
        summary="One delivery.",
        parameters=[DELIVERY_ID],
        responses={200: DeclaredResponse("The delivery.", Delivery)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/deliveries/{id}/replay",
        method="post",
        id="replayDelivery",
        tag="deliveries",
        summary="Puts a dead or delivered one through again, with a fresh message id.",
        parameters=[DELIVERY_ID],
        responses={202: DeclaredResponse("The delivery as it is now.", Delivery)},
        errors=[404, 409, 422],
    ),
    Operation(
        path="/v1/models",
        method="get",
        id="listModels",
        tag="models",
        summary="Every model, with its parameters as JSON Schema.",
        responses={200: DeclaredResponse("All of them.", ItemList[Model])},
        errors=[422],
    ),
    Operation(
        path="/v1/models/{id}",
        method="get",
        id="showModel",
        tag="models",
        summary="One model.",
        parameters=[in_path("id", "The model.", TEXT)],
        responses={200: DeclaredResponse("The model.", Model)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/reconcile",
        method="post",
        id="reconcile",
        tag="operation",
        summary="One full round of submit, poll and dispatch, for a cron job; only for an admin.",
        responses={200: DeclaredResponse("How many of each.", Counts)},
        errors=[422],
    ),
    Operation(
        path="/healthz",
        method="get",
        id="alive",
        tag="operation",
        summary="Alive.",
        responses={200: DeclaredResponse("It is.", ProcessState)},
        authenticated=False,
    ),
    Operation(
        path="/readyz",
        method="get",
        id="ready",
        tag="operation",
        summary="Whether the database answers and fits.",
        responses={200: DeclaredResponse("Ready.", ProcessState)},
        authenticated=False,
    ),
    Operation(
        path="/metrics",
        method="get",
        id="metrics",
        tag="operation",
        summary="The service's own figures.",
        responses={200: DeclaredResponse("Prometheus text.", MetricsText, media_type=METRICS_TYPE.partition(";")[0])},
    ),
    Operation(
        path="/openapi.json",
        method="get",
        id="describe",
        tag="operation",
        summary="This document.",
        responses={200: DeclaredResponse("OpenAPI 3.1.", OpenApiDocument)},
        errors=[422],
    ),
    Operation(
        path="/callbacks/{token}",
        method="post",
        id="callBack",
        tag="upstream",
        summary="For the upstream alone: what became of a task, in the provider's own words.",
        parameters=[in_path("token", "As it stands in the address that the upstream was given.", TEXT)],
        request=ProviderCallback,
        responses={204: DeclaredResponse("Durable, and again for each repeat.")},
        errors=[400, 403, 408, 413],
        authenticated=False,
    ),
)
