"""The OpenAPI 3.1 document, rendered from the table of operations and the models of bodies."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from service.api.openapi.operations import OPERATIONS, DeclaredResponse, Operation
from service.api.openapi.parameters import Parameter
from service.api.openapi.schemas import ModelUse, Schema, generated_schemas
from service.api.schemas import Event

VERSION = "1"
TAGS = ("tasks", "deliveries", "models", "operation", "upstream")

ABOUT = """A service between an application and an AI video API: it submits each task once, hears how it ends, and hands
the result over until somebody has it.

Every call but callbacks and the two probes needs `Authorization: Bearer KEY`; where the operator has set no keys, only
callers on this machine are served. `HEAD` is answered like `GET`. A query parameter that is not named here, or is given
twice, is refused. Every answer carries `X-Request-ID`, the caller's own where it sent one."""

WEBHOOK_BODY: ModelUse = (Event, "serialization")  # a request to the receiver, written by the service


@cache
def document(*, allow_off_peak: bool) -> dict[str, Any]:
    """Return the OpenAPI document; `allow_off_peak` says whether tasks may set `off_peak`."""
    schemas, components = generated_schemas(_model_uses(), allow_off_peak=allow_off_peak)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in OPERATIONS:
        paths[operation.path][operation.method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Boomerang", "version": VERSION, "description": ABOUT},
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": [{"name": name} for name in TAGS],
        "paths": dict(paths),
        "webhooks": {"event": {"post": _webhook(schemas[WEBHOOK_BODY])}},
        "components": {
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer", "description": "A key of API_KEYS."}},
            "schemas": components,
        },
    }


def _model_uses() -> Iterator[ModelUse]:
    yield WEBHOOK_BODY
    for operation in OPERATIONS:
        if operation.request is not None:
            yield operation.request, "validation"
        for answer in operation.all_responses().values():
            if answer.body is not None:
                yield answer.body, "serialization"


def _operation(operation: Operation, schemas: Mapping[ModelUse, Schema]) -> dict[str, Any]:
    written: dict[str, Any] = {"operationId": operation.id, "tags": [operation.tag], "summary": operation.summary}
    if operation.parameters:
        written["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.request is not None:
        written["requestBody"] = _request_body(schemas[operation.request, "validation"])
    written["responses"] = {str(status): _answer(each, schemas) for status, each in operation.all_responses().items()}
    return written if operation.authenticated else written | {"security": []}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    required = {"required": True} if parameter.location == "path" else {}
    return {
        "name": parameter.name,
        "in": parameter.location,
        **required,
        "description": parameter.description,
        "schema": parameter.schema,
    }


def _request_body(schema: Schema) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema}}}


def _answer(answer: DeclaredResponse, schemas: Mapping[ModelUse, Schema]) -> dict[str, Any]:
    written: dict[str, Any] = {"description": answer.description}
    if answer.headers:
        written["headers"] = dict(answer.headers)
    if answer.body is not None:
        written["content"] = {answer.media_type: {"schema": schemas[answer.body, "serialization"]}}
    return written


def _webhook(event: Schema) -> dict[str, Any]:
    return {
        "operationId": "receiveEvent",
        "tags": ["deliveries"],
        "summary": "What the `webhook` handler posts to an address of `notify`, or of the operator's.",
        "requestBody": _request_body(event),
        "responses": {"2XX": {"description": "Taken; anything else is tried again, but for 410."}},
        "security": [],
    }
