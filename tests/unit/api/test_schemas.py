"""The response models describe the responses of the API exactly: no other keys, no other types."""

import json
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import anyio
import httpx
import jsonschema_rs
import pytest
from pydantic import BaseModel, ValidationError

from service.api import schemas
from service.api.app import WebLimits
from service.api.openapi.document import document
from service.api.openapi.operation import ERRORS, Operation
from service.api.openapi.operations import OPERATIONS
from service.api.request_bodies import TASK_BODIES, BodyLimits
from service.api.request_schemas import TaskRequest
from service.deliveries.handler_api import Event
from service.domain.artifact import Artifact
from service.domain.errors import Conflict, ProviderUnavailable, QueueFull, StoreUnavailable
from service.domain.link_tokens import LinkTokens
from service.domain.models.catalog import known_models
from service.domain.task import EventType, Source, Status, Task, TaskError, TaskId, UpstreamId, Usage
from service.domain.task_view import TaskView, task_json
from tests.unit.api.fake_endpoints import an_endpoint
from tests.unit.api.fake_handlers import a_circuit
from tests.unit.api.fakes import GOOD, KEYS, NOW, FakeApplication, a_delivery, a_task, app_of, client_of, stored_content

BY_ID = {operation.id: operation for operation in OPERATIONS}
DOCUMENT = document(allow_off_peak=False)
SMALL = WebLimits(tasks=BodyLimits(max_bytes=100, max_total_bytes=100, receive_timeout=0.01, memory_timeout=5))
FRESH = {"Idempotency-Key": "k-1"}

COMPLETED = TaskId(f"task-{[*Status].index(Status.COMPLETED) + 1}")
CONTENT = frozenset({"taskContent", "linkedContent", "createLink", "videoContent", "deleteVideo"})

MCP_PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
MCP_NOTIFICATION = {"jsonrpc": "2.0", "method": "notifications/initialized"}
SUCCESSES: list[tuple[str, int, dict[str, Any]]] = [
    ("listTasks", 200, {}),
    ("createTask", 202, {"json": GOOD}),
    ("createTask", 200, {"json": GOOD, "headers": FRESH}),
    ("showTask", 200, {}),
    ("cancelTask", 200, {}),
    ("showTask", 304, {"headers": {"If-None-Match": "*"}}),
    ("eraseTask", 200, {}),
    ("countTasks", 200, {}),
    ("usage", 200, {}),
    ("resubmitTask", 200, {"json": {"params": {}}}),
    ("resubmitTask", 202, {}),
    ("taskHistory", 200, {}),
    *((name, 200, {}) for name in ("taskContent", "linkedContent")),
    *((name, 206, {"headers": {"Range": "bytes=1-2"}}) for name in ("taskContent", "linkedContent")),
    *((name, 302, {"params": {"variant": "thumbnail"}}) for name in ("taskContent", "linkedContent")),
    *((name, 304, {"headers": {"If-None-Match": '"v1"'}}) for name in ("taskContent", "linkedContent")),
    ("createLink", 201, {"json": {"expires_in": 60}}),
    ("createLoginLink", 201, {}),
    ("listDeliveries", 200, {}),
    ("showDelivery", 200, {}),
    ("replayDelivery", 202, {}),
    ("replayDeliveries", 200, {"json": {"handler": "webhook"}}),
    ("listEndpoints", 200, {}),
    ("createEndpoint", 201, {"json": {"url": "https://example.org/hook"}}),
    ("showEndpoint", 200, {}),
    ("changeEndpoint", 200, {"json": {"paused": True}}),
    ("deleteEndpoint", 204, {}),
    ("rotateEndpointSecret", 200, {}),
    ("testEndpoint", 200, {}),
    ("replayMissedEvents", 200, {"json": {"since": "2026-05-06T11:00:00Z"}}),
    ("streamEvents", 200, {"params": {"wait": 0}}),
    ("createGeneration", 200, {"json": {"model": GOOD["model"], "input": [{"params": GOOD["params"]}]}}),
    ("showGeneration", 200, {}),
    ("listSkillModels", 200, {}),
    ("showSkillModel", 200, {}),
    ("createVideo", 200, {"json": {"prompt": "a cat", "input_reference": {"image_url": "https://example.org/c.png"}}}),
    ("listVideos", 200, {}),
    ("showVideo", 200, {}),
    ("deleteVideo", 200, {}),
    ("callTool", 200, {"json": MCP_PING, "headers": {"Accept": "application/json, text/event-stream"}}),
    ("callTool", 202, {"json": MCP_NOTIFICATION, "headers": {"Accept": "application/json"}}),
    ("callTool", 400, {"json": [None], "headers": {"Accept": "application/json"}}),
    ("callTool", 406, {"json": MCP_PING, "headers": {"Accept": "text/html"}}),
    ("videoContent", 200, {}),
    ("videoContent", 206, {"headers": {"Range": "bytes=1-2"}}),
    ("videoContent", 302, {}),
    ("videoContent", 304, {"headers": {"If-None-Match": '"v1"'}}),
    *(
        (name, 200, {})
        for name in ("listHandlers", "listCircuits", "closeCircuit", "pauseHandler", "resumeHandler", "testHandler")
    ),
    ("listModels", 200, {}),
    ("showModel", 200, {}),
    ("reconcile", 200, {}),
    ("alive", 200, {}),
    ("ready", 200, {}),
    ("metrics", 200, {}),
    ("describe", 200, {}),
    ("readDocument", 200, {}),
    ("callBack", 204, {"json": {}}),
    ("getCallback", 204, {}),
    ("optionsCallback", 204, {}),
]
"""One request for every successful response: the operation, the status and the arguments of the request."""

