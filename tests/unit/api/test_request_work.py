"""What each endpoint waits for where the process runs only during requests."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import httpx
import pytest

from service.domain.errors import StoreUnavailable
from service.domain.task import Status, Task, TaskId
from tests.unit.api.fakes import GOOD, NOW, FakeApplication, a_delivery, a_task, app_of, client_of


@dataclass
class RecordingWork:
    """Records what it is asked for, and what the application had done by then; a driven task is in progress."""

    fake: FakeApplication
    max_wait: float = 19.0
    calls: list[str] = field(default_factory=list)
    error: Exception | None = None

    def _note(self, call: str) -> None:
        done = f" after {len(self.fake.received)} callbacks" if self.fake.received else ""
        self.calls.append(call + done)

    async def prepare(self) -> None:
        """Record it, or raise `error`."""
        self._note("prepare")
        if self.error:
            raise self.error

    async def drive(self, task_id: TaskId) -> None:
        """Record it."""
        self._note(f"drive {task_id}")

    async def tried(self, task: Task, *, if_due: bool = False) -> Task:
        """Record it, and return the task in progress."""
        self._note(f"tried {task.id}{' if due' if if_due else ''}")
        return replace(task, status=Status.IN_PROGRESS)

    @asynccontextmanager
    async def driving(self, task_id: TaskId, seconds: float) -> AsyncIterator[None]:
        """Record begin and end."""
        self._note(f"driving {task_id} {seconds:g}")
        yield
        self._note(f"answered {task_id}")


@pytest.fixture
def work(fake: FakeApplication) -> RecordingWork:
    """Return the work of a serverless process."""
    return RecordingWork(fake)


@pytest.fixture
async def client(fake: FakeApplication, work: RecordingWork) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of a serverless process."""
    async with client_of(app_of(fake, work=work)) as client:
        yield client


async def test_a_submission_is_tried_before_its_answer(client: httpx.AsyncClient, work: RecordingWork) -> None:
    """The response has the task as it is after its submission."""
    response = await client.post("/v1/tasks", json=GOOD)
    assert (response.status_code, response.json()["status"]) == (202, "in_progress")
    assert work.calls == ["tried task-1"]


async def test_a_repeated_submission_is_tried_too(
    client: httpx.AsyncClient, fake: FakeApplication, work: RecordingWork
) -> None:
    """A client that lost its answer may ask again: its task may still be queued."""
    fake.created = False
    assert (await client.post("/v1/tasks", json=GOOD, headers={"Idempotency-Key": "k"})).status_code == 200
    assert work.calls == ["tried task-1"]


async def test_an_invalid_submission_starts_no_work(client: httpx.AsyncClient, work: RecordingWork) -> None:
    """A refused request costs nothing more."""
    assert (await client.post("/v1/tasks", json={"model": "none", "params": {}})).status_code == 422
    assert work.calls == []


async def test_a_callback_is_driven_after_it_is_durable(client: httpx.AsyncClient, work: RecordingWork) -> None:
    """The keys are up to date before its token is verified; the work comes after its commit and before its answer."""
    assert (await client.post("/callbacks/token", json={})).status_code == 204
    assert work.calls == ["prepare", "drive t1 after 1 callbacks"]


async def test_a_refused_callback_starts_no_work(
    client: httpx.AsyncClient, fake: FakeApplication, work: RecordingWork
) -> None:
    """A forged token, or a database that does not take the callback, drives nothing."""
    assert (await client.post("/callbacks/forged", json={})).status_code == 403
    fake.error = StoreUnavailable("away")
    assert (await client.post("/callbacks/token", json={})).status_code == 503
    assert work.calls == ["prepare", "prepare"]


async def test_a_callback_waits_for_the_database(client: httpx.AsyncClient, work: RecordingWork) -> None:
    """While the keys cannot be registered, a callback is refused as 503 and comes again."""
    work.error = StoreUnavailable("away")
    assert (await client.post("/callbacks/token", json={})).status_code == 503


