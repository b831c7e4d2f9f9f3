"""The task commands against a fake service over real HTTP."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len

from tests.unit.cli.fake_service import FakeService, fake_service, problem, run, task


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service."""
    with fake_service() as fake:
        yield fake


def test_watch_increases_its_wait_up_to_five_seconds(service: FakeService) -> None:
    """The first requests are short; later ones are as long as the service waits between two polls of a watched task."""
    running = [(200, task(status="in_progress", progress=0.4))] * 20
    service.respond_to("GET /v1/tasks/0198c2", *running, (200, task()))
    assert run("watch", "0198c2", url=service.url).exit_code == 0
    waits = [int(request.path.partition("?wait=")[2]) for request in service.requests[1:]]
    assert (waits[:8], set(waits[8:])) == ([1, 1, 1, 1, 1, 2, 3, 4], {5})


def test_unreachable_service_is_reported_in_one_line() -> None:
    """Exit code 1; the message gives the address and a fix, without a traceback."""
    result = run("tasks", url="http://127.0.0.1:9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: no service answers at http://127.0.0.1:9; start one with `boomerang serve`\n"


@pytest.mark.parametrize(("status", "code"), [(401, 2), (403, 2), (404, 1), (409, 1), (500, 1), (503, 1)])
def test_exit_codes_distinguish_usage_errors_from_failures(service: FakeService, status: int, code: int) -> None:
    """A refused key is a configuration error (2); an unknown task or an error of the service is a failure (1)."""
    service.respond_to("GET /v1/tasks/x", (status, problem("detail of the service")))
    result = run("status", "x", url=service.url)
    assert result.exit_code == code
    assert "detail of the service" in result.stderr


@pytest.mark.parametrize("body", ["<html>", "", "[]", "null", "{"])
def test_response_of_another_server_is_reported(service: FakeService, body: str) -> None:
    """The server at the address may not be a Boomerang service."""
    service.respond_to("GET /v1/tasks/x", (200 if body else 500, body))
    result = run("status", "x", url=service.url)
    assert result.exit_code == 1
    assert "Error: " in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_key_is_sent_with_each_request_and_never_printed(service: FakeService) -> None:
    """BOOMERANG_API_KEY is the default; --api-key overrides it."""
    service.respond_to("GET /v1/tasks/x", (401, problem("who are you")))
    first = run("status", "x", url=service.url, env={"BOOMERANG_API_KEY": "hunter2-hunter2"})
    run("status", "x", "--api-key", "other", url=service.url, env={"BOOMERANG_API_KEY": "hunter2-hunter2"})
    assert [request.headers["authorization"] for request in service.requests] == [
        "Bearer hunter2-hunter2",
        "Bearer other",
    ]
    assert "hunter2" not in first.output
    assert "set BOOMERANG_API_KEY or --api-key" in first.stderr


def test_address_and_key_are_read_from_dotenv(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The client commands read `.env` in the working directory too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"BOOMERANG_URL={service.url}/\nBOOMERANG_API_KEY=from-the-file\n")
    service.respond_to("GET /v1/tasks/x", (200, task()))
    assert run("status", "x").exit_code == 0
    assert service.requests[0].headers["authorization"] == "Bearer from-the-file"


def test_dotenv_with_another_encoding_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client command ends with 2; the message names the file, the line and the required encoding."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BOOMERANG_URL", raising=False)
    (tmp_path / ".env").write_bytes(b"BOOMERANG_API_KEY=\xff\n")
    result = run("tasks")
    assert result.exit_code == 2
    assert "Error: .env cannot be read: line 1 is not UTF-8; it must be a text file" in result.stderr


def test_status_shows_result_cost_and_warnings(service: FakeService) -> None:
    """The output contains the status, the result address, the cost and the warnings."""
    service.respond_to("GET /v1/tasks/0198c2", (200, task()))
    shown = run("status", "0198c2", url=service.url).stderr
    for words in ("completed", "A walk", "file:///srv/v.mp4", "0.35 USD", "callback", "bgm has no effect"):
        assert words in shown


def test_external_text_cannot_control_the_terminal(service: FakeService) -> None:
    """Control characters in a prompt are removed, and markup is printed as text."""
    service.respond_to("GET /v1/tasks/x", (200, task(params={"prompt": "\x1b[2J\x07[red]boo[/red]"})))
    shown = run("status", "x", url=service.url).stderr
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[red]boo[/red]" in shown


