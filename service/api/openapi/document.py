"""The API's own description, OpenAPI 3.1, at `/openapi.json`: one entry for each route that the application has."""

from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from service.api.deliveries import STATUSES
from service.api.metrics import MEDIA_TYPE as METRICS_TYPE
from service.api.openapi.operations import (
    ASKED_WAIT,
    IDEMPOTENCY_KEY,
    LOCATION,
    PREFERENCE_APPLIED,
    PREFERRED_WAIT,
    Operation,
    answer,
    in_path,
    in_query,
    json_body,
    operation,
    page_parameters,
)
from service.api.openapi.schemas import ID, Schema, component_schemas, listed, page_of, ref
from service.api.query_params import MOST_TEXT, Query
from service.api.responses import json_answer
from service.api.routing import route
from service.domain.task import Status

VERSION = "1"
NAME: Schema = {"type": "string", "pattern": "^[ -~]+$", "minLength": 1, "maxLength": MOST_TEXT}
A_TASK, A_DELIVERY = in_path("id", "The task.", ID), in_path("id", "The delivery.", ID)
TASK = ref("TaskWithPayload")

ABOUT = """A service between an application and an AI video API: it submits each task once, hears how it ends, and hands
the result over until somebody has it.

Every call but callbacks and the two probes needs `Authorization: Bearer KEY`; where the operator has set no keys, only
callers on this machine are served. `HEAD` is answered like `GET`. A query parameter that is not named here, or is given
twice, is refused. Every answer carries `X-Request-ID`, the caller's own where it sent one."""


class OpenApi:
    """Answers `/openapi.json`."""

    def __init__(self, *, allow_off_peak: bool) -> None:
        self._allow_off_peak = allow_off_peak

    def routes(self) -> list[Route]:
        """Return its routes."""
        return [route("/openapi.json", get=self.show)]

    async def show(self, request: Request) -> Response:
        """Show the document."""
        Query(request).done()
        return json_answer(document(allow_off_peak=self._allow_off_peak))


