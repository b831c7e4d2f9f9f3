"""The command `boomerang submit` against a fake service over real HTTP."""

import base64
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest

from tests.support.sample_media import image, video
from tests.unit.cli.fake_service import FakeService, fake_service, problem, run, task


@pytest.fixture
def service() -> Iterator[FakeService]:
    """Run a fake service."""
    with fake_service() as fake:
        yield fake


def test_submit_sends_files_as_data_uris_and_values_with_their_types(service: FakeService, tmp_path: Path) -> None:
    """A file is sent with the type of its content, an address unchanged, and a JSON value as JSON."""
    (tmp_path / "mislabelled.jpg").write_bytes(image("PNG"))
    (tmp_path / "clip").write_bytes(video())
    service.respond_to("POST /v1/tasks", (202, task(status="queued", progress=None)))
    result = run(
        *("submit", "--prompt", "A walk", "--image", str(tmp_path / "mislabelled.jpg")),
        *("--image", "https://example.org/i.png", "--video", str(tmp_path / "clip")),
        *("--param", "duration=8", "--param", "bgm=true", "--param", "aspect_ratio=9:16"),
        *("--metadata", "chat=42", "--notify", "https://example.org/hook"),
        url=service.url,
    )
    assert result.exit_code == 0, result.stderr
    (request,) = service.requests
    picture, clip = base64.b64encode(image("PNG")).decode(), base64.b64encode(video()).decode()
    assert request.body == {
        "model": "viduq2_pro_reference",
        "params": {
            "prompt": "A walk",
            "images": [f"data:image/png;base64,{picture}", "https://example.org/i.png"],
            "videos": [f"data:video/mp4;base64,{clip}"],
            "duration": 8,
            "bgm": True,
            "aspect_ratio": "9:16",
        },
        "metadata": {"chat": 42},
        "notify": [{"handler": "webhook", "url": "https://example.org/hook"}],
    }
    assert result.stdout == ""
    assert result.stderr.startswith("Submitted 0198c2\n")
    assert "boomerang watch 0198c2" in result.stderr
    assert "warning 1  bgm has no effect" in result.stderr


def test_each_submission_has_a_new_idempotency_key(service: FakeService) -> None:
    """Two submissions have different keys unless the caller gives one."""
    service.respond_to("POST /v1/tasks", (202, task()))
    for more in ([], [], ["--idempotency-key", "mine"]):
        run("submit", "--prompt", "A walk", *more, url=service.url)
    keys = [request.headers["idempotency-key"] for request in service.requests]
    assert keys[2] == "mine"
    assert len(set(keys)) == 3


def test_metadata_accepts_a_json_object(service: FakeService) -> None:
    """A JSON object is sent unchanged."""
    service.respond_to("POST /v1/tasks", (202, task()))
    run("submit", "--prompt", "A walk", "--metadata", '{"chat": {"id": 1}}', url=service.url)
    assert service.requests[0].body["metadata"] == {"chat": {"id": 1}}


def test_wait_follows_the_task_and_prints_only_json(service: FakeService) -> None:
    """With --wait --json, standard output contains only the finished task."""
    service.respond_to("POST /v1/tasks", (202, task(status="queued", progress=None)))
    service.respond_to("GET /v1/tasks/0198c2", (200, task(status="in_progress", progress=0.4)), (200, task()))
    result = run("submit", "--prompt", "A walk", "--wait", "--json", url=service.url)
    assert result.exit_code == 0
    assert json.loads(result.stdout) == task()
    assert "in_progress 40%" in result.stderr
    assert [request.path for request in service.requests[1:]] == ["/v1/tasks/0198c2?wait=1"] * 2


def test_note_of_a_waiting_task_is_printed_once(service: FakeService) -> None:
    """The note of a followed task is printed when it changes."""
    waiting = task(status="queued", progress=None, note="waits to be submitted again: refused")
    service.respond_to("POST /v1/tasks", (202, task(status="queued", progress=None)))
    service.respond_to("GET /v1/tasks/0198c2", (200, waiting), (200, waiting), (200, task()))
    output = run("submit", "--prompt", "A walk", "--wait", url=service.url).stderr
    assert output.count("waits to be submitted again: refused") == 1


@pytest.mark.parametrize("status", ["failed", "canceled", "expired"])
def test_exit_code_is_1_if_the_task_does_not_complete(service: FakeService, status: str) -> None:
    """A script detects by the exit code that there is no video; the error is printed."""
    finished = task(status=status, output=[], error={"code": "002014001", "message": "video generation failed"})
    service.respond_to("POST /v1/tasks", (202, task(status="queued")))
    service.respond_to("GET /v1/tasks/0198c2", (200, finished))
    result = run("submit", "--prompt", "A walk", "--wait", url=service.url)
    assert result.exit_code == 1
    assert "video generation failed (002014001)" in result.stderr
    assert f"Submitted 0198c2\n    {status}" in result.stderr


