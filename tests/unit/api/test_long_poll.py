"""Responses that are delayed until the task is settled."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
import anyio.abc
import httpx
import pytest
from starlette.requests import Request
from starlette.types import Message

from service.api import long_poll
from service.api.app import WebLimits
from service.api.long_poll import LongPoll
from service.domain.errors import StoreUnavailable
from service.domain.task import Status, Task, TaskId
from service.storage.local_signals import LocalSignals
from tests.unit.api.fakes import GOOD, FakeApplication, a_task, app_of, client_of


@pytest.mark.parametrize("source", ["query", "preference"])
async def test_create_waits_for_the_new_task(client: httpx.AsyncClient, fake: FakeApplication, source: str) -> None:
    """With `wait` or `Prefer: wait` the response has the settled task, and names an applied preference."""
    fake.during_wait = FakeApplication.settle
    url, headers = ("/v1/tasks?wait=20", {}) if source == "query" else ("/v1/tasks", {"Prefer": "wait=20"})
    response = await client.post(url, json=GOOD, headers=headers)
    assert (response.status_code, response.json()["status"]) == (202, "completed")
    assert response.headers.get("preference-applied") == ("wait=20" if source == "preference" else None)
    assert [topic for topic, _ in fake.waits] == ["task:task-1"]


@pytest.mark.parametrize(
    ("prefer", "applied"),
    [
        ("respond-async, wait=5", "wait=5"),
        ("respond-async,wait=5", "wait=5"),
        ("WAIT=7; foo", "wait=7"),
        ('wait="8"', "wait=8"),
        ("wait = 9 , respond-async", "wait=9"),
        ('note="a, wait=3", wait=6', "wait=6"),
        (r'note="a\", wait=3", wait=6', "wait=6"),
        ("wait=4, wait=6", "wait=4"),
        ("wait=0", "wait=0"),
        ("wait=999999", "wait=25"),
        ("wait=99999999999999", "wait=25"),
        ("wait=soon", None),
        ("wait=-5", None),
        ('wait="5', None),
        ("wait=5.5", None),
        ("wait", None),
        ("await=5", None),
        ('foo="a, wait=5', None),
        ('wait=5, foo="a', "wait=5"),
        # took more than a minute, in which nothing else was served
        pytest.param('"' + '\\"' * 30_000, None, id="many quotes without an end"),
        ("", None),
    ],
)
async def test_preferences_are_bounded_and_never_an_error(
    client: httpx.AsyncClient, fake: FakeApplication, prefer: str, applied: str | None
) -> None:
    """A preference is found among others and capped at WAIT_MAX; an invalid one is ignored."""
    fake.during_wait = FakeApplication.settle
    response = await client.post("/v1/tasks", json=GOOD, headers={"Prefer": prefer})
    assert (response.status_code, response.headers.get("preference-applied")) == (202, applied)


@pytest.mark.parametrize("status", [Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.EXPIRED])
async def test_ended_task_is_shown_immediately(
    client: httpx.AsyncClient, fake: FakeApplication, status: Status
) -> None:
    """A settled or expired task needs no wait."""
    fake.add(a_task(status=status))
    response = await client.get("/v1/tasks/task-1?wait=60")
    assert (response.json()["status"], fake.waits) == (status.value, [])


async def test_wait_continues_until_the_task_is_settled(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """After a signal the task is read again; each wait takes all of the time that is left."""
    fake.add(a_task())
    fake.during_wait = lambda fake: fake.settle() if len(fake.waits) == 3 else None
    response = await client.get("/v1/tasks/task-1?wait=60")
    assert response.json()["status"] == "completed"
    assert [(topic, round(seconds)) for topic, seconds in fake.waits] == [("task:task-1", 25)] * 3


@pytest.mark.parametrize("wanted", ["wait=60", "prefer"])
async def test_longer_wait_is_shortened(fake: FakeApplication, wanted: str) -> None:
    """A wait longer than WAIT_MAX is no error; `Prefer` works for a known task too, and says what was applied."""
    fake.add(a_task())
    fake.during_wait = FakeApplication.settle
    query, headers = (wanted, {}) if wanted != "prefer" else ("", {"Prefer": "wait=60"})
    async with client_of(app_of(fake, limits=WebLimits(wait_seconds=7))) as client:
        response = await client.get(f"/v1/tasks/task-1?{query}", headers=headers)
    assert [(topic, round(seconds)) for topic, seconds in fake.waits] == [("task:task-1", 7)]
    assert response.headers.get("preference-applied") == ("wait=7" if headers else None)


async def test_wait_ends_when_the_time_is_up(fake: FakeApplication) -> None:
    """An unsettled task is shown when the requested time has passed."""
    fake.add(a_task())
    now = anyio.current_time()
    loop_time = [now]

    def pass_time(_: FakeApplication) -> None:
        loop_time[0] += 1.0  # a notification each second

    fake.during_wait = pass_time
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("service.api.long_poll.anyio.current_time", lambda: loop_time[0])
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app_of(fake)), base_url="http://localhost"
        ) as client:
            response = await client.get("/v1/tasks/task-1?wait=3")
    assert (response.json()["status"], len(fake.waits)) == ("queued", 3)


async def test_shutdown_ends_the_wait(fake: FakeApplication) -> None:
    """A process that shuts down responds immediately with the unsettled task."""
    fake.add(a_task())
    app = app_of(fake, stopping=lambda: len(fake.waits) > 0)
    async with client_of(app) as client:
        response = await client.get("/v1/tasks/task-1?wait=60")
    assert (response.json()["status"], len(fake.waits)) == ("queued", 1)


async def test_disconnect_ends_the_wait(fake: FakeApplication) -> None:
    """A wait ends when its client has disconnected."""
    fake.add(a_task())
    began = anyio.Event()
    forever = anyio.Event()

    class WaitingApplication(FakeApplication):
        async def wait(self, topic: str, seconds: float) -> bool:
            self.waits.append((topic, seconds))
            began.set()
            await forever.wait()
            return True

    waiting = WaitingApplication(tasks_by_id=fake.tasks_by_id)
    incoming = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        for message in incoming:
            return message
        await began.wait()
        return {"type": "http.disconnect"}

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "GET",
        "path": "/v1/tasks/task-1",
        "query_string": b"wait=60",
        "headers": [(b"host", b"localhost")],
    }
    with anyio.fail_after(5):
        await app_of(waiting)(scope, receive, send)
    assert len(waiting.waits) == 1


@pytest.mark.parametrize("wait", ["1000000", "-1", "1.5", "soon", "", "٣"])
async def test_invalid_wait_is_422(client: httpx.AsyncClient, fake: FakeApplication, wait: str) -> None:
    """The fault has the bounds, and nothing is stored."""
    response = await client.post("/v1/tasks", params={"wait": wait}, json=GOOD)
    assert response.status_code == 422
    assert response.json()["errors"] == [{"loc": ["query", "wait"], "msg": "must be a whole number from 0 to 999999"}]
    assert not fake.accepted


async def test_unavailable_database_during_the_wait_is_503(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A read that fails after the wait is a temporary problem with Retry-After, not an internal error."""
    fake.add(a_task())

    async def fail(_: TaskId) -> Task:
        raise StoreUnavailable("gone")

    fake.during_wait = lambda fake: setattr(fake, "task", fail)
    response = await client.get("/v1/tasks/task-1?wait=60")
    assert (response.status_code, "retry-after" in response.headers) == (503, True)


