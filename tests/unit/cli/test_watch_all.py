"""`boomerang watch` without an id: the live table, the lines of a pipe, and where the changes come from."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from rich.cells import cell_len
from rich.console import Console

from service.cli import Unreachable, UsageError, task_feed
from service.cli.api_client import Client
from service.cli.live_tasks import MAX_TASKS, TaskBoard
from service.cli.task_feed import TaskChanges, TaskFeed
from tests.unit.cli.fake_service import FakeService, Json, fake_service, problem, task

NOW = datetime(2026, 1, 2, 3, 5, 5, tzinfo=UTC)
BIN = Path(sys.executable).parent


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service."""
    with fake_service() as fake:
        yield fake


def rendered(board: TaskBoard, *, width: int, height: int = 24) -> list[str]:
    """Return the lines of the table on a terminal of this size."""
    out = Console(width=width, height=height, color_system=None, legacy_windows=False)
    with out.capture() as captured:
        for line in board.render(NOW, width=width, height=height):
            out.print(line, soft_wrap=True)
    return captured.get().splitlines()


@pytest.mark.parametrize("width", [20, 40, 72, 80, 100, 120, 200])
def test_lines_fit_the_terminal(width: int) -> None:
    """No line is wider than the terminal, with wide characters and long texts too."""
    board = TaskBoard()
    prompt = "山の朝 " * 40
    board.add(TaskChanges(tasks=[task(id="0198c2ff" * 4, params={"prompt": prompt}, status="in_progress")]))
    lines = rendered(board, width=width)
    assert len(lines) == (2 if width >= 72 else 3)
    assert max(map(cell_len, lines)) <= width
    assert width < 40 or "0198c2ff" * 4 in " ".join(lines)


def test_unfinished_tasks_come_first_and_fit_the_height() -> None:
    """What is still running is never pushed out of sight by what has ended."""
    board = TaskBoard()
    ended = [task(id=f"ended{number}", created_at=f"2026-01-02T03:05:{number:02}Z") for number in range(30)]
    board.add(TaskChanges(tasks=[*ended, task(id="runs", status="in_progress", created_at="2026-01-01T00:00:00Z")]))
    lines = rendered(board, width=120, height=10)
    assert len(lines) <= 10
    assert "runs" in lines[1]
    assert "ended29" in lines[2]


