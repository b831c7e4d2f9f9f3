"""The endpoints of tasks."""

import json
from datetime import timedelta
from hashlib import sha256

import httpx
import pytest

from service.domain.errors import Conflict, ProviderUnavailable, Throttled
from service.domain.json_digest import json_digest
from service.domain.task import Status
from service.domain.task_view import rfc3339, task_json
from tests.unit.api.fakes import GOOD, NOW, POLL, FakeApplication, a_task


async def test_new_task_is_202_with_its_location(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A created task is 202 with its location, the task object and the caller's payload."""
    params = {"prompt": "a cat", "images": ["https://example.org/cat.png"], "payload": "mine"}
    wanted = {"model": GOOD["model"], "params": params, "metadata": {"chat": 42}, "notify": [{"handler": "log"}]}
    response = await client.post("/v1/tasks", json=wanted)
    assert response.status_code == 202
    assert response.headers["location"] == "/v1/tasks/task-1"
    assert response.json() == task_json(a_task()) | {"payload": "mine"}
    (new,) = fake.accepted
    assert (new.client, new.model, new.params) == ("local", GOOD["model"], params)
    assert (new.metadata, new.notify, new.idempotency) == ({"chat": 42}, [{"handler": "log"}], None)


async def test_history_has_what_the_task_waits_for_now(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A queued task's history has an entry made of its note; a task that does not wait has none."""
    fake.limited = True
    fake.add(a_task())
    entries = (await client.get("/v1/tasks/task-1/events")).json()["data"]
    assert [(row["kind"], row.get("detail")) for row in entries if row["kind"] == "wait"] == [("wait", "waits")]
    fake.limited = False
    entries = (await client.get("/v1/tasks/task-1/events")).json()["data"]
    assert [row["kind"] for row in entries] == ["poll"]


@pytest.mark.parametrize("tried_before", [None, 2])
async def test_wait_begins_with_the_last_submission(
    client: httpx.AsyncClient, fake: FakeApplication, tried_before: int | None
) -> None:
    """A task waits since its last submission in vain, else since its creation: not since the time of the next one."""
    begin = NOW - timedelta(seconds=tried_before or 0)
    due = NOW + timedelta(hours=1)
    fake.add(a_task(due_at=due, note="waits", submitted_at=begin if tried_before else None))
    entries = (await client.get("/v1/tasks/task-1/events")).json()["data"]
    [at] = [row["at"] for row in entries if row["kind"] == "wait"]
    assert at == rfc3339(begin)


async def test_known_idempotency_key_is_200(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The existing task is 200; the task service gets the key with the digests of the raw body and of its value."""
    fake.created = False
    body = json.dumps(GOOD).encode()
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json"}
    response = await client.post("/v1/tasks", content=body, headers=headers)
    assert response.status_code == 200
    (new,) = fake.accepted
    assert new.idempotency
    assert (new.idempotency.key, new.idempotency.digest) == ("k-1", sha256(body).hexdigest())
    assert new.idempotency.value_digest == json_digest(GOOD)


async def test_idempotency_key_given_twice_is_400(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Which of two keys counts cannot be known, even if they are equal."""
    headers = [("Idempotency-Key", "k-1"), ("Idempotency-Key", "k-1"), ("Content-Type", "application/json")]
    response = await client.post("/v1/tasks", content=json.dumps(GOOD), headers=headers)
    assert (response.status_code, fake.accepted) == (400, [])
    assert "once" in response.json()["detail"]


SPELLINGS = {
    "key order": dict(reversed(GOOD.items())),
    "compact": json.dumps(GOOD, separators=(",", ":")),
    "indented": json.dumps(GOOD, indent=4),
    "line breaks around it": f"\r\n{json.dumps(GOOD)}\n",
    "escapes": json.dumps(GOOD).replace("cat", "c\\u0061t"),
    "an escaped slash": json.dumps(GOOD).replace("/", "\\/"),
}


@pytest.mark.parametrize("written", SPELLINGS.values(), ids=SPELLINGS)
async def test_spelling_of_a_body_does_not_matter(
    client: httpx.AsyncClient, fake: FakeApplication, written: str | dict[str, object]
) -> None:
    """The same JSON in another spelling has the same digest of its value."""
    content = written if isinstance(written, str) else json.dumps(written)
    assert content != json.dumps(GOOD)
    headers = {"Idempotency-Key": "k-1", "Content-Type": "application/json; charset=UTF-8"}
    response = await client.post("/v1/tasks", content=content, headers=headers)
    assert response.status_code == 202
    assert fake.accepted[0].idempotency
    assert fake.accepted[0].idempotency.value_digest == json_digest(GOOD)


async def test_idempotency_key_with_another_body_is_422(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A reused key is 422 with the message of the task service."""
    fake.error = Conflict("this key came with another body before")
    response = await client.post("/v1/tasks", json=GOOD, headers={"Idempotency-Key": "k-1"})
    assert response.status_code == 422
    assert response.json()["detail"] == "this key came with another body before"


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ü"])
async def test_invalid_idempotency_key_is_400(client: httpx.AsyncClient, fake: FakeApplication, key: str) -> None:
    """An empty, overlong or unprintable key is refused, and nothing is stored."""
    response = await client.post("/v1/tasks", json=GOOD, headers={b"Idempotency-Key": key.encode("latin-1")})
    assert response.status_code == 400
    assert not fake.accepted


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
async def test_every_fault_of_a_body_is_reported(
    client: httpx.AsyncClient, fake: FakeApplication, body: object, locs: list[list[str | int]]
) -> None:
    """One response has unknown keys, missing keys and faults of values, each with its location."""
    response = await client.post("/v1/tasks", json=body)
    assert response.status_code == 422
    found = [fault["loc"] for fault in response.json()["errors"]]
    assert found == locs
    assert not fake.accepted


async def test_unknown_key_has_a_suggestion(client: httpx.AsyncClient) -> None:
    """A misspelt key has the right one as a suggestion."""
    response = await client.post("/v1/tasks", json=GOOD | {"metdata": {}})
    assert "did you mean metadata?" in response.json()["errors"][0]["msg"]


async def test_escaped_backslash_before_u0000_is_no_nul(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    r"""The six characters `\u0000` are allowed in a text; the character itself is not."""
    response = await client.post("/v1/tasks", json=GOOD | {"metadata": {"text": "\\u0000"}})
    assert response.status_code == 202
    assert fake.accepted[0].metadata == {"text": "\\u0000"}


async def test_task_is_shown_with_its_payload(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The response of one task has the payload, or null."""
    fake.add(a_task())
    response = await client.get("/v1/tasks/task-1")
    assert response.status_code == 200
    assert response.json() == task_json(a_task()) | {"payload": None}


async def test_cancel_returns_the_canceled_task(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A successful cancel is 200 with the canceled task."""
    fake.add(a_task())
    response = await client.post("/v1/tasks/task-1/cancel")
    assert (response.status_code, response.json()["status"]) == (200, "canceled")


@pytest.mark.parametrize(
    ("error", "status"),
    [(Conflict("it is completed"), 409), (Throttled("later"), 503), (ProviderUnavailable("HTML"), 502)],
)
async def test_failed_cancel_has_status_and_reason(
    client: httpx.AsyncClient, fake: FakeApplication, error: Exception, status: int
) -> None:
    """A conflict is 409 with its reason; an error of the provider is a 5xx."""
    fake.add(a_task())
    fake.error = error
    response = await client.post("/v1/tasks/task-1/cancel")
    assert (response.status_code, response.json()["detail"]) == (status, str(error))


async def test_resubmit_returns_the_new_task(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A resubmission is 202 with the new task, its location and the id of the old one."""
    fake.add(a_task(status=Status.IN_DOUBT))
    response = await client.post("/v1/tasks/task-1/resubmit")
    assert (response.status_code, response.headers["location"]) == (202, "/v1/tasks/task-2")
    assert response.json()["resubmission_of"] == "task-1"


async def test_history_of_a_task_is_a_list(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The response has the entries of the read query, and no further page."""
    fake.add(a_task())
    response = await client.get("/v1/tasks/task-1/events")
    assert (response.status_code, response.json()) == (200, {"data": [POLL], "next_cursor": None})


async def test_models_have_their_parameters(client: httpx.AsyncClient) -> None:
    """A model is the same alone and in the list, with its parameters as JSON Schema."""
    listed = (await client.get("/v1/models")).json()["data"]
    alone = (await client.get("/v1/models/viduq2_pro_reference")).json()
    assert alone in listed
    assert alone["parameters"]["properties"]["duration"]["maximum"] == 10
    assert (await client.get("/v1/models/nope")).status_code == 404
