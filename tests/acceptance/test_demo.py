"""`boomerang demo` in its own process: from an empty directory to a playable video."""

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from service.cli import UsageError
from service.cli.demo.environment import demo_environment
from service.cli.demo.run import program
from service.cli.demo.sample_media import decode_video, draw_images
from tests.support.sample_media import image, video
from tests.unit.cli.fake_service import run

ROOT = Path(__file__).resolve().parents[2]
START = [sys.executable, "-c", "from service.cli import main; main()", "demo"]
SECONDS = 90
FOREIGN_FILES = (
    "boomerang.db",
    "demo.db",
    "demo.db.backup",
    "demo.log",
    "hills.png",
    "evening-sky.png",
    "boomerang.png",
)


def user_environment(home: Path) -> dict[str, str]:
    """Return an environment whose settings the demo must ignore."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": str(ROOT),
        "PYTHONIOENCODING": "utf-8",
        "BOOMERANG_DATABASE_URL": "postgresql://nobody@127.0.0.1:9/nothing",
        "BOOMERANG_POLL_FIRST": "nonsense",
        "http_proxy": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "ALL_PROXY": "socks5://127.0.0.1:9",
        "SSL_CERT_FILE": "/missing/authorities.pem",
    }


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    """Return an environment with the test directory as home."""
    return user_environment(tmp_path)


def demo(directory: Path, env: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the demo in `directory` until it exits."""
    return subprocess.run(  # noqa: S603 - trusted command
        [*START, *arguments], cwd=directory, env=env, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def video_in(directory: Path) -> Path:
    """Return the only video in `directory`."""
    (video_file,) = directory.glob("*.mp4")
    return video_file


def check_plain_output(done: subprocess.CompletedProcess[str], directory: Path) -> None:
    """Check that the output has no control characters and no log lines, and neither it nor the log file the key."""
    output = done.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", output)
    assert "duration_ms" not in output
    log = (directory / "demo.log").read_text()
    assert '"event": "submission"' in log
    key = (directory / "demo.db.key").read_text().splitlines()[0].partition("=")[2]
    assert key not in log + output


def test_demo_ends_with_a_playable_video_and_can_run_again(tmp_path: Path, home: dict[str, str]) -> None:
    """Without configuration, a task is settled by callback and archived under ./boomerang-demo; exit code 0.

    Without a terminal the output is plain. The second run uses given media and replaces the database; the video stays.
    """
    done = demo(tmp_path, home)
    assert done.returncode == 0, done.stderr
    first = video_in(tmp_path / "boomerang-demo")
    assert decode_video(first).frames > 0
    assert "completed, by callback" in done.stderr
    assert f"Video: boomerang-demo/{first.name}" in done.stderr
    assert done.stdout == ""
    check_plain_output(done, tmp_path / "boomerang-demo")
    (tmp_path / "a.webp").write_bytes(image("WEBP"))
    (tmp_path / "b.mp4").write_bytes(video())
    done = demo(tmp_path, home, "--image", "a.webp", "--video", "b.mp4", "--prompt", "A walk")
    assert done.returncode == 0, done.stderr
    assert "a.webp (from --image)" in done.stderr
    assert set((tmp_path / "boomerang-demo").glob("*.mp4")) > {first}


def test_demo_succeeds_without_callbacks(tmp_path: Path, home: dict[str, str]) -> None:
    """Without callbacks, polling settles the task, and the output reports it; as JSON too, alone on standard output.

    What somebody else has in the directory stays as it is.
    """
    given = tmp_path / "elsewhere? with %20 blanks"
    given.mkdir()
    for name in FOREIGN_FILES:
        (given / name).write_text("of somebody else")
    done = demo(tmp_path, home, "--lose-callbacks", "--json", "--dir", "elsewhere? with %20 blanks")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["ok"], Path(found["video"])) == (True, video_in(tmp_path / "elsewhere? with %20 blanks"))
    assert [each["step"] for each in found["steps"]][:2] == ["provider", "service"]
    assert decode_video(video_in(tmp_path / "elsewhere? with %20 blanks")).seconds > 0
    assert "completed, by poll" in done.stderr
    assert "none received" in done.stderr
    assert {(given / name).read_text() for name in FOREIGN_FILES} == {"of somebody else"}


async def test_second_demo_in_a_directory_is_refused(tmp_path: Path) -> None:
    """It would delete the database of the first one, which stays."""
    own = tmp_path / "boomerang-demo"
    own.mkdir()
    (own / "demo.db").write_text("of the first one")
    with (own / "demo.log").open("w") as log:
        fcntl.flock(log, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match=r"another demo runs in .*; stop it, or name another directory with --dir"):
            async with demo_environment(tmp_path, lose_callbacks=False):
                pass
    assert (own / "demo.db").read_text() == "of the first one"