def test_id_is_quoted_in_the_path(service: FakeService) -> None:
    """An id is always one segment of the path."""
    run("status", "../deliveries?x=/", url=service.url)
    assert service.requests[0].path == "/v1/tasks/..%2Fdeliveries%3Fx%3D%2F"


def test_tasks_lists_a_page_and_the_command_for_the_next(service: FakeService) -> None:
    """The list is filtered by status, and the command for the next page is printed."""
    service.respond_to(
        "GET /v1/tasks", (200, {"data": [task(), task(id="0198c1", status="failed")], "next_cursor": "abc"})
    )
    result = run("tasks", "--status", "failed", "--limit", "2", url=service.url)
    assert service.requests[0].path == "/v1/tasks?status=failed&limit=2"
    assert [line.split()[0] for line in result.stderr.splitlines()] == ["id", "0198c2", "0198c1", "More:"]
    assert result.stderr.endswith("More: boomerang tasks --status failed --limit 2 --cursor abc\n")


@pytest.mark.parametrize(("columns", "folds"), [("70", True), ("80", True), ("140", False)])
def test_narrow_terminal_prints_prompts_on_a_second_line(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, columns: str, folds: bool
) -> None:
    """If a row is too long, its prompt moves to a second line; the id stays on the first."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    page = [task(id="01a20469-745f-70c8-a990-0bffbb6af2ec", status="in_progress", params={"prompt": "A walk " * 9})]
    service.respond_to("GET /v1/tasks", (200, {"data": page, "next_cursor": None}))
    shown = run("tasks", url=service.url, env={"COLUMNS": columns}).stderr
    row, *beneath = re.sub("\x1b[^m]*m", "", shown).splitlines()[2 if folds else 1 :]
    prompt = ("A walk " * 9)[:59] + "…"
    start = "01a20469-745f-70c8-a990-0bffbb6af2ec  in_progress  100%  01-02 03:04"
    assert (row, beneath) == ((start, [f"  {prompt}"]) if folds else (f"{start}    {prompt}", []))


def test_empty_task_list_prints_a_message(service: FakeService) -> None:
    """An empty list prints a message; with --json it is a page."""
    service.respond_to("GET /v1/tasks", (200, {"data": [], "next_cursor": None}))
    result = run("tasks", url=service.url)
    assert (result.stdout, result.stderr) == ("", "No tasks.\n")
    assert json.loads(run("tasks", "--json", url=service.url).stdout) == {"data": [], "next_cursor": None}


def test_refused_cancel_prints_the_reason(service: FakeService) -> None:
    """A refusal of the provider is printed with exit code 1; after a cancel the exit code is 0."""
    service.respond_to(
        "POST /v1/tasks/x/cancel", (409, problem("task state is scheduled")), (200, task(status="canceled"))
    )
    refused = run("cancel", "x", url=service.url)
    assert (refused.exit_code, "task state is scheduled" in refused.stderr) == (1, True)
    assert run("cancel", "x", url=service.url).exit_code == 0


def test_watch_ends_when_the_task_finishes(service: FakeService) -> None:
    """An unknown task fails immediately; a known one is followed until it finishes."""
    service.respond_to("GET /v1/tasks/x", (200, task(status="in_progress", progress=0.5)), (200, task()))
    assert run("watch", "x", url=service.url).exit_code == 0
    assert run("watch", "y", url=service.url).exit_code == 1


def test_output_works_in_every_encoding(service: FakeService) -> None:
    """With ASCII output, other characters are escaped; there is no traceback."""
    service.respond_to("GET /v1/tasks/x", (200, task(params={"prompt": "Ein Spaß"})))
    code = f"from service.cli import main; main(['status', 'x', '--url', {service.url!r}])"
    result = subprocess.run(  # noqa: S603 - trusted command
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert b"Ein Spa\\xdf" in result.stderr


def test_task_in_doubt_is_explained(service: FakeService) -> None:
    """The output gives the deadline and the command for a resubmission."""
    doubt = task(status="in_doubt", output=[], settled_by=None, deadline_at="2026-01-02T05:04:05Z")
    service.respond_to("GET /v1/tasks/x", (200, doubt))
    shown = run("status", "x", url=service.url)
    assert shown.exit_code == 0
    for words in ("may have the task", "BOOMERANG_IN_DOUBT_FOR", "2026-01-02T05:04:05Z", "`boomerang resubmit ID`"):
        assert words in shown.stderr


def test_resubmit_is_suggested_only_when_it_is_useful(service: FakeService) -> None:
    """It is suggested for an unknown submission and an expired task, not for a completed one."""
    unknown = {"code": "submission_unknown", "message": "nobody knows"}
    responses = (task(status="failed", error=unknown), task(status="expired"), task())
    service.respond_to("GET /v1/tasks/x", *((200, answer) for answer in responses))
    shown = [run("status", "x", url=service.url).stderr for _ in responses]
    assert ["boomerang resubmit" in text for text in shown] == [True, True, False]


def test_long_text_is_wrapped_on_a_terminal(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """Text is wrapped with a hanging indent; an address stays whole."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    address = f"https://example.org/{'v' * 80}.mp4"
    service.respond_to("GET /v1/tasks/x", (200, task(params={"prompt": "A walk " * 12}, output=[{"url": address}])))
    shown = run("status", "x", url=service.url, env={"COLUMNS": "60"}).stderr
    plain = re.sub("\x1b[^m]*m", "", shown)
    assert f"prompt       {'A walk ' * 6}A\n             walk A walk" in plain
    assert address in plain
    service.respond_to("GET /v1/tasks/x", (200, task(params={"prompt": "猫 " * 20})))
    wide = run("status", "x", url=service.url, env={"COLUMNS": "60"}).stderr
    service.respond_to("GET /v1/tasks/x", (200, task(params={"prompt": " " * 99})))
    assert run("status", "x", url=service.url, env={"COLUMNS": "60"}).exit_code == 0
    assert max(cell_len(line) for line in re.sub("\x1b[^m]*m", "", wide).splitlines()) <= 60