OTHER_TYPES = {"text/plain", "text/html", "video/mp4"}
"""Media types of bodies that are not JSON."""


def path_of(operation: Operation) -> str:
    """Return the path of `operation` with an id of the fake application."""
    ids = {"endpoints": "endpoint-1", "deliveries": "delivery-1", "models": known_models()[0]}
    task = COMPLETED if operation.id in CONTENT else "task-1"
    token = LinkTokens(["a signing key of the tests"]).token(COMPLETED, NOW + timedelta(hours=1))
    of_models = ids["models"] if operation.id == "showSkillModel" else task
    token = token if operation.id in CONTENT else "t"
    return operation.path.format(id=ids.get(operation.tag, of_models), name="log", key="c1", token=token)


def a_full_task(status: Status, number: int = 1) -> Task:
    """Return a task whose every field has a value."""
    return a_task(
        number,
        status=status,
        upstream_id=UpstreamId("u-1"),
        metadata={"chat": 42},
        progress=0.5,
        output=(
            {"type": "video", "url": "https://example.org/v.mp4", "archived_url": "file:///v.mp4", "cover": "c.png"},
            {"type": "image", "url": "https://example.org/i.png"},
        ),
        error=TaskError(code="E1", message="no"),
        warnings=("bgm has no effect",),
        usage=Usage(cost="0.15", discount=1),
        settled_by=Source.POLL,
        note="waits for a free slot",
        resubmission_of="task-0",
        submitted_at=NOW,
        settled_at=NOW + timedelta(seconds=90),
    )


def full_fake() -> FakeApplication:
    """Return a fake application with a full and a minimal task of each status, and a delivery of each status."""
    fake = FakeApplication()
    fake.add(*(a_full_task(status, number) for number, status in enumerate(Status, 1)))
    fake.add(*(a_task(number, status=status) for number, status in enumerate(Status, 101)))
    fake.stored["file:///v.mp4"] = stored_content(b"the bytes of a video")
    others = (a_delivery(2, status="delivered", fault=None, last_error=None), a_delivery(3, fault="ours"))
    pending = a_delivery(4, status="pending", due_at=NOW, fault=None, finished_at=None)
    fake.endpoints.rows = {each.id: each for each in (an_endpoint(), an_endpoint("endpoint-2", client="shop"))}
    fake.deliveries_by_id = {each.id: each for each in (a_delivery(), *others, pending)}
    fake.handlers.pending = ["log"]
    fake.handlers.circuits = [a_circuit()]
    return fake


