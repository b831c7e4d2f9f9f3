"""The OpenAPI document describes the application exactly."""

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import jsonschema_rs
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from handlers.webhook import _body
from service.api.openapi.document import document
from service.api.openapi.operations import OPERATIONS
from service.api.request_context import RequestContextMiddleware
from service.deliveries.handler_api import Event
from service.domain.artifact import Artifact
from service.domain.ports.tasks import DeliveryView
from service.domain.task import EventType
from service.domain.task_view import TaskView, task_json
from tests.unit.api.fakes import KEYS, NOW, FakeApplication, a_task, app_of, client_of

DOCUMENT = document(allow_off_peak=False)
SCHEMAS: dict[str, Any] = DOCUMENT["components"]["schemas"]


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield every path, method and operation of the document."""
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method, operation


def strings_at(value: object, key: str) -> Iterator[str]:
    """Yield every string under `key`, at any depth."""
    if isinstance(value, dict):
        yield from (each for name, each in value.items() if name == key and isinstance(each, str))
        for inner in value.values():
            yield from strings_at(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from strings_at(inner, key)


def validator(name: str) -> Any:
    """Return the validator of the schema `name`."""
    whole = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def test_routes_and_operations_agree() -> None:
    """The document has exactly the paths and methods of the route table, and so has the table of operations."""
    app = app_of(FakeApplication())
    assert isinstance(app, RequestContextMiddleware)
    assert isinstance(app._app, Starlette)
    routes = [route for route in app._app.routes if isinstance(route, Route)]
    documented = [route for route in routes if not route.path.endswith("/")]  # other spellings, and the root
    methods = {(route.path, method) for route in documented for method in route.methods or ()}
    registered = {(path, method) for path, method in methods if method != "HEAD"} - {
        each for each in methods if each[1] == "OPTIONS" and not each[0].startswith("/callbacks/")
    }
    assert {(path, method.upper()) for path, method, _ in operations()} == registered
    assert {(each.path, each.method.upper()) for each in OPERATIONS} == registered
    assert len(OPERATIONS) == len(registered)


def test_path_parameters_are_described() -> None:
    """Each name in braces is a path parameter of its operation, and vice versa."""
    for path, _, operation in operations():
        named = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "path"}
        assert named == {part[1:-1] for part in path.split("/") if part.startswith("{")}, path


def test_operation_ids_are_unique() -> None:
    """Clients are generated from operation ids: none is missing, and none is repeated."""
    names = [operation["operationId"] for _, _, operation in operations()]
    assert len(set(names)) == len(names)


def test_every_schema_is_valid() -> None:
    """Each schema is JSON Schema 2020-12, and each reference has a target."""
    for name, schema in SCHEMAS.items():
        assert jsonschema_rs.meta.is_valid(schema | {"$schema": "https://json-schema.org/draft/2020-12/schema"}), name
    for target in strings_at(DOCUMENT, "$ref"):
        assert target.removeprefix("#/components/schemas/") in SCHEMAS


UNLISTED = {"metadata"}


def test_schemas_have_the_fields_of_their_classes() -> None:
    """Each field of a task, a delivery and an artifact is described and required; lists leave out the metadata."""
    described = {"Task": TaskView, "Delivery": DeliveryView, "Artifact": Artifact}
    for name, kind in described.items():
        assert set(SCHEMAS[name]["properties"]) == {field.name for field in fields(kind)}
        assert set(SCHEMAS[name]["required"]) == {field.name for field in fields(kind)} - UNLISTED
    assert SCHEMAS["TaskWithPayload"]["allOf"][1]["required"] == ["metadata", "payload"]


@pytest.mark.parametrize("changes", [{}, {"progress": 0.5, "submitted_at": NOW, "resubmission_of": "task-0"}])
def test_webhook_body_matches_the_schema(changes: dict[str, Any]) -> None:
    """The body that the webhook handler posts is valid against the schema of an event."""
    task = TaskView.from_json(task_json(a_task(**changes)))
    event = Event(
        id="e1", type=EventType.COMPLETED.value, at=NOW, task=task, payload=None, metadata={"chat": 42}, artifact=None
    )
    validator("Event").validate(json.loads(_body(event)))


async def test_document_needs_a_key() -> None:
    """With API keys the document needs one, like the API."""
    app = app_of(FakeApplication(), api_keys=KEYS)
    async with client_of(app) as anonymous, client_of(app, "key-of-ann") as ann:
        assert (await anonymous.get("/openapi.json")).status_code == 401
        shown = await ann.get("/openapi.json")
    assert shown.headers["content-type"] == "application/json"
    assert shown.json() == DOCUMENT