async def test_a_callback_that_is_too_large_is_driven(client: httpx.AsyncClient, work: RecordingWork) -> None:
    """Its task is polled during the request that reports that something happened."""
    assert (await client.post("/callbacks/token", content=b"x" * (3 * 1024 * 1024))).status_code == 413
    assert work.calls == ["prepare", "drive t1"]


async def test_showing_a_due_task_drives_it(
    client: httpx.AsyncClient, fake: FakeApplication, work: RecordingWork
) -> None:
    """A due task is driven before it is shown."""
    fake.add(a_task())
    assert (await client.get("/v1/tasks/task-1")).json()["status"] == "in_progress"
    assert work.calls == ["tried task-1 if due"]


@pytest.mark.parametrize(("seconds", "kept"), [(5, 5), (60, 19)])
async def test_a_wait_keeps_the_process_working(
    client: httpx.AsyncClient, fake: FakeApplication, work: RecordingWork, seconds: int, kept: int
) -> None:
    """The work goes on during the wait, which is short enough that the rest of the work fits in."""
    fake.add(a_task())
    fake.during_wait = FakeApplication.settle
    assert (await client.get(f"/v1/tasks/task-1?wait={seconds}")).json()["status"] == "completed"
    assert work.calls == [f"driving task-1 {kept}", "answered task-1"]
    assert fake.waits[0][1] == pytest.approx(kept, abs=1)


async def test_a_submission_that_waits_is_driven_by_its_wait(
    client: httpx.AsyncClient, fake: FakeApplication, work: RecordingWork
) -> None:
    """Both together take no longer than one of them."""
    fake.during_wait = FakeApplication.settle
    assert (await client.post("/v1/tasks", json=GOOD, headers={"Prefer": "wait=5"})).json()["status"] == "completed"
    assert work.calls == ["driving task-1 5", "answered task-1"]


async def test_what_else_makes_work_due_is_driven(
    client: httpx.AsyncClient, fake: FakeApplication, work: RecordingWork
) -> None:
    """A cancellation, a resubmission and a replay are followed up before their answers."""
    fake.add(a_task(status=Status.FAILED))
    fake.deliveries_by_id["delivery-1"] = a_delivery()
    for path in ("tasks/task-1/cancel", "tasks/task-1/resubmit", "deliveries/delivery-1/replay"):
        assert (await client.post(f"/v1/{path}")).status_code in {200, 202}
    assert [call.split()[0] for call in work.calls] == ["tried", "tried", "drive"]


async def test_probes_and_lists_start_no_work(
    client: httpx.AsyncClient, fake: FakeApplication, work: RecordingWork
) -> None:
    """Health checks, metrics, lists and histories cost nothing more."""
    fake.add(a_task())
    for path in ("healthz", "readyz", "metrics", "v1/tasks", "v1/tasks/task-1/events", "v1/deliveries", "v1/models"):
        assert (await client.get(f"/{path}")).status_code == 200
    assert work.calls == []


async def test_the_applied_wait_is_the_shorter_one(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """`Preference-Applied` names the time that is waited, here at most 19 seconds, and not the requested one."""
    fake.add(a_task(status=Status.COMPLETED, settled_at=NOW))
    response = await client.get("/v1/tasks/task-1", headers={"Prefer": "wait=22"})
    assert response.headers["Preference-Applied"] == "wait=19"


async def test_tools_for_agents_drive_their_task(
    client: httpx.AsyncClient, fake: FakeApplication, work: RecordingWork
) -> None:
    """A video is submitted before the answer, and what is due for it is done when it is asked for or canceled."""
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    fake.add(a_task())
    headers = {"Accept": "application/json, text/event-stream"}
    for name, arguments in (
        ("generate_video", {"prompt": "a cat"}),
        ("get_video", {"task_id": "task-1"}),
        ("cancel_video", {"task_id": "task-1"}),
    ):
        call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": arguments}}
        answer = await client.post("/mcp", json=call, headers=headers)
        assert '"status\\": \\"in_progress' in answer.text
    assert work.calls == ["tried task-1", "tried task-1 if due", "tried task-1"]