def check(response: httpx.Response, operation: Operation) -> None:
    """Check `response` against `operation`: media type, headers, model and schema of the document."""
    declared = operation.all_responses()[response.status_code]
    assert all(name in response.headers for name, header in declared.headers.items() if header.get("required"))
    if declared.body is None:
        assert response.content == b""
        return
    assert response.headers["content-type"].partition(";")[0] == declared.media_type
    if declared.media_type == "text/event-stream":  # its events are checked where there are some
        return
    text = json.dumps(response.text) if declared.media_type in OTHER_TYPES else response.text
    declared.body.model_validate_json(text)
    written = DOCUMENT["paths"][operation.path][operation.method]["responses"][str(response.status_code)]
    schema = written["content"][declared.media_type]["schema"] | {"components": DOCUMENT["components"]}
    jsonschema_rs.Draft202012Validator(schema, validate_formats=True).validate(json.loads(text))


def test_each_successful_response_is_tested() -> None:
    """The table of requests has every operation with every successful status."""
    declared = {(operation.id, status) for operation in OPERATIONS for status in operation.responses}
    assert {(name, status) for name, status, _ in SUCCESSES} == declared


@pytest.mark.parametrize(("name", "status", "request_parts"), SUCCESSES)
async def test_successful_response_matches_its_model(name: str, status: int, request_parts: dict[str, Any]) -> None:
    """A response has the keys and types of its model, and of the document."""
    fake = full_fake()
    fake.created = status == 202
    fake.signs = status == 302
    operation = BY_ID[name]
    async with client_of(app_of(fake)) as client:
        response = await client.request(operation.method.upper(), path_of(operation), **request_parts)
    assert response.status_code == status
    check(response, operation)


@pytest.mark.parametrize("status", list(Status))
@pytest.mark.parametrize("full", [True, False])
async def test_task_of_each_status_matches_its_model(status: Status, full: bool) -> None:
    """A task with every field and one with the required fields match the model."""
    fake = FakeApplication()
    fake.add(a_full_task(status) if full else a_task(status=status))
    fake.payloads["task-1"] = "mine"
    async with client_of(app_of(fake)) as client:
        response = await client.get("/v1/tasks/task-1")
    assert response.json()["status"] == status.value
    check(response, BY_ID["showTask"])


@pytest.mark.parametrize("number", range(1, 5))
async def test_delivery_of_each_status_matches_its_model(number: int) -> None:
    """Dead, delivered and pending deliveries match the model."""
    async with client_of(app_of(full_fake())) as client:
        response = await client.get(f"/v1/deliveries/delivery-{number}")
    check(response, BY_ID["showDelivery"])


async def test_page_with_a_cursor_matches_its_model() -> None:
    """A page with a next one has a cursor of the declared type."""
    async with client_of(app_of(full_fake())) as client:
        responses = [await client.get("/v1/tasks?limit=2"), await client.get("/v1/deliveries?limit=2")]
    for response, name in zip(responses, ("listTasks", "listDeliveries"), strict=True):
        assert response.json()["next_cursor"]
        check(response, BY_ID[name])


@pytest.mark.parametrize("kind", EventType)
@pytest.mark.parametrize("full", [True, False])
def test_webhook_body_matches_its_model(kind: EventType, full: bool) -> None:
    """The body of a webhook matches the event model, for each type of event."""
    task = TaskView.from_json(task_json(a_full_task(Status.COMPLETED) if full else a_task()))
    artifact = Artifact(url="u", archived_url="a", media_type="video/mp4", bytes=1, sha256="ab") if full else None
    event = Event(id="e1", type=kind.value, at=NOW, task=task, payload="mine", artifact=artifact, client="ann")
    schemas.Event.model_validate_json(json.dumps(event.to_json()))


async def never_ending() -> AsyncIterator[bytes]:
    """Yield the first part of a body that never ends."""
    yield b"{"
    await anyio.sleep_forever()