def test_resubmit_prints_the_new_task(service: FakeService) -> None:
    """The result is the id of the new task; a refused resubmission has exit code 1."""
    service.respond_to("POST /v1/tasks/x/resubmit", (202, task(id="0198c9")), (409, problem("the task is completed")))
    result = run("resubmit", "x", url=service.url)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Submitted 0198c9\nFollow it with: boomerang watch 0198c9\n"
    refused = run("resubmit", "x", url=service.url)
    assert (refused.exit_code, refused.stdout) == (1, "")


HISTORY = [
    {"at": "2026-01-02T03:04:05.678Z", "kind": "callback", "submission": 1, "verdict": "accepted"},
    {"at": "2026-01-02T03:04:05.678Z", "kind": "event", "id": "e1", "type": "task.completed", "data": {}},
    {"at": "2026-01-02T03:04:05.678Z", "kind": "poll", "outcome": "completed"},
    {
        "at": "2026-01-02T03:04:05.678Z",
        "kind": "delivery",
        "id": "d1",
        "event_id": "e1",
        "handler": "log",
        "status": "dead",
        "attempts": 1,
        "last_error": "ValueError: no",
    },
    {
        "at": "2026-01-02T03:04:06.678Z",
        "kind": "attempt",
        "delivery_id": "d1",
        "handler": "log",
        "attempt": 1,
        "outcome": "dead",
        "error": "ValueError: no",
    },
    {"at": None, "kind": "of another version"},
]


def test_events_prints_one_line_per_entry(service: FakeService) -> None:
    """A delivery and an attempt show the type of their event; an unknown entry is printed too."""
    service.respond_to("GET /v1/tasks/x/events", (200, {"data": HISTORY}))
    assert [" ".join(line.split()) for line in run("events", "x", url=service.url).stderr.splitlines()[1:]] == [
        "01-02 03:04:05 callback accepted",
        "01-02 03:04:05 event task.completed",
        "01-02 03:04:05 poll completed",
        "01-02 03:04:05 delivery task.completed log dead: ValueError: no",
        "01-02 03:04:06 attempt 1 task.completed log dead: ValueError: no",
        "of another version",
    ]
    assert json.loads(run("events", "x", "--json", url=service.url).stdout) == {"data": HISTORY}
