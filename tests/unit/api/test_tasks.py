"""Asking for tasks, looking at them, and deciding about them."""

import json
from hashlib import sha256

import httpx
import pytest

from service.domain.errors import Conflict, ProviderUnavailable, Throttled
from service.domain.task import Status, TaskId
from service.domain.task_view import task_json
from tests.unit.api.fakes import GOOD, FakeApplication, a_task


async def test_a_new_task_is_answered_202_with_its_address(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """A created task comes back with 202, its location, the task object and the caller's own payload."""
    params = {"prompt": "a cat", "images": ["https://example.org/cat.png"], "payload": "mine"}
    wanted = {"model": GOOD["model"], "params": params, "metadata": {"chat": 42}, "notify": [{"handler": "log"}]}
    answer = await client.post("/v1/tasks", json=wanted)
    assert answer.status_code == 202
    assert answer.headers["location"] == "/v1/tasks/task-1"
    assert answer.json() == task_json(a_task()) | {"payload": "mine"}
    (new,) = world.accepted
    assert (new.client, new.model, new.params) == ("local", GOOD["model"], params)
    assert (new.metadata, new.notify, new.idempotency) == ({"chat": 42}, [{"handler": "log"}], None)


async def test_a_known_idempotency_key_is_answered_200(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """The first task comes back with 200, and the desk got the key with the digest of the raw body."""
    world.created = False
    body = json.dumps(GOOD).encode()
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    answer = await client.post("/v1/tasks", content=body, headers=headers)
    assert answer.status_code == 200
    (new,) = world.accepted
    assert new.idempotency
    assert (new.idempotency.key, new.idempotency.digest) == ("k-1", sha256(body).hexdigest())


async def test_an_idempotency_key_with_another_body_is_422(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """A reused key is the request's fault, told with the desk's words."""
    world.fails = Conflict("this key came with another body before")
    answer = await client.post("/v1/tasks", json=GOOD, headers={"Idempotency-Key": "k-1"})
    assert answer.status_code == 422
    assert answer.json()["detail"] == "this key came with another body before"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ü"])
async def test_an_idempotency_key_that_cannot_be_kept_is_400(
    client: httpx.AsyncClient, world: FakeApplication, key: str
) -> None:
    """An empty, overlong or unprintable key is refused before anything is stored."""
    answer = await client.post("/v1/tasks", json=GOOD, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert answer.status_code == 400
    assert not world.accepted


@pytest.mark.parametrize(
    ("body", "locs"),
    [
        ([], [[]]),
        ({}, [["model"], ["params"]]),
        ({"modle": "m", "params": {}}, [["modle"], ["model"]]),
        (GOOD | {"metadata": 5, "what": 1}, [["what"], ["metadata"]]),
        (GOOD | {"notify": "log", "what": 1}, [["what"], ["notify"]]),
        (GOOD | {"notify": [{"handler": "pigeon"}], "what": 1}, [["what"], ["notify", 0, "handler"]]),
        (GOOD | {"model": 5}, [["model"]]),
        (
            GOOD | {"params": {"prompt": "a", "images": ["https://example.org/a.png"], "duration": "5"}, "x": 1},
            [["x"], ["params", "duration"]],
        ),
        (GOOD | {"metadata": {"a": ["\0"]}}, [["metadata", "a", 0]]),
        (GOOD | {"metadata": {"a\0": 1}}, [["metadata"]]),
    ],
)
async def test_every_fault_of_a_body_is_told_with_its_place(
    client: httpx.AsyncClient, world: FakeApplication, body: object, locs: list[list[str | int]]
) -> None:
    """Unknown and missing keys are told in one answer, together with the faults of values."""
    answer = await client.post("/v1/tasks", json=body)
    assert answer.status_code == 422
    told = [fault["loc"] for fault in answer.json()["errors"]]
    assert told == locs
    assert not world.accepted


async def test_an_unknown_key_is_told_with_the_nearest_known_one(client: httpx.AsyncClient) -> None:
    """A misspelt key gets the right one suggested."""
    answer = await client.post("/v1/tasks", json=GOOD | {"metdata": {}})
    assert "did you mean metadata?" in answer.json()["errors"][0]["msg"]


async def test_an_escaped_backslash_before_u0000_is_no_nul(client: httpx.AsyncClient, world: FakeApplication) -> None:
    r"""The six characters `\u0000` may stand in a text; only the character itself may not."""
    answer = await client.post("/v1/tasks", json=GOOD | {"metadata": {"text": "\\u0000"}})
    assert answer.status_code == 202
    assert world.accepted[0].metadata == {"text": "\\u0000"}


async def test_one_task_is_shown_with_its_payload(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """The single-task answer carries the payload, null when there is none."""
    world.add(a_task())
    answer = await client.get("/v1/tasks/task-1")
    assert answer.status_code == 200
    assert answer.json() == task_json(a_task()) | {"payload": None}


async def test_canceling_answers_the_canceled_task(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """A cancel that went through is 200 with the task as it is now."""
    world.add(a_task())
    answer = await client.post("/v1/tasks/task-1/cancel")
    assert (answer.status_code, answer.json()["status"]) == (200, "canceled")


@pytest.mark.parametrize(
    ("error", "status"),
    [(Conflict("it is completed"), 409), (Throttled("later"), 503), (ProviderUnavailable("HTML"), 502)],
)
async def test_a_cancel_that_fails_says_whose_fault_it_is(
    client: httpx.AsyncClient, world: FakeApplication, error: Exception, status: int
) -> None:
    """A conflict is 409 with its reason; the upstream's trouble is a 5xx."""
    world.add(a_task())
    world.fails = error
    answer = await client.post("/v1/tasks/task-1/cancel")
    assert (answer.status_code, answer.json()["detail"]) == (status, str(error))


async def test_resubmitting_answers_the_new_task(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """A resubmission is 202 with the new task, its address and its link to the old one."""
    world.add(a_task(status=Status.IN_DOUBT))
    answer = await client.post("/v1/tasks/task-1/resubmit")
    assert (answer.status_code, answer.headers["location"]) == (202, "/v1/tasks/task-2")
    assert answer.json()["resubmission_of"] == "task-1"


async def test_the_history_of_a_task_is_a_list(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """The events of a task come as the library tells them."""
    world.add(a_task())
    answer = await client.get("/v1/tasks/task-1/events")
    assert (answer.status_code, answer.json()) == (200, {"data": await world.history(TaskId("task-1"))})


async def test_models_come_with_their_parameters(client: httpx.AsyncClient) -> None:
    """A model is shown alone as in the list, with its parameters as JSON Schema."""
    listed = (await client.get("/v1/models")).json()["data"]
    alone = (await client.get("/v1/models/viduq2_pro_reference")).json()
    assert alone in listed
    assert alone["parameters"]["properties"]["duration"]["maximum"] == 10
    assert (await client.get("/v1/models/nope")).status_code == 404