JSON_TYPE = {"Content-Type": "application/json"}
PROBLEMS: list[tuple[int, str, dict[str, Any], dict[str, Any]]] = [
    (400, "createTask", {"content": b"{", "headers": JSON_TYPE}, {}),
    (401, "listTasks", {"headers": {"Authorization": "Bearer none"}}, {"api_keys": KEYS}),
    (403, "reconcile", {"headers": {"Authorization": "Bearer key-of-ann"}}, {"api_keys": KEYS}),
    (404, "showModel", {}, {}),
    (408, "createTask", {"content": never_ending(), "headers": JSON_TYPE}, {"limits": SMALL}),
    (409, "cancelTask", {}, {"error": Conflict("it is completed")}),
    (413, "createTask", {"content": b"x" * (TASK_BODIES.max_bytes + 1), "headers": JSON_TYPE}, {}),
    (415, "createTask", {"content": b"x"}, {}),
    (416, "taskContent", {"headers": {"Range": "bytes=999-"}}, {}),
    (422, "createTask", {"json": {"params": {"images": []}, "notify": [5]}}, {}),
    (422, "listTasks", {"params": {"limit": "0", "what": "1"}}, {}),
    (429, "createTask", {"json": {"model": "x", "params": {}}}, {"error": QueueFull("too much")}),
    (500, "cancelTask", {}, {"error": RuntimeError("broken")}),
    (502, "cancelTask", {}, {"error": ProviderUnavailable("HTML")}),
    (503, "cancelTask", {}, {"error": StoreUnavailable("gone")}),
    (503, "ready", {}, {"error": StoreUnavailable("gone")}),
    (503, "callBack", {"json": {}}, {"error": StoreUnavailable("gone")}),
]
"""One request for every status of a problem: status, operation, request, and configuration of the application."""


def test_each_problem_is_tested() -> None:
    """The table of problems has every status of the document."""
    assert {status for status, *_ in PROBLEMS} == set(ERRORS)


@pytest.mark.parametrize(("status", "name", "request_parts", "services"), PROBLEMS)
async def test_problem_matches_its_model(
    status: int, name: str, request_parts: dict[str, Any], services: dict[str, Any]
) -> None:
    """A problem has the keys and types of its model, and a status of its operation."""
    fake = full_fake()
    fake.error = services.get("error")
    app = app_of(fake, **{key: value for key, value in services.items() if key != "error"})
    operation = BY_ID[name]
    path = "/v1/models/none" if status == 404 else path_of(operation)
    async with client_of(app) as client:
        response = await client.request(operation.method.upper(), path, **request_parts)
    assert response.status_code == status
    check(response, operation)


WRONG_TASKS: list[tuple[type[BaseModel], dict[str, Any]]] = [
    (schemas.Task, {"more": 1}),
    (schemas.Task, {"progress": "0.5"}),
    (schemas.Task, {"status": "done"}),
    (schemas.Task, {"created_at": "2026-05-06T12:09:42"}),
    (schemas.Task, {"output": [{"type": "video"}]}),
    (schemas.TaskWithPayload, {}),
]


@pytest.mark.parametrize(("model", "changes"), WRONG_TASKS)
def test_model_refuses_other_values(model: type[BaseModel], changes: dict[str, Any]) -> None:
    """An unknown key, another type, an unknown value, a time without offset and a missing key are refused."""
    response = task_json(a_task())
    schemas.Task.model_validate_json(json.dumps(response))
    with pytest.raises(ValidationError):
        model.model_validate_json(json.dumps(response | changes))


@pytest.mark.parametrize(
    ("entry", "fits"),
    [
        ({"handler": "webhook", "url": "https://example.org/"}, True),
        ({"handler": "webhook", "url": "https://example.org/", "events": ["task.failed"], "secret": None}, True),
        ({"handler": "log", "url": None, "channel": 5}, True),
        ({"handler": "webhook"}, False),
        ({"handler": "webhook", "url": "https://example.org/", "channel": 5}, False),
        ({"handler": "log", "events": []}, False),
        ({"url": "https://example.org/"}, False),
    ],
)
async def test_service_and_model_accept_the_same_requests(entry: dict[str, Any], fits: bool) -> None:
    """The validation of the service and the model agree about `notify`."""
    body = GOOD | {"metadata": {}, "notify": [entry]}
    async with client_of(app_of(FakeApplication())) as client:
        assert ((await client.post("/v1/tasks", json=body)).status_code == 202) == fits
    if fits:
        TaskRequest.model_validate_json(json.dumps(body))
    else:
        with pytest.raises(ValidationError):
            TaskRequest.model_validate_json(json.dumps(body))
