"""`GET /v1/events` over real connections: what is streamed, to whom, from where, and how a stream ends."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Scope

from service.api import connections, event_response, server, stream_sessions
from service.api.app import WebLimits
from service.api.event_schemas import StreamedEvent
from service.api.problems import Problem
from service.api.server import listen, serving
from service.domain.errors import StoreUnavailable
from service.domain.session_tokens import key_fingerprint
from service.domain.task import EventType, TaskId
from service.storage.local_signals import LocalSignals
from service.tasks.event_feed import EventFeed
from tests.support.fake_event_log import FakeEventLog
from tests.unit.api.fakes import KEYS, FakeApplication, a_task, app_of

TIMEOUT = 10.0


@dataclass
class Running:
    """A served application with a log of events."""

    url: str = ""
    log: FakeEventLog = field(default_factory=FakeEventLog)
    signals: LocalSignals = field(default_factory=LocalSignals)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    watched: list[str] = field(default_factory=list)

    def http(self, key: str = "root") -> httpx.AsyncClient:
        """Return a client."""
        headers = {"Authorization": f"Bearer key-of-{key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, trust_env=False, timeout=TIMEOUT)

    @contextmanager
    def watching(self, task_id: TaskId) -> Iterator[None]:
        """Note who is watched inside the block."""
        self.watched.append(task_id)
        yield
        self.watched.append(f"no longer {task_id}")

    def happen(self, count: int = 1, **of: object) -> None:
        """Log events and notify."""
        self.log.add(count, **of)  # type: ignore[arg-type]
        self.signals.notify("events")


class Browsers:
    """Pages whose cookie names the key of a session; `ended` says that all of them have ended."""

    ended = False

    def routes(self) -> Sequence[Route]:
        """Return no route."""
        return ()

    async def session(self, request: Request) -> tuple[str, str] | None:
        """Return the session of the cookie."""
        key = request.cookies.get("key")
        return (key_fingerprint(key), "one") if key and not self.ended else None

    def problem_page(self, problem: Problem, scope: Scope) -> Response:
        """Return the problem as the API has it."""
        assert scope["type"] == "http"
        return problem.response()


@pytest.fixture
def browsers() -> Browsers:
    """Return the sessions of browsers."""
    return Browsers()


@pytest.fixture
async def running(fake: FakeApplication, browsers: Browsers) -> AsyncIterator[Running]:
    """Yield a server on loopback."""
    running, listener = Running(), listen("127.0.0.1", 0)
    app = app_of(
        fake,
        browsers,
        api_keys=KEYS,
        feed=EventFeed(running.log, running.signals),
        stopped=running.stop.wait,
        watching=running.watching,
        limits=WebLimits(streams=4),
    )
    async with serving(app, listener, grace=3) as running.url:
        yield running
        running.stop.set()


@asynccontextmanager
async def lines_of(http: httpx.AsyncClient, query: str = "", **headers: str) -> AsyncIterator[AsyncIterator[str]]:
    """Yield the lines of a stream."""
    async with asyncio.timeout(TIMEOUT), http, http.stream("GET", f"/v1/events{query}", headers=headers) as response:
        assert response.status_code == 200, await response.aread()
        yield response.aiter_lines()


async def numbers(lines: AsyncIterator[str], count: int) -> list[int]:
    """Return the ids of the next events."""
    found: list[int] = []
    while len(found) < count:
        line = await anext(lines)
        if line.startswith("id: "):
            found.append(int(line.removeprefix("id: ")))
    return found


async def all_numbers(running: Running, query: str, *, key: str = "root", **headers: str) -> list[int]:
    """Return the ids of all stored events."""
    joint = "&" if query else "?"
    async with running.http(key) as http:
        response = await http.get(f"/v1/events{query}{joint}wait=0", headers=headers)
        assert response.status_code == 200, response.text
        return [int(line[4:]) for line in response.text.splitlines() if line.startswith("id: ")]


async def test_event_is_the_body_of_a_webhook(running: Running) -> None:
    """An event has its number as `id`, its type as `event`, and the body of a webhook on one line of ASCII."""
    running.happen(task="t1")
    running.log.events[0].event.data.update(metadata={"note": "a\u2028b\ud800\nc"}, artifact={"url": "x"})
    async with running.http() as http:
        response = await http.get("/v1/events?after=0&wait=0")
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert (response.headers["last-event-id"], response.headers["cache-control"]) == ("0", "no-store")
    block = response.content.split(b"\n\n")[0].splitlines()
    assert block[-3:-1] == [b"id: 1", b"event: task.completed"]
    body = json.loads(block[-1].removeprefix(b"data: "))
    task = {"id": "t1", "metadata": {"note": "a\u2028b\ud800\nc"}}
    assert body == {
        "id": "e1",
        "type": "task.completed",
        "timestamp": "2026-05-06T12:09:42.000Z",
        "data": {"task": task, "payload": None, "metadata": task["metadata"], "client": "ann"},
    }


async def test_event_matches_its_schema(running: Running) -> None:
    """The fields of an event are those of the document."""
    running.happen()
    async with running.http() as http:
        text = (await http.get("/v1/events?after=0&wait=0")).text
    fields = dict(line.split(": ", 1) for line in text.splitlines() if line and not line.startswith((":", "retry")))
    assert StreamedEvent.model_validate_json(json.dumps(fields)).event is EventType.COMPLETED


async def test_stream_follows_from_now_on_and_resumes(running: Running) -> None:
    """Without a position a stream has new events; with the last id, by header or query, what came after it."""
    running.happen(3)
    async with lines_of(running.http()) as lines:
        await anext(lines)
        running.happen(2)
        assert await numbers(lines, 2) == [7, 9]
    assert await all_numbers(running, "?after=5") == [7, 9]
    assert await all_numbers(running, "?after=0", **{"Last-Event-ID": "7"}) == [9]
    assert await all_numbers(running, "?after=0", **{"Last-Event-ID": ""}) == [1, 3, 5, 7, 9]
    assert await all_numbers(running, "") == []


async def test_position_past_the_end_begins_at_the_end(running: Running) -> None:
    """After a restore of the database a client may know later numbers: it gets what comes from now on."""
    running.happen(2)
    async with lines_of(running.http(), "?after=999") as lines:
        await anext(lines)
        running.happen()
        assert await numbers(lines, 1) == [5]


async def test_client_sees_its_own_events_only(running: Running, fake: FakeApplication) -> None:
    """A client gets the events of its own tasks, an admin all; filters narrow them."""
    fake.add(a_task(1, client="ann"), a_task(2, client="bob"))
    running.happen(client="ann", task="task-1")
    running.happen(client="bob", task="task-2")
    running.happen(client="ann", task="task-1", type_=EventType.FAILED)
    assert await all_numbers(running, "?after=0", key="root") == [1, 3, 5]
    assert await all_numbers(running, "?after=0", key="ann") == [1, 5]
    assert await all_numbers(running, "?after=0&type=task.failed", key="ann") == [5]
    assert await all_numbers(running, "?after=0&type=task.failed,task.completed&type=task.failed", key="bob") == [3]
    assert await all_numbers(running, "?after=0&task=task-2&task=task-1") == [1, 3, 5]
    assert await all_numbers(running, "?after=0&task=task-2") == [3]
    assert running.watched[-2:] == ["task-2", "no longer task-2"]


@pytest.mark.parametrize(
    ("query", "status", "loc"),
    [
        ("?type=task.done", 422, ["query", "type"]),
        ("?task=a%20b", 422, ["query", "task"]),
        ("?task=" + ",".join(f"t{number}" for number in range(21)), 422, ["query", "task"]),
        ("?after=-1", 422, ["query", "after"]),
        ("?after=99999999999999999", 422, ["query", "after"]),
        ("?after=1&after=2", 422, ["query", "after"]),
        ("?since=1", 422, ["query", "since"]),
        ("?task=nobody", 404, None),
        ("?task=task-2", 404, None),
    ],
)
async def test_wrong_request_is_refused(
    running: Running, fake: FakeApplication, query: str, status: int, loc: list[str] | None
) -> None:
    """Each fault is named; a task of another client does not exist."""
    fake.add(a_task(2, client="bob"))
    async with running.http("ann") as http:
        response = await http.get(f"/v1/events{query}")
    assert response.status_code == status
    assert loc is None or response.json()["errors"][0]["loc"] == loc


@pytest.mark.parametrize("value", ["soon", "-1", "1.5", "9007199254740992", "1,2"])
async def test_wrong_last_event_id_is_refused(running: Running, value: str) -> None:
    """A text that is no number of an event is named, and nothing is streamed."""
    async with running.http() as http:
        response = await http.get("/v1/events?wait=0", headers={"Last-Event-ID": value})
    assert (response.status_code, response.json()["errors"][0]["loc"]) == (422, ["header", "Last-Event-ID"])


async def test_refusals_come_before_the_stream(running: Running) -> None:
    """Without a key there is a 401, without a database a 503: a stream that has begun has no status any more."""
    async with running.http("nobody") as http:
        assert (await http.get("/v1/events")).status_code == 401
    running.log.failures = 1
    async with running.http() as http:
        response = await http.get("/v1/events")
    assert (response.status_code, "retry-after" in response.headers) == (503, True)
    assert StoreUnavailable.__name__ not in response.text


async def test_one_client_cannot_take_every_stream(running: Running) -> None:
    """A client begins a stream only while it has fewer than are free: of four, two are left for others."""
    async with lines_of(running.http("ann")) as one, lines_of(running.http("ann")) as two:
        await asyncio.gather(anext(one), anext(two))
        async with running.http("ann") as http:
            refused = await http.get("/v1/events")
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
        async with lines_of(running.http("bob")) as other:
            await anext(other)
    async with asyncio.timeout(TIMEOUT), running.http("ann") as http:
        while (await http.get("/v1/events?wait=0")).status_code != 200:
            pass


async def test_heartbeats_are_comments(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quiet stream has a comment now and then, which is no event, and lasts longer than an idle connection may."""
    monkeypatch.setattr(event_response, "HEARTBEAT_SECONDS", 0.05)
    async with lines_of(running.http()) as lines:
        seen = [await anext(lines) for _ in range(5)]
    assert seen[0] == "retry: 2000"
    assert all(line.startswith(": ") for line in seen[1:])


