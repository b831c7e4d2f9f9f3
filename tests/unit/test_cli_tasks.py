"""The commands that speak to a running service, against a stand-in over real HTTP."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from tests.sample_media import image, video
from tests.unit.cli_fakes import FakeService, fake_service, problem, run, task


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a stand-in for the service."""
    with fake_service() as fake:
        yield fake


def test_submit_sends_files_as_data_uris_and_values_with_their_types(service: FakeService, tmp_path: Path) -> None:
    """Files go up with the type of their content, addresses stay, and values that are JSON are sent as JSON."""
    (tmp_path / "mislabelled.jpg").write_bytes(image("PNG"))
    (tmp_path / "clip").write_bytes(video())
    service.on("POST /v1/tasks", (202, task(status="queued", progress=None)))
    result = run(
        *("submit", "--prompt", "A walk", "--image", str(tmp_path / "mislabelled.jpg")),
        *("--image", "https://example.org/i.png", "--video", str(tmp_path / "clip")),
        *("--param", "duration=8", "--param", "bgm=true", "--param", "aspect_ratio=9:16"),
        *("--metadata", "chat=42", "--notify", "https://example.org/hook"),
        url=service.url,
    )
    assert result.exit_code == 0, result.stderr
    (asked,) = service.asked
    picture, film = base64.b64encode(image("PNG")).decode(), base64.b64encode(video()).decode()
    assert asked.body == {
        "model": "viduq2_pro_reference",
        "params": {
            "prompt": "A walk",
            "images": [f"data:image/png;base64,{picture}", "https://example.org/i.png"],
            "videos": [f"data:video/mp4;base64,{film}"],
            "duration": 8,
            "bgm": True,
            "aspect_ratio": "9:16",
        },
        "metadata": {"chat": 42},
        "notify": [{"handler": "webhook", "url": "https://example.org/hook"}],
    }
    assert result.stdout == "Submitted 0198c2\n"
    assert "boomerang watch 0198c2" in result.stderr
    assert "warning 1  bgm has no effect" in result.stderr


def test_each_submission_has_an_idempotency_key_of_its_own(service: FakeService) -> None:
    """Two submissions are two tasks, unless the caller names the key."""
    service.on("POST /v1/tasks", (202, task()))
    for more in ([], [], ["--idempotency-key", "mine"]):
        run("submit", "--prompt", "A walk", *more, url=service.url)
    keys = [asked.headers["idempotency-key"] for asked in service.asked]
    assert keys[2] == "mine"
    assert len(set(keys)) == 3


def test_metadata_may_be_one_json_object(service: FakeService) -> None:
    """A JSON object is taken as it is."""
    service.on("POST /v1/tasks", (202, task()))
    run("submit", "--prompt", "A walk", "--metadata", '{"chat": {"id": 1}}', url=service.url)
    assert service.asked[0].body["metadata"] == {"chat": {"id": 1}}


def test_wait_follows_the_task_to_its_end_and_prints_only_json(service: FakeService) -> None:
    """With --wait --json the answer on standard output is the ended task, and nothing else."""
    service.on("POST /v1/tasks", (202, task(status="queued", progress=None)))
    service.on("GET /v1/tasks/0198c2", (200, task(status="in_progress", progress=0.4)), (200, task()))
    result = run("submit", "--prompt", "A walk", "--wait", "--json", url=service.url)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == task()
    assert "in_progress 40%" in result.stderr
    assert [asked.path for asked in service.asked[1:]] == ["/v1/tasks/0198c2?wait=1"] * 2


def test_a_long_wait_asks_less_and_less_often(service: FakeService) -> None:
    """The bar moves at first; a task of minutes does not fill the service's log with a line a second."""
    runs = [(200, task(status="in_progress", progress=0.4))] * 20
    service.on("GET /v1/tasks/0198c2", *runs, (200, task()))
    assert run("watch", "0198c2", url=service.url).exit_code == 0
    waits = [int(asked.path.partition("?wait=")[2]) for asked in service.asked[1:]]
    assert (waits[:14], set(waits[14:])) == ([1, 1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], {10})