@cache
def document(*, allow_off_peak: bool) -> dict[str, Any]:
    """Return the OpenAPI document; `allow_off_peak` as for the models."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Boomerang", "version": VERSION, "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": [{"name": name} for name in ("tasks", "deliveries", "models", "operation", "upstream")],
        "paths": {**_tasks(), **_deliveries(), **_models(), **_operation(), **_upstream()},
        "webhooks": {"event": {"post": _webhook()}},
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A key of API_KEYS."}},
            "schemas": component_schemas(allow_off_peak=allow_off_peak),
        },
    }


def _tasks() -> dict[str, dict[str, Operation]]:
    return {
        "/v1/tasks": {"get": _list_tasks(), "post": _create_task()},
        "/v1/tasks/{id}": {"get": _show_task()},
        "/v1/tasks/{id}/cancel": {"post": _cancel_task()},
        "/v1/tasks/{id}/resubmit": {"post": _resubmit_task()},
        "/v1/tasks/{id}/events": {"get": _task_history()},
    }


def _show_task() -> Operation:
    return operation(
        "showTask",
        "tasks",
        "One task; with `wait` once it is settled or expired, or when the time is up.",
        {"200": answer("The task.", TASK)},
        parameters=[A_TASK, ASKED_WAIT],
        refusals=("404", "422"),
    )


def _cancel_task() -> Operation:
    return operation(
        "cancelTask",
        "tasks",
        "Cancels a task that is still ours, or asks the upstream to.",
        {"200": answer("Canceled.", TASK)},
        parameters=[A_TASK],
        refusals=("404", "409", "422", "502"),
    )


def _resubmit_task() -> Operation:
    return operation(
        "resubmitTask",
        "tasks",
        "Submits the same again as a new, linked task: for a task in doubt, failed, expired or canceled.",
        {"202": answer("The new task; of a second call, the first one's.", TASK, headers=LOCATION)},
        parameters=[A_TASK],
        refusals=("404", "409", "422"),
    )


def _task_history() -> Operation:
    return operation(
        "taskHistory",
        "tasks",
        "Everything that happened to a task, oldest first.",
        {"200": answer("Its history.", _data_of("HistoryEntry"))},
        parameters=[A_TASK],
        refusals=("404", "422"),
    )


def _list_tasks() -> Operation:
    statuses = {"type": "string", "enum": [status.value for status in Status]}
    return operation(
        "listTasks",
        "tasks",
        "Tasks, newest first.",
        {"200": answer("One page.", page_of("Task"))},
        parameters=[
            in_query("status", "Only those.", statuses),
            in_query("model", "Only those of it.", NAME),
            *page_parameters(),
        ],
        refusals=("422",),
    )


def _create_task() -> Operation:
    headers = {**LOCATION, **PREFERENCE_APPLIED}
    answers = {
        "200": answer("The first task that came with this Idempotency-Key.", TASK, headers=headers),
        "202": answer("The task, as soon as it is durable: the upstream is not waited for.", TASK, headers=headers),
    }
    return operation(
        "createTask",
        "tasks",
        "Checks everything at once and stores the task, to be submitted.",
        answers,
        parameters=[ASKED_WAIT, IDEMPOTENCY_KEY, PREFERRED_WAIT],
        body=json_body(ref("TaskRequest")),
        refusals=("400", "408", "413", "415", "422"),
    )


def _deliveries() -> dict[str, dict[str, Operation]]:
    shown = operation(
        "showDelivery",
        "deliveries",
        "One delivery.",
        {"200": answer("The delivery.", ref("Delivery"))},
        parameters=[A_DELIVERY],
        refusals=("404", "422"),
    )
    replayed = operation(
        "replayDelivery",
        "deliveries",
        "Puts a dead or delivered one through again, with a fresh message id.",
        {"202": answer("The delivery as it is now.", ref("Delivery"))},
        parameters=[A_DELIVERY],
        refusals=("404", "409", "422"),
    )
    return {
        "/v1/deliveries": {"get": _list_deliveries()},
        "/v1/deliveries/{id}": {"get": shown},
        "/v1/deliveries/{id}/replay": {"post": replayed},
    }


def _list_deliveries() -> Operation:
    return operation(
        "listDeliveries",
        "deliveries",
        "Deliveries, newest first; with `status=dead` the dead letters.",
        {"200": answer("One page.", page_of("Delivery"))},
        parameters=[
            in_query("status", "Only those.", {"type": "string", "enum": list(STATUSES)}),
            in_query("handler", "Only its own.", NAME),
            *page_parameters(),
        ],
        refusals=("422",),
    )


def _models() -> dict[str, dict[str, Operation]]:
    a_model = in_path("id", "The model.", {"type": "string"})
    return {
        "/v1/models": {
            "get": operation(
                "listModels",
                "models",
                "Every model, with its parameters as JSON Schema.",
                {"200": answer("All of them.", _data_of("Model"))},
                refusals=("422",),
            )
        },
        "/v1/models/{id}": {
            "get": operation(
                "showModel",
                "models",
                "One model.",
                {"200": answer("The model.", ref("Model"))},
                parameters=[a_model],
                refusals=("404", "422"),
            )
        },
    }


def _operation() -> dict[str, dict[str, Operation]]:
    counts = {"type": "object", "additionalProperties": {"type": "integer", "minimum": 0}}
    state = {"type": "object", "properties": {"status": {"type": "string"}}, "required": ["status"]}
    text = {
        "description": "Prometheus text.",
        "content": {METRICS_TYPE.partition(";")[0]: {"schema": {"type": "string"}}},
    }
    itself = operation(
        "describe",
        "operation",
        "This document.",
        {"200": answer("OpenAPI 3.1.", {"type": "object"})},
        refusals=("422",),
    )
    ring = operation(
        "reconcile",
        "operation",
        "One full round of submit, poll and dispatch, for a cron job; only for an admin.",
        {"200": answer("How many of each.", counts)},
        refusals=("422",),
    )
    alive = operation("alive", "operation", "Alive.", {"200": answer("It is.", state)}, guarded=False)
    ready = operation(
        "ready", "operation", "Whether the database answers and fits.", {"200": answer("Ready.", state)}, guarded=False
    )
    return {
        "/v1/reconcile": {"post": ring},
        "/healthz": {"get": alive},
        "/readyz": {"get": ready},
        "/metrics": {"get": operation("metrics", "operation", "The service's own figures.", {"200": text})},
        "/openapi.json": {"get": itself},
    }


def _upstream() -> dict[str, dict[str, Operation]]:
    token = in_path("token", "As it stands in the address that the upstream was given.", {"type": "string"})
    called = operation(
        "callBack",
        "upstream",
        "For the upstream alone: what became of a task, in the provider's own words.",
        {"204": {"description": "Durable, and again for each repeat."}},
        parameters=[token],
        body=json_body({}),
        refusals=("400", "403", "408", "413"),
        guarded=False,
    )
    return {"/callbacks/{token}": {"post": called}}


def _webhook() -> Operation:
    return {
        "operationId": "receiveEvent",
        "tags": ["deliveries"],
        "summary": "What the `webhook` handler posts to an address of `notify`, or of the operator's.",
        "requestBody": json_body(ref("Event")),
        "responses": {"2XX": {"description": "Taken; anything else is tried again, but for 410."}},
        "security": [],
    }


def _data_of(name: str) -> Schema:
    return {"type": "object", "properties": {"data": listed(ref(name))}, "required": ["data"]}