@pytest.mark.parametrize("heartbeat", [0.05, 60])
async def test_stream_ends_with_its_session(
    running: Running, browsers: Browsers, monkeypatch: pytest.MonkeyPatch, heartbeat: float
) -> None:
    """After signing out a browser gets no event, and a quiet stream ends with a heartbeat; one of a key goes on."""
    monkeypatch.setattr(event_response, "HEARTBEAT_SECONDS", heartbeat)
    monkeypatch.setattr(stream_sessions, "CHECK_SECONDS", 0)
    browser = httpx.AsyncClient(
        base_url=running.url, headers={"Cookie": "key=key-of-root"}, trust_env=False, timeout=TIMEOUT
    )
    async with lines_of(browser) as lines, lines_of(running.http()) as others:
        await anext(others)
        assert await anext(lines) == "retry: 2000"
        running.happen()
        assert await numbers(lines, 1) == await numbers(others, 1) == [1]
        browsers.ended = True
        if heartbeat > 1:
            running.happen()
            assert await numbers(others, 1) == [3]
        assert not [line async for line in lines if line.startswith("id: ")]


async def test_stop_ends_streams_at_once_and_properly(running: Running) -> None:
    """When the process stops, each stream ends with the last chunk: the client knows that nothing was cut."""
    async with lines_of(running.http()) as lines, lines_of(running.http("ann")) as others:
        await asyncio.gather(anext(lines), anext(others))
        loop = asyncio.get_running_loop()
        began = loop.time()
        running.stop.set()
        assert [line async for line in lines] == [line async for line in others] == [": the stream begins"]
        assert loop.time() - began < 2