def test_whoever_waits_is_told_why_the_task_waits(service: FakeService) -> None:
    """The task's note is shown while it is followed, and each note once."""
    waits = task(status="queued", progress=None, note="waits to be submitted again: refused")
    service.on("POST /v1/tasks", (202, task(status="queued", progress=None)))
    service.on("GET /v1/tasks/0198c2", (200, waits), (200, waits), (200, task()))
    told = run("submit", "--prompt", "A walk", "--wait", url=service.url).stderr
    assert told.count("waits to be submitted again: refused") == 1


@pytest.mark.parametrize("status", ["failed", "canceled", "expired"])
def test_a_task_that_did_not_complete_ends_with_1(service: FakeService, status: str) -> None:
    """Whoever waits in a script sees by the exit code that there is no video, and reads why."""
    ended = task(status=status, output=[], error={"code": "002014001", "message": "video generation failed"})
    service.on("POST /v1/tasks", (202, task(status="queued")))
    service.on("GET /v1/tasks/0198c2", (200, ended))
    result = run("submit", "--prompt", "A walk", "--wait", url=service.url)
    assert result.exit_code == 1
    assert "video generation failed (002014001)" in result.stdout
    assert f"Submitted 0198c2\n    {status}" in result.stderr


def test_waiting_outlives_a_restart_of_the_service(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer of "not now" is asked again; the task has long been taken."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("service.cli.progress.anyio.sleep", pause)
    service.on("POST /v1/tasks", (202, task(status="queued")))
    service.on("GET /v1/tasks/0198c2", (503, problem("the database is locked")), (502, "<html>"), (200, task()))
    assert run("submit", "--prompt", "A walk", "--wait", url=service.url).exit_code == 0
    assert len(pauses) == 2


def test_every_fault_is_told_with_its_place(service: FakeService) -> None:
    """A refusal shows all faults, each with where it stands; it is wrong use."""
    faults = [
        {"loc": ["params", "images", 0], "msg": "is too small"},
        {"loc": ["params", "duration"], "msg": "is text"},
    ]
    service.on("POST /v1/tasks", (422, problem("the parameters break limits", errors=faults)))
    result = run("submit", "--prompt", "A walk", url=service.url)
    assert result.exit_code == 2
    assert "Error: the parameters break limits" in result.stderr
    assert "  params.images.0: is too small" in result.stderr
    assert "  params.duration: is text" in result.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--image", "nowhere.png"], "nowhere.png: No such file"),
        (["--image", __file__], "is no image that the model takes: png, jpeg, webp"),
        (["--video", __file__], "is no video that the model takes: mp4, mov, avi"),
        (["--param", "duration"], "'duration' must be NAME=VALUE"),
        (["--param", "seed=1", "--param", "seed=2"], "seed is given twice"),
        (["--metadata", "{broken"], "must be NAME=VALUE or a JSON object"),
        (["--url", "localhost:8080"], "is no address of a service"),
        (["--param", "prompt=A run"], "prompt is what --prompt gives; leave one of the two out"),
        (["--image", "https://e.org/a.png", "--param", "images=[]"], "images is what --image gives"),
        (["--video", "https://e.org/a.mp4", "--param", "videos=[]"], "videos is what --video gives"),
        (["--image", ""], "--image: is empty; give a file or an address"),
        (["--image", "/dev/zero"], "/dev/zero is neither a file nor a pipe"),
        (["--video", "/dev/null"], "/dev/null is neither a file nor a pipe"),
        (["--image", "/"], "/: Is a directory"),
        (["--idempotency-key", ""], "without the option each submission gets a fresh key"),
        (["--idempotency-key", " "], "without the option each submission gets a fresh key"),
        (["--idempotency-key", "clé"], "printable ASCII characters"),
        (["--idempotency-key", "k" * 256], "must be 1 to 255"),
        (["--speed", "9"], "No such option"),
    ],
)
def test_wrong_use_ends_with_2_before_anything_is_sent(service: FakeService, more: list[str], words: str) -> None:
    """What is wrong on the command line is told at once, without a request."""
    result = run("submit", "--prompt", "A walk", *more, url=service.url)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert service.asked == []