def test_wait_survives_a_restart_of_the_service(service: FakeService, monkeypatch: pytest.MonkeyPatch) -> None:
    """A temporary error is retried, because the task is already accepted."""
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)

    monkeypatch.setattr("service.cli.progress.anyio.sleep", pause)
    service.respond_to("POST /v1/tasks", (202, task(status="queued")))
    service.respond_to("GET /v1/tasks/0198c2", (503, problem("the database is locked")), (502, "<html>"), (200, task()))
    assert run("submit", "--prompt", "A walk", "--wait", url=service.url).exit_code == 0
    assert len(pauses) == 2


def test_every_invalid_field_is_reported(service: FakeService) -> None:
    """A refused task prints every invalid field with its path, and the option that gives it; the exit code is 2."""
    errors = [
        {"loc": ["params", "images", 0], "msg": "is too small"},
        {"loc": ["params", "duration"], "msg": "is text"},
        {"loc": ["params", "videos"], "msg": "is missing"},
    ]
    service.respond_to("POST /v1/tasks", (422, problem("the parameters break limits", errors=errors)))
    result = run("submit", "--prompt", "A walk", url=service.url)
    assert result.exit_code == 2
    assert "Error: the parameters break limits" in result.stderr
    assert "  params.images.0: is too small" in result.stderr
    assert "  params.duration: is text" in result.stderr
    assert "  params.videos (--video): is missing" in result.stderr


def test_address_with_a_path_is_named(service: FakeService) -> None:
    """The base address of a drop-in API is a common mistake: the error shows what was requested."""
    service.respond_to("GET /v1/v1/tasks", (404, {"type": "about:blank", "detail": "there is nothing at this address"}))
    result = run("tasks", url=f"{service.url}/v1")
    assert "nothing at this address: /v1/v1/tasks (is BOOMERANG_URL, or --url, " in result.stderr


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (["--image", "nowhere.png"], "nowhere.png: No such file"),
        (["--image", __file__], "is no image that the model takes: png, jpeg, webp"),
        (["--video", __file__], "is no video that the model takes: mp4, mov, avi"),
        (["--param", "duration"], "'duration' must be NAME=VALUE"),
        (["--param", "seed=1", "--param", "seed=2"], "seed is given twice"),
        (["--metadata", "{broken"], "must be NAME=VALUE or a JSON object"),
        (["--url", "localhost:8080"], "is not the address of a service"),
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
def test_usage_error_ends_with_2_and_sends_no_request(service: FakeService, more: list[str], words: str) -> None:
    """An invalid command line is reported before any request."""
    result = run("submit", "--prompt", "A walk", *more, url=service.url)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())
    assert service.requests == []


def test_file_over_the_size_limit_is_refused(service: FakeService, tmp_path: Path) -> None:
    """A file over 20 MB is refused; the message suggests an address."""
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(21 * 1024 * 1024)
    result = run("submit", "--prompt", "A walk", "--image", str(tmp_path / "big.png"), url=service.url)
    assert result.exit_code == 2
    assert "larger than 20 MB" in result.stderr
    assert service.requests == []


@pytest.mark.parametrize("size", [0, 21 * 1024 * 1024])
def test_pipe_is_read_up_to_the_size_limit(service: FakeService, tmp_path: Path, size: int) -> None:
    """Output of another program can be submitted; an endless one is refused after 20 MB."""
    service.respond_to("POST /v1/tasks", (202, task()))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    def write() -> None:
        with suppress(BrokenPipeError), pipe.open("wb") as file:
            file.write(image("PNG") + bytes(size))

    writer = Thread(target=write, daemon=True)
    writer.start()
    result = run("submit", "--prompt", "A walk", "--image", str(pipe), url=service.url)
    writer.join(timeout=10)
    assert (result.exit_code, len(service.requests)) == ((2, 0) if size else (0, 1))
    assert ("larger than 20 MB" in result.stderr) == bool(size)


def test_media_can_be_given_as_a_parameter(service: FakeService) -> None:
    """`--param images=[...]` replaces the option --image."""
    service.respond_to("POST /v1/tasks", (202, task()))
    run("submit", "--prompt", "A walk", "--param", 'images=["https://e.org/a.png"]', url=service.url)
    assert service.requests[0].body["params"] == {"prompt": "A walk", "images": ["https://e.org/a.png"]}