async def test_stream_ends_after_its_time(running: Running) -> None:
    """With `wait` a stream ends by itself, for routers that limit the time of a request."""
    async with lines_of(running.http(), "?wait=1") as lines:
        assert [line async for line in lines] == ["retry: 2000", ": the stream begins"]


async def test_head_begins_no_stream(running: Running) -> None:
    """HEAD has the headers and no body."""
    async with running.http() as http:
        response = await http.head("/v1/events")
    assert (response.status_code, response.headers["last-event-id"], response.content) == (200, "0", b"")


async def test_disconnected_listener_is_released(running: Running) -> None:
    """Whoever leaves is no longer read for."""
    async with lines_of(running.http()) as lines:
        await anext(lines)
    async with asyncio.timeout(TIMEOUT):
        before = -1
        while before != running.log.reads:
            before = running.log.reads
            running.signals.notify("events")
            await asyncio.sleep(0.1)


async def test_listener_that_does_not_read_is_dropped(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that takes nothing for a while loses its connection; with its last id it gets the rest."""
    monkeypatch.setattr(connections, "STALL_SECONDS", 0.2)
    monkeypatch.setattr(server, "SWEEP_INTERVAL", 1)
    running.log.add(300)
    for each in running.log.events:
        each.event.data["padding"] = "x" * 100_000
    port = httpx.URL(running.url).port or 0
    with socket.socket() as peer:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(("127.0.0.1", port))
        peer.sendall(b"GET /v1/events?after=0 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer key-of-root\r\n\r\n")
        await asyncio.sleep(3)
        received = await asyncio.to_thread(_rest, peer)
    ids = [int(line[4:]) for line in received.split(b"\n") if line.startswith(b"id: ")]
    assert 0 < len(ids) < 300
    assert not received.endswith(b"0\r\n\r\n")
    whole = received.count(b"}}\n\n")
    last = ids[whole - 1] if whole else 0
    assert await all_numbers(running, f"?after={last}") == list(range(last + 2, 600, 2))


def _rest(peer: socket.socket) -> bytes:
    """Return what a peer can still read of a connection that was ended."""
    parts = []
    peer.settimeout(TIMEOUT)
    with suppress(ConnectionError):
        while part := peer.recv(1 << 20):
            parts.append(part)
    return b"".join(parts)
