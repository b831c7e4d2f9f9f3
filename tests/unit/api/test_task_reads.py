"""Reads of one task: conditional ones, when to ask again, erasure, and resubmission with changes."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from service.domain.errors import Conflict, KeyReused
from service.domain.task import Status
from tests.unit.api.fakes import NOW, FakeApplication, a_task


async def test_unchanged_task_is_not_sent_again(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The version of a response is accepted in every form of If-None-Match, until the task changes."""
    task = fake.add(a_task(status=Status.IN_PROGRESS))
    first = await client.get("/v1/tasks/task-1")
    tag = first.headers["etag"]
    for value in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await client.get("/v1/tasks/task-1", headers={"If-None-Match": value})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
        assert again.headers["retry-after"] == first.headers["retry-after"]
    fake.add(replace(task, progress=0.5))
    changed = await client.get("/v1/tasks/task-1", headers={"If-None-Match": tag})
    assert (changed.status_code, changed.headers["etag"] == tag) == (200, False)


@pytest.mark.parametrize(
    ("changes", "seconds"),
    [
        ({"status": Status.QUEUED, "due_at": None}, "1"),
        ({"status": Status.SUBMITTING}, "1"),
        ({"status": Status.IN_PROGRESS, "due_at": NOW + timedelta(seconds=7.2)}, "8"),
        ({"status": Status.IN_PROGRESS, "due_at": NOW + timedelta(hours=1)}, "30"),
        ({"status": Status.IN_DOUBT, "due_at": NOW - timedelta(hours=1)}, "1"),
        ({"status": Status.COMPLETED}, None),
        ({"status": Status.FAILED}, None),
        ({"status": Status.EXPIRED, "due_at": NOW + timedelta(seconds=9)}, None),
    ],
)
async def test_unfinished_task_has_a_time_for_the_next_read(
    client: httpx.AsyncClient, fake: FakeApplication, changes: dict[str, Any], seconds: str | None
) -> None:
    """The pause lasts until the next step is due, from 1 to 30 seconds; an ended task has none."""
    fake.add(a_task(**changes))
    response = await client.get("/v1/tasks/task-1")
    assert (response.status_code, response.headers.get("retry-after")) == (200, seconds)


async def test_erased_task_is_what_is_left(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The response has the time of the erasure and no content; other tasks have no such time."""
    fake.add(a_task(status=Status.COMPLETED, metadata={"chat": 1}), a_task(2))
    response = await client.delete("/v1/tasks/task-1")
    found = response.json()
    assert (response.status_code, found["params"], found["metadata"]) == (200, {}, {})
    assert found["erased_at"] == "2026-05-06T12:09:42.000Z"
    assert "erased_at" not in (await client.get("/v1/tasks/task-2")).json()
    assert (await client.delete("/v1/tasks/task-3")).status_code == 404
    fake.error = Conflict("the task is queued")
    assert (await client.delete("/v1/tasks/task-2")).status_code == 409


async def test_resubmission_passes_changes_on(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """Changes make a new task with its address; without any, the request itself is made again."""
    fake.add(a_task(status=Status.COMPLETED))
    response = await client.post("/v1/tasks/task-1/resubmit", json={"params": {"seed": None, "duration": 7}})
    assert (response.status_code, response.headers["location"]) == (202, "/v1/tasks/task-2")
    assert [changes for changes, _, _ in fake.changes] == [{"seed": None, "duration": 7}]
    for body in (b"", b"{}"):
        headers = {"Content-Type": "application/json"} if body else {}
        assert (await client.post("/v1/tasks/task-1/resubmit", content=body, headers=headers)).status_code == 202
    assert len(fake.changes) == 1


async def test_repeated_resubmission_is_recognized(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """The key of an earlier call gives 200; of another request it is refused. The digest is that of task and body."""
    fake.add(a_task(status=Status.COMPLETED), a_task(3, status=Status.COMPLETED))
    fake.created = False
    headers = {"Idempotency-Key": "once"}
    for path in ("task-1", "task-1", "task-3"):
        response = await client.post(f"/v1/tasks/{path}/resubmit", json={"params": {}}, headers=headers)
        assert response.status_code == 200
    digests = [key.digest for _, _, key in fake.changes if key]
    assert [digests[0] == digest for digest in digests] == [True, True, False]
    fake.error = KeyReused("this key")
    response = await client.post("/v1/tasks/task-1/resubmit", json={"params": {}}, headers=headers)
    assert (response.status_code, response.json()["type"].rpartition(":")[2]) == (422, "idempotency-key-reused")


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ("[]", []),
        ('{"parms": {}}', ["parms"]),
        ('{"params": 3}', ["params"]),
        ('{"params": {"prompt": "a\\u0000b"}}', ["params", "prompt"]),
    ],
)
async def test_wrong_changes_are_refused(
    client: httpx.AsyncClient, fake: FakeApplication, body: str, loc: list[str]
) -> None:
    """Each fault is named, and nothing is submitted."""
    fake.add(a_task(status=Status.COMPLETED))
    headers = {"Content-Type": "application/json"}
    response = await client.post("/v1/tasks/task-1/resubmit", content=body, headers=headers)
    assert (response.status_code, response.json()["errors"][0]["loc"]) == (422, loc)
    assert fake.changes == []
