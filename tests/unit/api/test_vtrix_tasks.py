"""The provider's own API over this service: translation, refusals, other clients' tasks."""

from typing import Any

import httpx
import pytest

from service.domain.callback_forms import VTRIX
from service.domain.errors import Conflict, QueueFull, StoreUnavailable
from service.domain.task import Status
from tests.unit.api.fakes import GOOD, KEYS, FakeApplication, a_task, app_of, client_of

CREATE = "/model/v1/generation"
PARAMS: dict[str, Any] = {"prompt": "a cat", "images": ["https://example.org/cat.png"]}
BODY: dict[str, Any] = {"model": GOOD["model"], "input": [{"params": PARAMS}], "stream": False}


async def test_create_is_the_task_of_our_own_api(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Model and parameters are the same; the form of the callback is noted; unknown keys are ignored."""
    answer = await client.post(CREATE, json=BODY, headers={"Idempotency-Key": "k-1"})
    [new] = fake.accepted
    assert (new.model, new.params, new.callback_form) == (GOOD["model"], PARAMS, VTRIX)
    assert new.idempotency is not None
    assert (answer.status_code, answer.json()["id"], answer.json()["status"]) == (200, "task-1", "in_progress")


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        ([], "FieldInvalid", "model and input"),
        ({}, "FieldLacking", "model is required; input must hold one entry"),
        ({"model": "x", "input": []}, "FieldInvalid", "one entry"),
        ({"model": "x", "input": [{}, {}]}, "FieldInvalid", "one entry"),
        ({"model": "x", "input": ["p"]}, "FieldLacking", "input.0.params is required"),
        ({"model": "x", "input": [{"params": 1}]}, "ModelUnavailable", "'x' is unknown"),
        (BODY | {"input": [{"params": {"prompt": 5}}]}, "FieldLacking", "params.prompt must be a string"),
        ({**BODY, "input": [{"params": PARAMS | {"seed": "\0"}}]}, "FieldInvalid", "U+0000"),
    ],
)
async def test_refusal_is_the_provider_s_error(client: httpx.AsyncClient, body: Any, code: str, words: str) -> None:
    """Status 400, a code of the provider, one message with every fault, and the request's id."""
    answer = await client.post(CREATE, json=body, headers={"X-Request-ID": "r-1"})
    found = answer.json()
    assert (answer.status_code, found["error"]["code"], found["request_id"]) == (400, code, "r-1")
    assert words in found["error"]["message"]
    assert all(isinstance(each["loc"], list) for each in found["errors"])


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (QueueFull("too much"), 429, "TooManyRequests"),
        (StoreUnavailable("away"), 503, "ServiceUnavailable"),
        (Conflict("another body"), 400, "BadRequest"),
        (RuntimeError("secret"), 500, "InternalServiceFailure"),
    ],
)
async def test_failure_is_the_provider_s_error(fake: FakeApplication, error: Exception, status: int, code: str) -> None:
    """Also where no endpoint writes the response."""
    fake.error = error
    async with client_of(app_of(fake)) as client:
        answer = await client.post(CREATE, json=BODY, headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["content-type"] == "application/json"
    assert "secret" not in answer.text


@pytest.mark.parametrize("path", [f"{CREATE}/task/task-1", CREATE, "/api/v1/skill/models"])
async def test_unknown_caller_gets_nothing(fake: FakeApplication, path: str) -> None:
    """Without a key the form of the error is that of the API; another client's task is unknown."""
    fake.add(a_task(client="ann"))
    async with client_of(app_of(fake, api_keys=KEYS)) as unknown_caller:
        answer = await unknown_caller.request("POST" if path == CREATE else "GET", path, json=BODY)
    assert answer.status_code == 401
    assert answer.json().keys() in ({"error", "request_id"}, {"status", "data"})


async def test_task_is_shown_to_its_client_alone(fake: FakeApplication) -> None:
    """Bob gets the same answer as for a task that does not exist; what the caller gave comes back."""
    fake.add(a_task(client="ann", status=Status.COMPLETED))
    fake.payloads |= {"task-1": "mine", "task-1/meta_data": "{}"}
    app = app_of(fake, api_keys=KEYS)
    async with client_of(app, "key-of-ann") as ann, client_of(app, "key-of-bob") as bob:
        shown = (await ann.get(f"{CREATE}/task/task-1")).json()
        hidden, unknown = [await bob.get(f"{CREATE}/task/{name}") for name in ("task-1", "task-2")]
        odd = await bob.get(f"{CREATE}/task/..%2f..%2fv1%2ftasks")
    assert (shown["payload"], shown["meta_data"], shown["output"]) == ("mine", "{}", [])
    assert (hidden.status_code, hidden.json()["error"]) == (unknown.status_code, unknown.json()["error"])
    assert (hidden.json()["error"]["code"], odd.status_code) == ("TaskNotFound", 404)


@pytest.mark.parametrize(
    ("query", "total"), [({}, True), ({"keywords": "PRO subjects"}, True), ({"keywords": "none"}, False)]
)
async def test_models_are_found_by_words(client: httpx.AsyncClient, query: dict[str, str], total: bool) -> None:
    """Unknown parameters are ignored, as existing clients may send some."""
    found = (await client.get("/api/v1/skill/models", params=query | {"lang": "en"})).json()
    assert bool(found["data"]["total"]) is total


async def test_specification_names_this_service_and_every_limit(client: httpx.AsyncClient) -> None:
    """It has the limits and defaults of the model, in the provider's names."""
    model = GOOD["model"]
    data = (await client.get(f"/api/v1/skill/models/{model}/spec")).json()["data"]
    parameters = {each["name"]: each for each in data["parameters"]}
    assert data["api"]["endpoint"].endswith(CREATE)
    assert data["api"]["endpoint"].startswith(str(client.base_url))
    assert parameters["duration"]["constraints"] == {"min": 0, "max": 10, "default": "5"}
    assert parameters["images"]["constraints"] == {"max_items": 7}
    assert parameters["bgm"]["constraints"] == {"default": "false"}
    assert [name for name, each in parameters.items() if each["required"]] == ["images", "prompt"]


async def test_specification_of_subjects_names_their_fields(client: httpx.AsyncClient) -> None:
    """Each field of an object in a list is a child in the form of a parameter; other parameters have no children."""
    data = (await client.get("/api/v1/skill/models/viduq2_reference2video/spec")).json()["data"]
    children = {each["name"]: each["children"] for each in data["parameters"]}
    found = children.pop("subjects")
    assert [(each["name"], each["path"], each["type"], each["required"]) for each in found] == [
        ("id", "input[0].params.subjects[0].id", "string", True),
        ("images", "input[0].params.subjects[0].images", "array", True),
        ("voice_id", "input[0].params.subjects[0].voice_id", "string", False),
    ]
    assert [each["constraints"] for each in found] == [
        {"min_length": 1, "max_length": 64},
        {"max_items": 3},
        {"max_length": 64},
    ]
    assert all(each["description"] and each.keys() == data["parameters"][0].keys() for each in found)
    assert [*filter(None, children.values())] == []


@pytest.mark.parametrize(
    ("path", "status"), [("/api/v1/skill/models?page=0", 400), ("/api/v1/skill/models/none/spec", 404)]
)
async def test_wrong_request_is_answered_in_the_envelope(client: httpx.AsyncClient, path: str, status: int) -> None:
    """The envelope repeats the status, and has no data."""
    answer = await client.get(path)
    assert answer.status_code == status
    assert answer.json()["status"]["code"] == status
    assert answer.json()["data"] is None