async def test_expiry_ends_the_wait(client: httpx.AsyncClient, fake: FakeApplication) -> None:
    """A task that expires during the wait ends it."""
    fake.add(a_task())
    expired = replace(a_task(), status=Status.EXPIRED)
    fake.during_wait = lambda fake: fake.tasks_by_id.update({expired.id: expired})
    response = await client.get("/v1/tasks/task-1?wait=60")
    assert response.json()["status"] == "expired"


async def test_who_waits_for_a_task_watches_it() -> None:
    """A wait watches its task until it ends, and only that."""
    watched: list[str] = []

    @contextmanager
    def watching(task_id: TaskId) -> Iterator[None]:
        watched.append(f"begin {task_id}")
        yield
        watched.append(f"end {task_id}")

    parts = Waiting()
    queries: Any = parts
    poll = LongPoll(queries=queries, signals=parts.signals, stopping=lambda: False, watching=watching)
    await poll.until_settled(a_task(), 0.01, Request({"type": "http"}, _nothing))
    await poll.until_settled(replace(a_task(), status=Status.EXPIRED), 0.01, Request({"type": "http"}, _nothing))
    assert watched == ["begin task-1", "end task-1"]


@dataclass
class Waiting:
    """The parts of a long poll over real signals, with counted reads. `ended_ids` is what a check finds."""

    ended_ids: list[TaskId] = field(default_factory=list)
    reads: int = 0
    checks: list[list[TaskId]] = field(default_factory=list)
    error: Exception | None = None
    signals: LocalSignals = field(default_factory=LocalSignals)
    stopped: bool = False

    async def task(self, task_id: TaskId) -> Task:
        """Return the task, completed if its id is among `ended_ids`."""
        self.reads += 1
        return replace(a_task(), id=task_id, status=Status.COMPLETED if task_id in self.ended_ids else Status.QUEUED)

    async def ended(self, task_ids: Sequence[TaskId]) -> list[TaskId]:
        """Record a check."""
        self.checks.append(list(task_ids))
        if self.error:
            raise self.error
        return self.ended_ids

    def start(self, group: anyio.abc.TaskGroup, ids: Sequence[TaskId]) -> LongPoll:
        """Start a wait of an hour for each id."""
        queries: Any = self
        poll = LongPoll(queries=queries, signals=self.signals, stopping=lambda: self.stopped)
        for task_id in ids:
            request = Request({"type": "http"}, _nothing)
            group.start_soon(poll.until_settled, replace(a_task(), id=task_id), 3600, request)
        return poll