def test_a_file_that_no_request_can_carry_is_refused(service: FakeService, tmp_path: Path) -> None:
    """A file over 20 MB is refused with the mend: an address."""
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(21 * 1024 * 1024)
    result = run("submit", "--prompt", "A walk", "--image", str(tmp_path / "big.png"), url=service.url)
    assert result.exit_code == 2
    assert "larger than 20 MB" in result.stderr
    assert service.asked == []


@pytest.mark.parametrize("size", [0, 21 * 1024 * 1024])
def test_a_pipe_is_read_no_further_than_a_request_can_carry(service: FakeService, tmp_path: Path, size: int) -> None:
    """What another program makes may be submitted, and one that makes bytes for ever keeps nobody waiting."""
    service.on("POST /v1/tasks", (202, task()))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with suppress(BrokenPipeError), pipe.open("wb") as file:
            file.write(image("PNG") + bytes(size))

    writer = Thread(target=write, daemon=True)
    writer.start()
    result = run("submit", "--prompt", "A walk", "--image", str(pipe), url=service.url)
    writer.join(timeout=10)
    assert (result.exit_code, len(service.asked)) == ((2, 0) if size else (0, 1))
    assert ("larger than 20 MB" in result.stderr) == bool(size)


def test_media_may_come_as_a_parameter_where_no_option_gives_them(service: FakeService) -> None:
    """A list of addresses is as good as one option for each."""
    service.on("POST /v1/tasks", (202, task()))
    run("submit", "--prompt", "A walk", "--param", 'images=["https://e.org/a.png"]', url=service.url)
    assert service.asked[0].body["params"] == {"prompt": "A walk", "images": ["https://e.org/a.png"]}


def test_a_service_that_is_not_there_is_one_clear_line() -> None:
    """Nobody answers: exit code 1, the address and what to do, no traceback."""
    result = run("tasks", url="http://127.0.0.1:9")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Error: no service answers at http://127.0.0.1:9; start one with `boomerang serve`\n"


@pytest.mark.parametrize(("status", "code"), [(401, 2), (403, 2), (404, 1), (409, 1), (500, 1), (503, 1)])
def test_exit_codes_tell_wrong_use_from_what_could_not_be_done(service: FakeService, status: int, code: int) -> None:
    """A refused key is configuration (2); an unknown task or a fault of the service is not (1)."""
    service.on("GET /v1/tasks/x", (status, problem("words of the service")))
    result = run("status", "x", url=service.url)
    assert result.exit_code == code
    assert "words of the service" in result.stderr


@pytest.mark.parametrize("body", ["<html>", "", "[]", "null", "{"])
def test_an_answer_of_something_else_is_told_as_such(service: FakeService, body: str) -> None:
    """What answers at the address may be no Boomerang at all."""
    service.on("GET /v1/tasks/x", (200 if body else 500, body))
    result = run("status", "x", url=service.url)
    assert result.exit_code == 1
    assert "Error: " in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_the_key_goes_with_each_request_and_never_on_the_screen(service: FakeService) -> None:
    """BOOMERANG_API_KEY signs in; --api-key overrules it."""
    service.on("GET /v1/tasks/x", (401, problem("who are you")))
    first = run("status", "x", url=service.url, env={"BOOMERANG_API_KEY": "hunter2-hunter2"})
    run("status", "x", "--api-key", "other", url=service.url, env={"BOOMERANG_API_KEY": "hunter2-hunter2"})
    assert [asked.headers["authorization"] for asked in service.asked] == ["Bearer hunter2-hunter2", "Bearer other"]
    assert "hunter2" not in first.output
    assert "set BOOMERANG_API_KEY or --api-key" in first.stderr


