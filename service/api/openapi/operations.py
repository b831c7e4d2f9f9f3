"""The table of operations: each route and method with its parameters, bodies and responses."""

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
"""Headers of a response by name, as OpenAPI header objects."""


@dataclass(frozen=True)
class DeclaredResponse:
    """A response: its body, None for no body, and its headers by name."""

    description: str
    body: type[BaseModel] | None = None
    media_type: str = "application/json"
    headers: Headers = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One method of one route.

    `responses` are the successful ones, by status. `errors` are the statuses of problem responses; `all_responses`
    adds those of every operation. `authenticated`: whether an API key is needed.
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
        """Return every response by status: the successful ones, then the errors in ascending order."""
        common = {401, 403, 500, 503} if self.authenticated else {500, 503}
        return {**self.responses, **{status: ERRORS[status] for status in sorted({*self.errors, *common})}}


CHALLENGE: Headers = {"WWW-Authenticate": {"required": True, "schema": {"const": "Bearer"}}}
RETRY_AFTER: Headers = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}
LOCATION: Headers = {"Location": {"description": "URL of the task.", "required": True, "schema": {"type": "string"}}}
PREFERENCE_APPLIED: Headers = {"Preference-Applied": {"description": "The applied wait.", "schema": {"type": "string"}}}


def _error(description: str, headers: Headers | None = None) -> DeclaredResponse:
    return DeclaredResponse(description, Problem, media_type=PROBLEM_TYPE, headers=headers or {})


ERRORS: Mapping[int, DeclaredResponse] = {
    400: _error("The body or a header is unreadable."),
    401: _error("No valid API key.", CHALLENGE),
    403: _error("Not allowed for this caller."),
    404: _error("It does not exist, or it belongs to another client."),
    408: _error("The body did not arrive in time."),
    409: _error("Not possible in the current status; `detail` has the reason."),
    413: _error("The body is too large."),
    415: _error("Not plain `application/json`."),
    422: _error("Invalid request; `errors` has every fault with its location and a hint."),
    500: _error("An internal error."),
    502: _error("The provider gave no usable reply."),
    503: _error("Temporarily unavailable; try again.", RETRY_AFTER),
}

OPERATIONS = (
    Operation(
        path="/v1/tasks",
        method="get",
        id="listTasks",
        tag="tasks",
        summary="Tasks, newest first.",
        parameters=[
            in_query("status", "Only rows with this status.", TASK_STATUS),
            in_query("model", "Only tasks of this model.", NAME),
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
        summary="Validate and store a task, which is submitted next.",
        parameters=[WAIT, IDEMPOTENCY_KEY, PREFER],
        request=TaskRequest,
        responses={
            200: DeclaredResponse(
                "The existing task of this Idempotency-Key.",
                TaskWithPayload,
                headers=LOCATION | PREFERENCE_APPLIED,
            ),
            202: DeclaredResponse(
                "The task, as soon as it is durable and before its submission.",
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
        summary="One task; with `wait` as soon as it is settled or expired, or when the time is up.",
        parameters=[TASK_ID, WAIT],
        responses={200: DeclaredResponse("The task.", TaskWithPayload)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/tasks/{id}/cancel",
        method="post",
        id="cancelTask",
        tag="tasks",
        summary="Cancel a task here before its submission, at the provider after it.",
        parameters=[TASK_ID],
        responses={200: DeclaredResponse("The canceled task.", TaskWithPayload)},
        errors=[404, 409, 422, 502],
    ),
    Operation(
        path="/v1/tasks/{id}/resubmit",
        method="post",
        id="resubmitTask",
        tag="tasks",
        summary="Submit an in-doubt, failed, expired or canceled task again as a new, linked task.",
        parameters=[TASK_ID],
        responses={
            202: DeclaredResponse(
                "The new task; a second call returns the same one.", TaskWithPayload, headers=LOCATION
            )
        },
        errors=[404, 409, 422],
    ),
    Operation(
        path="/v1/tasks/{id}/events",
        method="get",
        id="taskHistory",
        tag="tasks",
        summary="The history of a task, oldest entry first.",
        parameters=[TASK_ID],
        responses={200: DeclaredResponse("The history.", ItemList[HistoryEntry])},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/deliveries",
        method="get",
        id="listDeliveries",
        tag="deliveries",
        summary="Deliveries, newest first; with `status=dead` the dead letters.",
        parameters=[
            in_query("status", "Only rows with this status.", DELIVERY_STATUS),
            in_query("handler", "Only deliveries of this handler.", NAME),
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
        summary="Replay a dead or delivered delivery with a new message id.",
        parameters=[DELIVERY_ID],
        responses={202: DeclaredResponse("The delivery after the replay.", Delivery)},
        errors=[404, 409, 422],
    ),
    Operation(
        path="/v1/models",
        method="get",
        id="listModels",
        tag="models",
        summary="Every model, with its parameters as JSON Schema.",
        responses={200: DeclaredResponse("All models.", ItemList[Model])},
        errors=[422],
    ),
    Operation(
        path="/v1/models/{id}",
        method="get",
        id="showModel",
        tag="models",
        summary="One model.",
        parameters=[in_path("id", "Name of the model.", TEXT)],
        responses={200: DeclaredResponse("The model.", Model)},
        errors=[404, 422],
    ),
    Operation(
        path="/v1/reconcile",
        method="post",
        id="reconcile",
        tag="operation",
        summary="Run a single pass of submit, poll and dispatch, for a cron job; only for an admin.",
        responses={200: DeclaredResponse("The number of each.", Counts)},
        errors=[422],
    ),
    Operation(
        path="/healthz",
        method="get",
        id="alive",
        tag="operation",
        summary="Liveness.",
        responses={200: DeclaredResponse("The process is alive.", ProcessState)},
        authenticated=False,
    ),
    Operation(
        path="/readyz",
        method="get",
        id="ready",
        tag="operation",
        summary="Readiness: the database answers and its schema fits.",
        responses={200: DeclaredResponse("Ready.", ProcessState)},
        authenticated=False,
    ),
    Operation(
        path="/metrics",
        method="get",
        id="metrics",
        tag="operation",
        summary="The metrics of the service.",
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
        summary="Receive a callback of the provider, in its own format.",
        parameters=[in_path("token", "The token of the callback URL.", TEXT)],
        request=ProviderCallback,
        responses={204: DeclaredResponse("The callback is durable; a repeated one gets the same response.")},
        errors=[400, 403, 408, 413],
        authenticated=False,
    ),
    *(
        Operation(
            path="/callbacks/{token}",
            method=method,
            id=f"{method}Callback",
            tag="upstream",
            summary="Probe the address of a callback; it has no effect.",
            parameters=[in_path("token", "The token of the callback URL.", TEXT)],
            responses={204: DeclaredResponse("The address is good.")},
            errors=[403],
            authenticated=False,
        )
        for method in ("get", "options")
    ),
)