def test_commands_that_are_printed_can_be_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The name is enough where the shell finds this program by it; otherwise its path is given."""
    local, other = tmp_path / "my venv" / "boomerang", tmp_path / "other" / "boomerang"
    for path in (local, other):
        path.parent.mkdir()
        path.touch(mode=0o755)
    monkeypatch.setattr(sys, "argv", [str(local), "demo"])
    monkeypatch.setenv("PATH", str(other.parent))
    assert program() == f"'{local}'"
    monkeypatch.setenv("PATH", str(local.parent))
    assert program() == "boomerang"


def test_invalid_image_ends_the_demo_with_the_error(tmp_path: Path, home: dict[str, str]) -> None:
    """The error of the service names the image; there is no video, and the exit code is 1."""
    (tmp_path / "small.png").write_bytes(image("PNG", size=(16, 16)))
    done = demo(tmp_path, home, "--image", "small.png")
    assert done.returncode == 1
    assert "\n    params.images.0: " in done.stderr
    assert "Log: " not in done.stderr
    assert "Traceback" not in done.stderr


def test_file_of_another_type_is_refused_before_the_start(tmp_path: Path, home: dict[str, str]) -> None:
    """A text file is no image: exit code 2, and no file is created."""
    (tmp_path / "words.png").write_text("words")
    done = demo(tmp_path, home, "--image", "words.png")
    assert (done.returncode, "words.png is no image" in done.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["words.png"]


@contextmanager
def staying(directory: Path, env: dict[str, str]) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run `demo --stay` until the task has finished; yield the process and the address of the service."""
    with subprocess.Popen(  # noqa: S603 - trusted command
        [*START, "--stay"], cwd=directory, env=env, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            lines = (re.search(r"^Dashboard: (http://[^/]+)/$", line) for line in process.stderr)
            found = next(filter(None, lines))
            yield process, found[1]
        finally:
            process.kill()


@pytest.mark.parametrize("how", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_demo_keeps_running_until_a_signal(tmp_path: Path, home: dict[str, str], how: signal.Signals) -> None:
    """With --stay the service keeps running until SIGINT or SIGTERM; the exit code is 0."""
    with staying(tmp_path, home) as (process, url):
        (task,) = httpx.get(f"{url}/v1/tasks", trust_env=False).json()["data"]
        page = httpx.get(f"{url}/", trust_env=False)  # the last line is the address of the dashboard, signed in
        assert (page.status_code, task["id"] in page.text) == (200, True)
        result = run("status", task["id"], "--json", url=url)
        assert (result.exit_code, json.loads(result.stdout)["status"]) == (0, "completed")
        process.send_signal(how)
        process.communicate(timeout=SECONDS)
        assert process.returncode == 0


def test_interrupted_command_ends_in_spite_of_threads(tmp_path: Path, home: dict[str, str]) -> None:
    """A second Ctrl-C leaves the thread of the database, for which Python would wait for ever."""
    code = (
        "import sys, threading\n"
        "from service import cli\n"
        "threading.Thread(target=threading.Event().wait).start()\n"
        "cli.boomerang.main = lambda **_: (print('begun'), sys.exit(130))\n"
        "cli.main()\n"
    )
    done = subprocess.run(  # noqa: S603 - trusted command
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=home,
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "begun\n", "")


def test_missing_media_extra_is_reported(tmp_path: Path, home: dict[str, str]) -> None:
    """Without Pillow or PyAV, the message says what to install, and nothing starts."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: None if name == 'av' else find(name, package)\n"
    )
    done = demo(tmp_path, {**home, "PYTHONPATH": f"{hidden}:{ROOT}"})
    assert done.returncode == 2
    assert "pip install -r requirements.txt" in done.stderr
    assert not (tmp_path / "boomerang-demo").exists()


def test_generated_images_are_three_different_pngs(tmp_path: Path) -> None:
    """The model accepts each image, and no two are equal."""
    contents = [path.read_bytes() for path in draw_images(tmp_path)]
    assert len(set(contents)) == 3
    assert all(content.startswith(b"\x89PNG") and len(content) < 1_000_000 for content in contents)


def test_truncated_video_does_not_play(tmp_path: Path) -> None:
    """The check of the demo rejects a truncated video, an empty file and an image."""
    for name, content in {"half.mp4": video()[:400], "empty.mp4": b"", "picture.mp4": image("PNG")}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=name):
            decode_video(tmp_path / name)
