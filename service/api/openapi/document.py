"""Generate the OpenAPI 3.1 document from the table of operations and the models of bodies."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel

from service.api.openapi.examples import EXAMPLES
from service.api.openapi.operation import DeclaredResponse, Operation
from service.api.openapi.operations import OPERATIONS
from service.api.openapi.parameters import Parameter
from service.api.openapi.schemas import ModelUse, Schema, generated_schemas
from service.api.schemas import Event

VERSION = "1"
TAGS = {
    "tasks": "Submit, watch, cancel and resubmit tasks.",
    "events": "Events as they happen.",
    "endpoints": "Standing webhook addresses of a client.",
    "deliveries": "Deliveries of events to handlers, dead letters, and replay.",
    "handlers": "Handlers: pause, resume and test them, as an admin.",
    "usage": "Costs.",
    "models": "Models and their parameters.",
    "operation": "Probes, metrics, this document, and the pass of a cron job.",
    "Drop-in": "The APIs of others over this service: existing clients change their base address and key.",
    "upstream": "The address that the provider calls.",
    "webhooks": "What this service posts to the addresses of its clients.",
}

DESCRIPTION = """A service between an application and an AI video API. It submits each task once, receives the
callback of its end, and delivers the result with retries.

Every request except callbacks and the two probes needs `Authorization: Bearer KEY`. Without API keys only callers on
this machine are served. `HEAD` is served like `GET`. An unknown query parameter is refused, and so is
a repeated one, unless it is a list. Every response
has `X-Request-ID`, with the value of the request if there is one."""

INFO = {
    "title": "Boomerang",
    "version": VERSION,
    "description": DESCRIPTION,
    "contact": {"name": "The operator of this service"},
    "license": {"name": "Proprietary", "identifier": "LicenseRef-Proprietary"},
}

WEBHOOK_BODY: ModelUse = (Event, "serialization")  # the service writes it, although it is a request body


@cache
def document(*, allow_off_peak: bool) -> dict[str, Any]:
    """Return the OpenAPI document; `allow_off_peak`: whether tasks may set `off_peak`."""
    schemas, components = generated_schemas(_model_uses(), allow_off_peak=allow_off_peak)
    paths: dict[str, dict[str, Any]] = defaultdict(dict)
    for operation in OPERATIONS:
        paths[operation.path][operation.method] = _operation(operation, schemas)
    return {
        "openapi": "3.1.0",
        "info": INFO,
        "servers": [{"url": "/"}],
        "security": [{"key": []}],
        "tags": [{"name": name, "description": description} for name, description in TAGS.items()],
        "paths": dict(paths),
        "webhooks": {"event": {"post": _webhook(schemas[WEBHOOK_BODY])}},
        "components": {
            "securitySchemes": {
                "key": {"type": "http", "scheme": "bearer", "description": "A key of BOOMERANG_API_KEYS."}
            },
            "schemas": components,
        },
    }


def _model_uses() -> Iterator[ModelUse]:
    yield WEBHOOK_BODY
    for operation in OPERATIONS:
        for body in (operation.request, operation.request_form):
            if body is not None:
                yield body, "validation"
        for response in operation.all_responses().values():
            if response.body is not None:
                yield response.body, "serialization"


def _operation(operation: Operation, schemas: Mapping[ModelUse, Schema]) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "operationId": operation.id,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": operation.description,
    }
    if operation.parameters:
        rendered["parameters"] = [_parameter(each) for each in operation.parameters]
    if operation.request is not None:
        body = _request_body(schemas[operation.request, "validation"], operation.request)
        if form := operation.request_form:
            content = {"schema": schemas[form, "validation"], "example": EXAMPLES[form]}
            body["content"]["multipart/form-data"] = content
        rendered["requestBody"] = body if operation.request_required else {**body, "required": False}
    rendered["responses"] = {
        str(status): _response(each, schemas) for status, each in operation.all_responses().items()
    }
    return rendered if operation.authenticated else rendered | {"security": []}


def _parameter(parameter: Parameter) -> dict[str, Any]:
    required = {"required": True} if parameter.location == "path" else {}
    example = {} if parameter.example is None else {"example": parameter.example}
    return {
        "name": parameter.name,
        "in": parameter.location,
        **required,
        "description": parameter.description,
        "schema": parameter.schema,
        **example,
    }


def _request_body(schema: Schema, model: type[BaseModel]) -> dict[str, Any]:
    return {"required": True, "content": {"application/json": {"schema": schema, "example": EXAMPLES[model]}}}


def _response(response: DeclaredResponse, schemas: Mapping[ModelUse, Schema]) -> dict[str, Any]:
    rendered: dict[str, Any] = {"description": response.description}
    if response.headers:
        rendered["headers"] = dict(response.headers)
    if response.body is not None:
        example = EXAMPLES[response.body] if response.example is None else response.example
        content = {"schema": schemas[response.body, "serialization"], "example": example}
        rendered["content"] = {response.media_type: content}
    return rendered


def _webhook(event: Schema) -> dict[str, Any]:
    return {
        "operationId": "receiveEvent",
        "tags": ["webhooks"],
        "summary": "An event that the `webhook` handler posts to a URL of `notify` or of the configuration.",
        "description": "Signed according to Standard Webhooks: verify `webhook-signature` before the body is parsed.",
        "requestBody": _request_body(event, Event),
        "responses": {"2XX": {"description": "Accepted. Any other status is retried, except 410."}},
        "security": [],
    }