async def test_feed_remembers_the_last_tasks_alone(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A feed that runs for months keeps how a bounded number of tasks looked, those that it saw last."""
    monkeypatch.setattr(task_feed, "MAX_KNOWN", 3)
    async with Client(service.url) as client:
        feed = TaskFeed(client=client)
        new = [name if feed._is_new(task(id=name)) else "-" for name in "abcadbdca"]
        assert "".join(new) == "abc-db-ca"
        assert len(feed._known) == 3


def test_memory_is_bounded() -> None:
    """The oldest finished tasks are left out first, and unfinished ones only when there are too many of them."""
    board = TaskBoard()
    board.add(TaskChanges(tasks=[task(id="runs", status="queued", created_at="2020-01-01T00:00:00Z")]))
    for number in range(MAX_TASKS + 50):
        at = (NOW + timedelta(seconds=number)).isoformat()
        board.add(TaskChanges(tasks=[task(id=f"t{number}", created_at=at)]))
    assert len(board.tasks) == MAX_TASKS
    assert "runs" in board.tasks
    assert "t0" not in board.tasks


def test_control_characters_do_not_reach_the_terminal() -> None:
    """A prompt, a note and a reason cannot move the cursor."""
    board = TaskBoard(lost="")
    board.add(TaskChanges(tasks=[task(id="a\x1b[2Jb", note="\x1b]0;title\x07", status="\x1b[31mred")], lost="\x1b[2J"))
    assert "\x1b[2J" not in "".join(rendered(board, width=120))
    assert "\x07" not in "".join(rendered(board, width=120))


def event(number: int, **changes: object) -> bytes:
    """Return one event of the stream."""
    body = {"id": str(number), "type": "task.progressed", "data": {"task": task(**changes)}}
    return f"id: {number}\nevent: task.progressed\ndata: {json.dumps(body)}\n\n".encode()


class Cut(httpx.AsyncByteStream):
    """A body that ends after its chunks, or fails with an error."""

    def __init__(self, *chunks: bytes, error: Exception | None = None) -> None:
        self.chunks, self.error = chunks, error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.error:
            raise self.error


def stream(*chunks: bytes, position: str = "5", error: Exception | None = None) -> httpx.Response:
    """Return a response of the event stream."""
    headers = {"content-type": "text/event-stream; charset=utf-8", "last-event-id": position}
    return httpx.Response(200, headers=headers, stream=Cut(*chunks, error=error))


def page(*tasks: Json) -> httpx.Response:
    """Return a response of the list."""
    return httpx.Response(200, json={"data": list(tasks), "next_cursor": None})


async def changes_of(count: int, **responses: list[httpx.Response]) -> tuple[list[TaskChanges], list[httpx.Request]]:
    """Return the first `count` changes of a feed over these responses to `events` and `tasks`; the last repeats."""
    requests: list[httpx.Request] = []

    def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        found = responses[request.url.path.rpartition("/")[2]]
        return found.pop(0) if len(found) > 1 else found[0]

    found: list[TaskChanges] = []
    async with (
        Client("http://127.0.0.1:1", transport=httpx.MockTransport(respond)) as client,
        aclosing(TaskFeed(client=client).changes()) as changes,
    ):
        async for each in changes:
            found.append(each)
            if len(found) == count:
                break
    return found, requests


@pytest.fixture
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    """Move the time between two tries instead of waiting."""
    monkeypatch.setattr(task_feed, "POLL_SECONDS", 0)


@pytest.mark.usefixtures("no_pause")
async def test_lost_stream_is_resumed_where_it_ended() -> None:
    """After a cut the next stream begins behind the last event, and the list shows what was missed."""
    cut = stream(b": hi\n", event(6, progress=0.5)[:40], event(6, progress=0.5)[40:], error=httpx.ReadError("cut"))
    lists = [page(task(progress=0.1)), page(task(progress=0.5)), page(task(progress=0.5))]
    found, requests = await changes_of(5, events=[cut, stream(event(7, status="failed"))], tasks=lists)
    assert [bool(each.lost) for each in found] == [False, False, True, False, False]
    assert [[one["progress"] for one in each.tasks] for each in found[:2]] == [[0.1], [0.5]]
    assert found[4].tasks[0]["status"] == "failed"
    positions = [request.headers.get("last-event-id") for request in requests if request.url.path == "/v1/events"]
    assert positions == [None, "6"]


@pytest.mark.usefixtures("no_pause")
async def test_service_without_a_stream_is_polled() -> None:
    """An earlier release has no event stream: the list is read again and again, and only changes are shown."""
    lists = [page(task(progress=0.1)), page(task(progress=0.1)), page(task(progress=0.9))]
    missing = httpx.Response(404, json=problem("no such address"))
    found, requests = await changes_of(3, events=[missing], tasks=lists)
    assert [[one["progress"] for one in each.tasks] for each in found] == [[0.1], [], [0.9]]
    assert sum(request.url.path == "/v1/events" for request in requests) == 1


@pytest.mark.usefixtures("no_pause")
async def test_wrong_key_ends_the_command_and_a_lost_service_only_after_a_minute() -> None:
    """A refused key does not become right; a service that restarts is awaited."""
    refused = httpx.Response(401, json=problem("the key is not known"))
    with pytest.raises(UsageError, match="not known"):
        await changes_of(9, events=[refused], tasks=[page()])
    busy = httpx.Response(503, json=problem("starting"))
    found, _ = await changes_of(task_feed.MAX_TRIES - 1, events=[busy], tasks=[page()])
    assert all(each.lost == "starting" for each in found)
    with pytest.raises(Unreachable, match="starting"):
        await changes_of(task_feed.MAX_TRIES, events=[busy], tasks=[page()])


@pytest.mark.usefixtures("no_pause")
async def test_endless_line_and_foreign_events_are_harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no event of a task is skipped; a line without an end does not fill the memory."""
    odd = b"data: {}\n\ndata: [\n\nid: 6\ndata: null\n\ndata: " + b"[" * 2000 + b"\n\n"
    found, _ = await changes_of(2, events=[stream(odd, event(7, progress=0.7))], tasks=[page()])
    assert found[1].tasks[0]["progress"] == 0.7
    monkeypatch.setattr(task_feed, "MAX_LINE", 1000)
    found, _ = await changes_of(2, events=[stream(b"data: " + b"x" * 2000)], tasks=[page()])
    assert "too long" in found[1].lost


def watching(
    service: FakeService,
    *options: str,
    columns: int | None,
    term: str = "xterm",
    end: signal.Signals = signal.SIGINT,
) -> tuple[int, str, str]:
    """Run the command until it has shown a task, then send `end`; return exit code, output, errors.

    With `columns` standard output and standard error are a terminal of that width and of the kind `term`.
    """
    env = {name: text for name, text in os.environ.items() if not name.startswith(("BOOMERANG_", "COLUMNS"))}
    env |= {"BOOMERANG_URL": service.url, "TERM": term, "LANG": "C.UTF-8"}
    command = [str(BIN / "boomerang"), "watch", *options]
    if columns is None:
        process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # noqa: S603
        wait_for_requests(service, 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        return process.returncode, out.decode(), err.decode()
    leader, follower = pty.openpty()
    os.set_blocking(leader, False)
    env["COLUMNS"] = str(columns)
    process = subprocess.Popen(command, env=env, stdout=follower, stderr=follower)  # noqa: S603
    os.close(follower)
    shown = read_until(leader, b"0198c2")
    process.send_signal(end)
    shown += read_until(leader, None)
    os.close(leader)
    return process.wait(60), shown.decode(), ""


def read_until(leader: int, wanted: bytes | None, *, seconds: float = 60) -> bytes:
    """Return what a terminal shows until `wanted` is among it, or until its program has ended."""
    found, end = b"", time.monotonic() + seconds
    while time.monotonic() < end and (wanted is None or wanted not in found):
        if select.select([leader], [], [], 0.2)[0]:
            try:
                found += os.read(leader, 65536)
            except OSError:  # the program has ended
                break
    return found


def wait_for_requests(service: FakeService, count: int) -> None:
    """Wait until the service has had so many requests."""
    end = time.monotonic() + 60
    while len(service.requests) < count and time.monotonic() < end:
        time.sleep(0.05)  # another process starts


def test_table_on_a_terminal(service: FakeService) -> None:
    """A terminal gets a table that is drawn over itself, and the cursor back at the end."""
    service.respond_to(
        "GET /v1/tasks", (200, {"data": [task(status="in_progress", progress=0.4)], "next_cursor": None})
    )
    code, shown, _ = watching(service, columns=100)
    assert code == 130
    assert "\x1b[?25l" in shown
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
    assert "40%" in shown


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("options", [(), ("0198c2",)], ids=["all", "one"])
def test_cursor_is_back_after_a_signal(service: FakeService, options: tuple[str, ...], end: signal.Signals) -> None:
    """The program ends by the signal, as without a handler, and leaves no terminal without its cursor."""
    running = task(status="in_progress", progress=0.4, params={"prompt": "0198c2"}, note="0198c2 runs")
    service.respond_to("GET /v1/tasks", (200, {"data": [running], "next_cursor": None}))
    service.respond_to("GET /v1/tasks/0198c2", (200, running))
    code, shown, _ = watching(service, *options, columns=100, end=end)
    assert code == -end
    assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")


def test_terminal_that_cannot_draw_again_gets_lines(service: FakeService) -> None:
    """As in an editor's shell: a line for each change, and no escape sequence."""
    page = {"data": [task(status="in_progress", progress=0.4)], "next_cursor": None}
    service.respond_to("GET /v1/tasks", (200, page))
    code, shown, _ = watching(service, columns=100, term="dumb")
    assert (code, "\x1b" in shown, "in_progress  40%" in shown) == (130, False, True)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_lines_in_a_pipe(service: FakeService, options: tuple[str, ...]) -> None:
    """A pipe gets a plain line for each change, without colours, bars and cursor movements."""
    lists = [task(status="in_progress", progress=progress) for progress in (0.1, 0.1, 0.6)]
    service.respond_to("GET /v1/tasks", *[(200, {"data": [each], "next_cursor": None}) for each in lists])
    code, out, err = watching(service, *options, columns=None)
    assert code == 130
    assert "\x1b" not in out + err
    lines = (out if options else err).splitlines()
    if options:
        assert json.loads(lines[0])["id"] == "0198c2"
        assert err == ""
    else:
        assert out == ""
        assert lines[0].endswith("0198c2  in_progress  10%  A walk")
