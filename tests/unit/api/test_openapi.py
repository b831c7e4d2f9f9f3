"""The OpenAPI document describes the application exactly."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import jsonschema_rs
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from service.api.late_routes import LateRoutes
from service.api.openapi.document import document
from service.api.openapi.operations import OPERATIONS
from service.api.request_context import RequestContextMiddleware
from service.deliveries.handler_api import Event
from service.domain.artifact import ARTIFACT_FIELDS
from service.domain.ports.deliveries import DeliveryView
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
    found = [route for route in app._app.routes if isinstance(route, Route)]
    routes = [each for route in found for each in (route.routes() if isinstance(route, LateRoutes) else [route])]
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


def objects_in(value: object) -> Iterator[dict[str, Any]]:
    """Yield every object of the document, at any depth, but not those in examples."""
    if isinstance(value, dict):
        yield value
        for name, inner in value.items():
            if name != "example":
                yield from objects_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from objects_in(inner)


def all_operations() -> list[dict[str, Any]]:
    """Return the operations of all paths, and the webhook."""
    return [*(operation for _, _, operation in operations()), DOCUMENT["webhooks"]["event"]["post"]]


@pytest.mark.parametrize("operation", all_operations(), ids=lambda each: str(each["operationId"]))
def test_operation_has_a_tag_a_description_and_examples(operation: dict[str, Any]) -> None:
    """Every operation has one declared tag, a description, a refusal, and examples of parameters and bodies."""
    tags = {each["name"]: each["description"] for each in DOCUMENT["tags"]}
    (tag,) = operation["tags"]
    assert tags[tag]
    assert operation["summary"] != operation["description"]
    assert len(operation["description"]) > 20
    webhook = operation["operationId"] == "receiveEvent"
    assert webhook == (tag == "webhooks")
    assert webhook or any(status.startswith("4") for status in operation["responses"])
    in_path = [each for each in operation.get("parameters", ()) if each["in"] == "path"]
    assert all("example" in each for each in in_path)
    assert all(each["description"] for each in operation.get("parameters", ()))
    bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
    for content in (media for body in bodies for media in body.get("content", {}).values()):
        schema = content["schema"] | {"components": DOCUMENT["components"]}
        jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(content["example"])


def test_kind_of_a_history_entry_names_its_schema() -> None:
    """An entry of the history is one of several named schemas, each with its own constant of `kind`."""
    entry = SCHEMAS["HistoryEntry"]
    assert entry["discriminator"]["propertyName"] == "kind"
    assert {each["$ref"] for each in entry["oneOf"]} == set(entry["discriminator"]["mapping"].values())
    for kind, target in entry["discriminator"]["mapping"].items():
        schema = SCHEMAS[target.removeprefix("#/components/schemas/")]
        assert schema["properties"]["kind"]["const"] == kind
        assert "kind" in schema["required"]


def test_bodies_are_named_schemas() -> None:
    """Pages, history entries, recipients and the data of an event are named, so that generated types have names."""
    reference = "#/components/schemas/"
    assert SCHEMAS["Event"]["properties"]["data"] == {"$ref": f"{reference}EventData"}
    assert SCHEMAS["EventEntry"]["properties"]["data"] == {"$ref": f"{reference}TaskWithArtifact"}
    assert all(set(each) == {"$ref"} for each in SCHEMAS["NotifyEntry"]["oneOf"])
    inline = set()
    for operation in all_operations():
        for response in operation["responses"].values():
            inline |= {
                operation["operationId"]
                for media in response.get("content", {}).values()
                if "$ref" not in media["schema"]
            }
    assert inline == {
        "reconcile",
        "metrics",
        "describe",
        "readDocument",
        "taskContent",
        "linkedContent",
        "videoContent",
    }


def test_schemas_are_plain_for_generators() -> None:
    """No choice has one alternative, each array has items, and no parameter of a task has a default.

    With a default, openapi-typescript requires the parameter.
    """
    for schema in objects_in(DOCUMENT):
        choices = [schema[name] for name in ("anyOf", "oneOf") if isinstance(schema.get(name), list)]
        assert all(len(choice) > 1 for choice in choices)
        assert schema.get("type") != "array" or "items" in schema
    for name in (each for each in SCHEMAS if each.endswith(".params")):
        described = SCHEMAS[name]["properties"]
        assert not any("default" in each for each in described.values())
        assert described["resolution"]["description"].endswith((' Default: "720p".', ' Default: "1080p".'))


def test_null_is_a_type_where_it_can_be() -> None:
    """Only references and enumerations are combined with null by a choice: some generators leave out such a field."""
    nullable = [each for each in objects_in(DOCUMENT) if {"type": "null"} in (each.get("anyOf") or ())]
    assert nullable
    assert all({"$ref", "enum"} & set(each["anyOf"][0]) for each in nullable)
    assert SCHEMAS["Task"]["properties"]["submitted_at"]["type"] == ["string", "null"]


def test_large_integers_have_a_format() -> None:
    """An integer that may exceed 32 bits is an int64, without which several languages generate a smaller type."""
    params = SCHEMAS["viduq2_pro_reference.params"]["properties"]
    assert params["seed"]["format"] == "int64"
    assert "format" not in params["duration"]
    assert SCHEMAS["Artifact"]["properties"]["bytes"]["format"] == "int64"


def test_patterns_are_anchored() -> None:
    """Each pattern begins with ^: openapi-generator matches it from the first character, and others search."""
    for pattern in strings_at(DOCUMENT, "pattern"):
        assert pattern.startswith("^"), pattern


UNLISTED = {"metadata"}
SINCE_THIS_RELEASE = {"client"}
"""Fields that events of the previous release lack."""
OF_ERASED = {"erased_at"}
"""Fields of erased tasks alone."""
KINDS: dict[str, Any] = {"Task": TaskView, "Delivery": DeliveryView}


def test_schemas_have_the_fields_of_their_classes() -> None:
    """Each field of a task, a delivery and an artifact is described and required; lists leave out the metadata."""
    described = {name: {field.name for field in fields(kind)} for name, kind in KINDS.items()}
    for name, names in (described | {"Artifact": ARTIFACT_FIELDS}).items():
        assert set(SCHEMAS[name]["properties"]) - OF_ERASED == names
        assert set(SCHEMAS[name]["required"]) == names - UNLISTED - (SINCE_THIS_RELEASE if name == "Task" else set())
    assert SCHEMAS["TaskWithPayload"]["allOf"][1]["required"] == ["metadata", "payload"]


@pytest.mark.parametrize("changes", [{}, {"progress": 0.5, "submitted_at": NOW, "resubmission_of": "task-0"}])
def test_webhook_body_matches_the_schema(changes: dict[str, Any]) -> None:
    """The body that the webhook handler posts is valid against the schema of an event."""
    task = TaskView.from_json(task_json(a_task(**changes)))
    event = Event(
        id="e1", type=EventType.COMPLETED.value, at=NOW, task=task, payload=None, metadata={"chat": 42}, artifact=None
    )
    validator("Event").validate(event.to_json())


async def test_document_needs_a_key() -> None:
    """With API keys the document needs one, like the API."""
    app = app_of(FakeApplication(), api_keys=KEYS)
    async with client_of(app) as anonymous, client_of(app, "key-of-ann") as ann:
        assert (await anonymous.get("/openapi.json")).status_code == 401
        shown = await ann.get("/openapi.json")
    assert shown.headers["content-type"] == "application/json"
    assert shown.json() == DOCUMENT
