"""Answers that are held back until the task is settled."""

from dataclasses import replace

import anyio
import httpx
import pytest
from starlette.types import Message

from service.domain.task import Status
from tests.unit.api.fakes import GOOD, FakeApplication, a_task, app_of, client_of


@pytest.mark.parametrize("ask", ["query", "preference"])
async def test_a_new_task_can_be_waited_for(client: httpx.AsyncClient, world: FakeApplication, ask: str) -> None:
    """With `wait` or `Prefer: wait` the answer shows the task as it ended, and says that the preference held."""
    world.on_wait = FakeApplication.settle
    url, headers = ("/v1/tasks?wait=30", {}) if ask == "query" else ("/v1/tasks", {"Prefer": "wait=30"})
    answer = await client.post(url, json=GOOD, headers=headers)
    assert (answer.status_code, answer.json()["status"]) == (202, "completed")
    assert answer.headers.get("preference-applied") == ("wait=30" if ask == "preference" else None)
    assert world.waits == [("task:task-1", 1.0)]


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [("respond-async, wait=5", "wait=5"), ("WAIT=7; foo", "wait=7"), ("wait=999999", "wait=60"), ("wait=soon", None)],
)
async def test_preferences_are_bounded_and_never_an_error(
    client: httpx.AsyncClient, world: FakeApplication, prefer: str, applied: str | None
) -> None:
    """A preference is found among others and capped at 60 s; one that makes no sense is passed over."""
    world.on_wait = FakeApplication.settle
    answer = await client.post("/v1/tasks", json=GOOD, headers={"Prefer": prefer})
    assert (answer.status_code, answer.headers.get("preference-applied")) == (202, applied)


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.EXPIRED])
async def test_an_ended_task_is_not_waited_for(
    client: httpx.AsyncClient, world: FakeApplication, status: Status
) -> None:
    """A task that is settled or expired is shown at once."""
    world.add(a_task(status=status))
    answer = await client.get("/v1/tasks/task-1?wait=60")
    assert (answer.json()["status"], world.waits) == (status.value, [])


async def test_the_wait_goes_on_until_the_task_is_settled(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """A signal without an end is followed by another look; each look is at most a second away."""
    world.add(a_task())
    world.on_wait = lambda world: world.settle() if len(world.waits) == 3 else None
    answer = await client.get("/v1/tasks/task-1?wait=60")
    assert (answer.json()["status"], world.waits) == ("completed", [("task:task-1", 1.0)] * 3)


async def test_the_answer_comes_when_the_time_is_up(world: FakeApplication) -> None:
    """A task that does not end is shown as it is once the asked time has passed."""
    world.add(a_task())
    now = anyio.current_time()
    loop_time = [now]

    def pass_time(_: FakeApplication) -> None:
        loop_time[0] += 1.0

    world.on_wait = pass_time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.api.long_poll.anyio.current_time", lambda: loop_time[0])
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app_of(world)), base_url="http://localhost"
        ) as client:
            answer = await client.get("/v1/tasks/task-1?wait=3")
    assert (answer.json()["status"], len(world.waits)) == ("queued", 3)


async def test_the_wait_ends_when_the_process_is_about_to(world: FakeApplication) -> None:
    """A stopping process answers at once with the task as it is."""
    world.add(a_task())
    app = app_of(world, stopping=lambda: len(world.waits) > 0)
    async with client_of(app) as client:
        answer = await client.get("/v1/tasks/task-1?wait=60")
    assert (answer.json()["status"], len(world.waits)) == ("queued", 1)


async def test_a_client_that_leaves_ends_the_wait(world: FakeApplication) -> None:
    """Nobody waits on behalf of a connection that is gone."""
    world.add(a_task())
    left = anyio.Event()
    forever = anyio.Event()

    class Silent(FakeApplication):
        async def wait(self, topic: str, seconds: float) -> bool:
            self.waits.append((topic, seconds))
            left.set()
            await forever.wait()
            return True

    silent = Silent(tasks_by_id=world.tasks_by_id)
    incoming = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        for message in incoming:
            return message
        await left.wait()
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "GET",
        "path": "/v1/tasks/task-1",
        "query_string": b"wait=60",
        "headers": [(b"host", b"localhost")],
    }
    with anyio.fail_after(5):
        await app_of(silent)(scope, receive, send)
    assert len(silent.waits) == 1


@pytest.mark.parametrize("wait", ["61", "-1", "1.5", "soon", "", "٣"])
async def test_a_wait_that_is_no_whole_number_up_to_60_is_422(
    client: httpx.AsyncClient, world: FakeApplication, wait: str
) -> None:
    """The bounds are told, and nothing was stored."""
    answer = await client.post("/v1/tasks", params={"wait": wait}, json=GOOD)
    assert answer.status_code == 422
    assert answer.json()["errors"] == [{"loc": ["query", "wait"], "msg": "must be a whole number from 0 to 60"}]
    assert not world.accepted


async def test_a_task_that_expires_meanwhile_ends_the_wait(client: httpx.AsyncClient, world: FakeApplication) -> None:
    """A task that expires during the wait ends it."""
    world.add(a_task())
    expired = replace(a_task(), status=Status.EXPIRED)
    world.on_wait = lambda world: world.tasks_by_id.update({expired.id: expired})
    answer = await client.get("/v1/tasks/task-1?wait=60")
    assert answer.json()["status"] == "expired"