async def _nothing() -> Message:
    await anyio.sleep_forever()
    raise AssertionError("unreachable")


IDS = [TaskId(f"t{number}") for number in range(400)]


@pytest.fixture
def checked_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the interval of the checks."""
    monkeypatch.setattr(long_poll, "CHECK_INTERVAL", 0.01)


@pytest.mark.usefixtures("checked_often")
async def test_waits_share_one_query_and_read_nothing_else() -> None:
    """While nothing happens four hundred waits cost one query an interval, and none of them reads its task."""
    waiting = Waiting()
    async with anyio.create_task_group() as group:
        poll = waiting.start(group, IDS)
        while len(waiting.checks) < 3:  # noqa: ASYNC110 - the checks have no event
            await anyio.sleep(0.005)
        assert waiting.reads == 0
        assert {frozenset(each) for each in waiting.checks} == {frozenset(IDS)}
        group.cancel_scope.cancel()
    assert (poll._waiting, poll._checks) == ({}, [])


@pytest.mark.usefixtures("checked_often")
async def test_lost_notification_is_found_by_the_check() -> None:
    """A task that ended without a signal, as in another process over SQLite, ends its wait; a failed check does not."""
    waiting = Waiting(error=StoreUnavailable("gone"))
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            waiting.start(group, IDS[:1])
            while not waiting.checks:  # noqa: ASYNC110 - the checks have no event
                await anyio.sleep(0.005)
            waiting.error, waiting.ended_ids = None, IDS[:1]


async def test_notification_wakes_only_the_waits_of_its_task() -> None:
    """A signal is enough to end a wait, without any check."""
    waiting = Waiting(ended_ids=IDS[:1])
    async with anyio.create_task_group() as group:
        waiting.start(group, IDS)
        await anyio.wait_all_tasks_blocked()
        waiting.signals.notify(f"task:{IDS[0]}")
        await anyio.wait_all_tasks_blocked()
        assert (waiting.reads, waiting.checks) == (1, [])
        group.cancel_scope.cancel()


@pytest.mark.usefixtures("checked_often")
async def test_shutdown_ends_every_wait() -> None:
    """A process that stops wakes all waits."""
    waiting = Waiting()
    with anyio.fail_after(5):
        async with anyio.create_task_group() as group:
            waiting.start(group, IDS)
            await anyio.wait_all_tasks_blocked()
            waiting.stopped = True