def test_the_address_and_key_may_stand_in_a_file(
    service: FakeService, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `.env` of the working directory serves the client commands too."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"BOOMERANG_URL={service.url}/\nBOOMERANG_API_KEY=from-the-file\n")
    service.on("GET /v1/tasks/x", (200, task()))
    assert run("status", "x").exit_code == 0
    assert service.asked[0].headers["authorization"] == "Bearer from-the-file"


def test_a_file_of_settings_that_is_no_text_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `.env` of another encoding ends a client command with 2, where it stands and what it must be."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("BOOMERANG_URL", raising=False)
    (tmp_path / ".env").write_bytes(b"BOOMERANG_API_KEY=\xff\n")
    told = run("tasks")
    assert told.exit_code == 2
    assert "Error: .env cannot be read: line 1 is not UTF-8; it must be a text file" in told.stderr


def test_status_shows_what_matters(service: FakeService) -> None:
    """A person sees the status, the place of the result, the cost and the warnings."""
    service.on("GET /v1/tasks/0198c2", (200, task()))
    shown = run("status", "0198c2", url=service.url).stdout
    for words in ("completed", "A walk", "file:///srv/v.mp4", "0.35 USD", "callback", "bgm has no effect"):
        assert words in shown


def test_text_from_elsewhere_cannot_steer_the_terminal(service: FakeService) -> None:
    """Control characters in a prompt or an error are not passed on, nor is markup read in them."""
    service.on("GET /v1/tasks/x", (200, task(params={"prompt": "\x1b[2J\x07[red]boo[/red]"})))
    shown = run("status", "x", url=service.url).stdout
    assert "\x1b" not in shown
    assert "\x07" not in shown
    assert "[red]boo[/red]" in shown


def test_an_id_cannot_lead_to_another_address(service: FakeService) -> None:
    """Whatever stands for an id is one part of the path."""
    run("status", "../deliveries?x=/", url=service.url)
    assert service.asked[0].path == "/v1/tasks/..%2Fdeliveries%3Fx%3D%2F"


def test_tasks_lists_a_page_and_says_how_to_go_on(service: FakeService) -> None:
    """The list narrows by status, and the next page's command is shown."""
    service.on("GET /v1/tasks", (200, {"data": [task(), task(id="0198c1", status="failed")], "next_cursor": "abc"}))
    result = run("tasks", "--status", "failed", "--limit", "2", url=service.url)
    assert service.asked[0].path == "/v1/tasks?status=failed&limit=2"
    assert [line.split()[0] for line in result.stdout.splitlines()] == ["id", "0198c2", "0198c1"]
    assert result.stderr == "More: boomerang tasks --cursor abc\n"


@pytest.mark.parametrize(("columns", "folds"), [("70", True), ("80", True), ("140", False)])
def test_a_narrow_terminal_shows_ids_and_prompts_whole(
    service: FakeService, monkeypatch: pytest.MonkeyPatch, columns: str, folds: bool
) -> None:
    """Where a row is too long, its prompt goes beneath; the id that people copy stays on one line with the rest."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    page = [task(id="01a20469-745f-70c8-a990-0bffbb6af2ec", status="in_progress", params={"prompt": "A walk " * 9})]
    service.on("GET /v1/tasks", (200, {"data": page, "next_cursor": None}))
    shown = run("tasks", url=service.url, env={"COLUMNS": columns}).stdout
    row, *beneath = re.sub("\x1b[^m]*m", "", shown).splitlines()[2 if folds else 1 :]
    prompt = ("A walk " * 9)[:59] + "…"
    start = "01a20469-745f-70c8-a990-0bffbb6af2ec  in_progress  100%  01-02 03:04"
    assert (row, beneath) == (start, [f"  {prompt}"]) if folds else (f"{start}    {prompt}", [])


def test_tasks_without_any_says_so(service: FakeService) -> None:
    """An empty list is a sentence beside an empty result, and with --json still a page."""
    service.on("GET /v1/tasks", (200, {"data": [], "next_cursor": None}))
    told = run("tasks", url=service.url)
    assert (told.stdout, told.stderr) == ("", "No tasks.\n")
    assert json.loads(run("tasks", "--json", url=service.url).stdout) == {"data": [], "next_cursor": None}


def test_cancel_tells_the_reason_when_it_cannot(service: FakeService) -> None:
    """The upstream's refusal is passed on; a canceled task is what was wanted, so that the code is 0."""
    service.on("POST /v1/tasks/x/cancel", (409, problem("task state is scheduled")), (200, task(status="canceled")))
    refused = run("cancel", "x", url=service.url)
    assert (refused.exit_code, "task state is scheduled" in refused.stderr) == (1, True)
    assert run("cancel", "x", url=service.url).exit_code == 0


def test_watch_ends_with_the_task(service: FakeService) -> None:
    """Watching an unknown task fails at once; a known one is followed to its end."""
    service.on("GET /v1/tasks/x", (200, task(status="in_progress", progress=0.5)), (200, task()))
    assert run("watch", "x", url=service.url).exit_code == 0
    assert run("watch", "y", url=service.url).exit_code == 1


DELIVERY = {
    "id": "d1",
    "task_id": "0198c2",
    "handler": "webhook",
    "event_type": "task.completed",
    "attempts": 9,
    "fault": "destination",
    "last_error": "410 Gone",
    "due_at": None,
    "finished_at": "2026-01-02T03:04:05.678Z",
}


def test_dead_letters_are_listed_by_handler(service: FakeService) -> None:
    """A dead letter shows when it was given up, its handler and task, whose fault it is, and the last error."""
    service.on("GET /v1/deliveries", (200, {"data": [DELIVERY], "next_cursor": None}))
    result = run("dead", "--handler", "webhook", url=service.url)
    assert service.asked[0].path == "/v1/deliveries?status=dead&handler=webhook&limit=20"
    row = "d1  01-02 03:04     webhook  task.completed  0198c2  destination: 410 Gone (9 attempts)"
    assert (result.stdout.splitlines()[1:], result.stderr) == ([row], "")


def test_deliveries_that_fail_and_are_tried_again_can_be_seen(service: FakeService) -> None:
    """What still waits for its first attempt is no failure; as many pages are asked for as it takes."""
    fails = DELIVERY | {"id": "d7", "attempts": 1, "due_at": "2026-01-02T03:09:05Z", "finished_at": None}
    waits = DELIVERY | {"attempts": 0, "fault": None, "last_error": None}
    service.on(
        "GET /v1/deliveries",
        (200, {"data": [waits, waits], "next_cursor": "abc"}),
        (200, {"data": [waits, fails], "next_cursor": "def"}),
        (200, {"data": [fails, fails], "next_cursor": "ghi"}),
    )
    result = run("dead", "--failing", "--limit", "2", url=service.url)
    assert [asked.path for asked in service.asked] == [
        f"/v1/deliveries?status=pending&limit=2{cursor}" for cursor in ("", "&cursor=abc", "&cursor=def")
    ]
    row = "d7  01-02 03:09     webhook  task.completed  0198c2  destination: 410 Gone (1 attempt)"
    assert result.stdout.splitlines()[1:] == [row] * 3
    assert result.stderr == "More: boomerang dead --failing --cursor ghi\n"


def test_nothing_dead_and_nothing_failing_is_said(service: FakeService) -> None:
    """An empty list is a sentence, and among very many pending ones the search ends."""
    service.on("GET /v1/deliveries", (200, {"data": [], "next_cursor": None}))
    assert run("dead", url=service.url).stderr == "No dead letters.\n"
    assert run("dead", "--failing", url=service.url).stderr == "No delivery fails.\n"
    service.on("GET /v1/deliveries", (200, {"data": [], "next_cursor": "abc"}))
    assert "More: boomerang dead --failing --cursor abc" in run("dead", "--failing", url=service.url).stderr
    assert len(service.asked) == 2 + 50


def test_replay_does_what_it_can_and_tells_the_rest(service: FakeService) -> None:
    """One delivery that cannot be replayed does not keep the others; the exit code says that it happened."""
    service.on("POST /v1/deliveries/d1/replay", (409, problem("it is pending")))
    service.on("POST /v1/deliveries/d2/replay", (202, {"id": "d2"}))
    result = run("replay", "d1", "d2", "--json", url=service.url)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {"replayed": ["d2"], "failed": {"d1": "it is pending"}}
    told = run("replay", "d1", "d2", url=service.url)
    assert (told.stdout, told.stderr) == ("Replayed d2\n", "Not replayed: d1: it is pending\n")


def test_a_result_can_be_written_in_every_encoding(service: FakeService) -> None:
    """A pipe that takes ASCII alone gets escapes, no traceback."""
    service.on("GET /v1/tasks/x", (200, task(params={"prompt": "Ein Spaß"})))
    code = f"from service.cli import main; main(['status', 'x', '--url', {service.url!r}])"
    told = subprocess.run(  # noqa: S603 - our own
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert b"Ein Spa\\xdf" in told.stdout
