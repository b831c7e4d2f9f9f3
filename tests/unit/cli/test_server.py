"""The commands of the operator, and the behaviour that all commands share."""

import gc
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from service.cli import COMMANDS, Commands, boomerang
from service.domain.errors import BadHandler, BadSetting, NotFound, SchemaBehind
from service.runtime import process as service_main
from service.runtime.config.settings import Settings
from service.storage.migrate import HEAD
from tests.unit.cli.fake_service import run

KEY = {"BOOMERANG_UPSTREAM_KEY": "key", "BOOMERANG_UPSTREAM_URL": "http://127.0.0.1:9"}


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory without settings in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "DATABASE_URL", "VTRIX_API_KEY", "VIDU_API_KEY", *filter(_is_setting, os.environ)):
        monkeypatch.delenv(name, raising=False)


def _is_setting(name: str) -> bool:
    return name.startswith("BOOMERANG_")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Record the arguments of each start of the service instead of starting it."""
    calls: list[dict[str, Any]] = []

    async def serve(settings: Settings, **options: object) -> None:
        assert not gc.isenabled()  # the service begins to collect garbage once it has started
        calls.append({"provider": settings.provider, **options})

    monkeypatch.setattr(service_main, "serve", serve)
    return calls


@pytest.fixture(autouse=True)
def collecting_garbage() -> Iterator[None]:
    """Check that each test ends with the garbage collection that it began with."""
    yield
    assert gc.isenabled()


def shell(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a Python process to its end."""
    return subprocess.run(  # noqa: S603 - trusted command
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


def test_help_lists_every_command_without_importing_it() -> None:
    """The help does not import the dependencies of any command."""
    heavy = ("starlette", "sqlalchemy", "av", "uvicorn", "pydantic")
    code = (
        "import sys; from service.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print([name for name in {heavy} if name in sys.modules])"
    )
    result = shell("-c", code, cwd=Path(__file__).parents[3])
    assert result.returncode == 0
    assert result.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"\n  {name} " in result.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_a_help(name: str) -> None:
    """Each listed command exists and prints its help."""
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"boomerang {name}" in result.stdout


def test_unknown_command_is_a_usage_error() -> None:
    """The exit code is 2 and the message names the command."""
    result = run("sbumit")
    assert result.exit_code == 2
    assert "sbumit" in result.stderr


def test_misspelt_command_gets_a_suggestion() -> None:
    """The closest command name is suggested; a name without a close match gets no suggestion."""
    assert (run("hanlders").exit_code, "Did you mean 'handlers'?" in run("hanlders").stderr) == (2, True)
    assert "Did you mean" not in run("frobnicate").stderr


def test_closed_pipe_ends_json_output_without_an_error_message() -> None:
    """`boomerang handlers --json | true` prints nothing on standard error."""
    command = [sys.executable, "-c", "from service.cli import main; main(['handlers', '--json'])"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - trusted command
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["secret"], ["handlers", "--json"]])
def test_full_disk_is_reported_in_one_line(arguments: list[str], unbuffered: str) -> None:
    """A failed write ends with exit code 1 and the reason of the operating system; the help too."""
    code = f"from service.cli import main; main({arguments!r})"
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(  # noqa: S603 - trusted command
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONUNBUFFERED": unbuffered},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert (result.returncode, result.stderr) == (1, "Error: No space left on device\n")


def test_serve_without_an_upstream_key_suggests_the_demo() -> None:
    """The service does not start without a provider key, and the message names the demo."""
    result = run("serve")
    assert result.exit_code == 2
    assert "`boomerang demo`" in result.stderr


def test_serve_reports_every_invalid_setting() -> None:
    """All invalid settings are reported together, one per line, with exit code 2."""
    result = run("serve", env={"BOOMERANG_LEASE": "soon", "BOOMERANG_CONFIRM": "maybe", "BOOMERANG_LEAS": "1s"})
    assert result.exit_code == 2
    for words in ("BOOMERANG_LEASE must", "BOOMERANG_CONFIRM must", "BOOMERANG_LEAS is not a setting"):
        assert words in result.stderr


def test_everything_that_is_missing_or_wrong_is_reported_at_once(tmp_path: Path) -> None:
    """Missing keys, wrong values, unknown names of handlers and limits: a line for each, and none twice."""
    (tmp_path / ".env").write_text("BOOMERANG_LEES=1s\nBOOMERANG_POLL_MAX=soon\n")
    env = {
        "DATABASE_URL": "postgres://u:hunter2@h/d",
        "BOOMERANG_HANDLERS": "log,webhok,archive",
        "BOOMERANG_NOTIFY_HANDLERS": "chat",
        "BOOMERANG_RETRY_SCHEDULE_LOGG": "0s",
        "BOOMERANG_RETRY_SCHEDULE_LOG": "never",
        "BOOMERANG_RATE_LOG": "30",
        "BOOMERANG_RATE_LOGG": "30/s",
        "BOOMERANG_CLIENT_RATE": "5,bob=1",
        "BOOMERANG_WEBHOOK_SECRETS": "hunter2",
        "BOOMERANG_LEASE": "5",
        "BOOMERANG_PUBLIC_URL": "https://video.example.org",
    }
    result = run("serve", env=env)
    lines = result.stderr.removeprefix("Error: ").splitlines()
    assert result.exit_code == 2
    assert sorted(" ".join(line.split()[:2]) for line in lines) == [
        "BOOMERANG_API_KEYS must",
        "BOOMERANG_CLIENT_RATE must",
        "BOOMERANG_HANDLERS names",
        "BOOMERANG_LEASE must",
        "BOOMERANG_LEES is",
        "BOOMERANG_NOTIFY_HANDLERS names",
        "BOOMERANG_POLL_MAX must",
        "BOOMERANG_RATE_LOG must",
        "BOOMERANG_RATE_LOGG must",
        "BOOMERANG_RETRY_SCHEDULE_LOG must",
        "BOOMERANG_RETRY_SCHEDULE_LOGG must",
        "BOOMERANG_SECRET_KEYS must",
        "BOOMERANG_UPSTREAM_KEY (or",
        "BOOMERANG_WEBHOOK_SECRETS must",
        "handler 'archive'",
    ]
    assert "hunter2" not in result.stderr
    assert "known are log" not in result.stderr
    assert "loaded are log" in result.stderr


@pytest.mark.parametrize(
    ("env", "absent"),
    [
        ({"BOOMERANG_API_KEYS": "bob", "BOOMERANG_CLIENT_RATE": "5,bob=1"}, "BOOMERANG_CLIENT_RATE"),
        ({"BOOMERANG_PROVIDER": "vidoo", "VIDU_API_KEY": "key"}, "BOOMERANG_UPSTREAM_KEY"),
        ({"BOOMERANG_PROVIDER": "vidu", "BOOMERANG_BUDGET": "lots", "VIDU_API_KEY": "key"}, "BOOMERANG_CREDIT_PRICE"),
        ({"BOOMERANG_SECRET_KEYS": "short", "DATABASE_URL": "postgres://h/d"}, "BOOMERANG_SECRET_KEYS must be set"),
    ],
)
def test_invalid_value_is_not_reported_as_missing(env: dict[str, str], absent: str) -> None:
    """What follows from an invalid value is not reported beside it."""
    result = run("serve", env={**KEY, **env} if "PROVIDER" not in str(env) else env)
    assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
    assert absent not in result.stderr


def test_worker_without_a_port_needs_no_client_keys(served: list[dict[str, Any]]) -> None:
    """A public address concerns the processes that listen; a port of the platform makes the worker one of them."""
    env = {**KEY, "BOOMERANG_PUBLIC_URL": "https://video.example.org"}
    assert run("worker", env=env).exit_code == 0
    assert len(served) == 1
    for more in ({"PORT": "9090"}, {"BOOMERANG_PORT": "9090"}):
        assert "BOOMERANG_API_KEYS must" in run("worker", env={**env, **more}).stderr


def test_reconcile_reports_everything_at_once() -> None:
    """The single pass has the requirements of a worker."""
    result = run("reconcile", "--once", env={"DATABASE_URL": "postgres://h/d", "BOOMERANG_LEASE": "5"})
    names = [line.split()[0] for line in result.stderr.removeprefix("Error: ").splitlines()]
    assert (result.exit_code, sorted(names)) == (
        2,
        ["BOOMERANG_LEASE", "BOOMERANG_SECRET_KEYS", "BOOMERANG_UPSTREAM_KEY"],
    )


def test_handlers_come_from_the_directory_that_is_named(served: list[dict[str, Any]], tmp_path: Path) -> None:
    """HANDLERS_DIR is also read from `.env`, and decides which settings are known."""
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "publish.py").write_text(
        "from service import Handlers\nhandlers = Handlers()\n"
        "@handlers.on(name='publish', needs=('PUBLISH_TO',))\nasync def publish(event, tools): ...\n"
    )
    (tmp_path / ".env").write_text("BOOMERANG_HANDLERS_DIR=own\n")
    assert run("serve", env={**KEY, "BOOMERANG_PUBLISH_TO": "there"}).exit_code == 0
    assert served
    result = run("serve", env={**KEY, "BOOMERANG_HANDLERS_DIR": "owm"})
    assert "BOOMERANG_HANDLERS_DIR must name a directory that exists" in result.stderr


def test_serve_on_a_public_host_requires_keys(served: list[dict[str, Any]]) -> None:
    """Without API keys only loopback addresses are allowed."""
    assert run("serve", "--host", "0.0.0.0", env=KEY).exit_code == 2  # noqa: S104 - must be refused
    assert served == []


@pytest.mark.parametrize(
    ("arguments", "env", "port", "role"),
    [
        (["serve"], {}, 8080, "all"),
        (["serve"], {"PORT": "9090"}, 9090, "all"),
        (["serve", "--port", "0", "--role", "web"], {"PORT": "9090"}, 0, "web"),
        (["serve", "--role", "worker"], {}, None, "worker"),
        (["worker"], {}, None, "worker"),
        (["worker"], {"PORT": "9090"}, 9090, "worker"),
        (["worker", "--port", "1"], {}, 1, "worker"),
    ],
)
def test_roles_and_ports(
    served: list[dict[str, Any]], arguments: list[str], env: dict[str, str | None], port: int | None, role: str
) -> None:
    """The service listens on --port, else $PORT, else 8080; a worker without either opens no port."""
    result = run(*arguments, env={**KEY, **env})
    assert result.exit_code == 0, result.output
    assert served == [{"provider": "vtrix", "host": "127.0.0.1", "port": port, "role": role}]


def test_settings_are_read_from_dotenv(served: list[dict[str, Any]], tmp_path: Path) -> None:
    """The `.env` of the working directory is read."""
    (tmp_path / ".env").write_text("BOOMERANG_PROVIDER=vidu\nVIDU_API_KEY=key\n")
    assert run("serve").exit_code == 0
    assert served[0]["provider"] == "vidu"


def test_migrate_creates_the_database_and_can_run_again(tmp_path: Path) -> None:
    """Migration requires no provider key, and a second run succeeds."""
    for _ in range(2):
        result = run("migrate")
        assert result.exit_code == 0, result.output
        assert "newest schema" in result.stderr
    assert json.loads(run("migrate", "--json").stdout) == {"schema": HEAD}
    assert (tmp_path / "boomerang.db").is_file()


def test_reconcile_once_prints_counts() -> None:
    """With nothing due all counts are zero; standard output is only JSON."""
    result = run("reconcile", "--once", "--json", env=KEY)
    assert result.exit_code == 0, result.output
    assert not any(json.loads(result.stdout).values())


def test_reconcile_without_once_is_a_usage_error() -> None:
    """`serve` is the command that keeps running."""
    assert run("reconcile", env=KEY).exit_code == 2


def test_required_setting_of_a_local_handler_is_accepted(served: list[dict[str, Any]], tmp_path: Path) -> None:
    """A setting that a local handler requires is known; a misspelt one is refused."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "publish.py").write_text(
        "from service import Event, Handlers, Tools\n"
        "handlers = Handlers()\n"
        "@handlers.on('task.completed', name='publish', needs=('PUBLISH_TO',))\n"
        "async def publish(event: Event, tools: Tools) -> None: ...\n"
    )
    assert run("serve", env={**KEY, "BOOMERANG_PUBLISH_TO": "there"}).exit_code == 0
    assert run("serve", env={**KEY, "BOOMERANG_PUBLISH_TOO": "there"}).exit_code == 2
    assert len(served) == 1


def test_secret_prints_a_valid_key() -> None:
    """Each call prints a new key of at least 32 characters, and nothing else."""
    first, second = run("secret"), run("secret")
    assert first.stdout != second.stdout
    assert len(first.stdout.strip()) >= 32
    assert first.stderr == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (BadSetting("words"), 2),
        (BadHandler("words"), 2),
        (SchemaBehind("words"), 1),
        (NotFound("words"), 1),
        (OSError("words"), 1),
        (ExceptionGroup("several", [ExceptionGroup("inner", [BadSetting("words")])]), 2),
    ],
)
def test_expected_error_is_a_message_and_an_exit_code(
    served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    """An expected error ends without a traceback."""

    async def fail(_: Settings, **__: object) -> None:
        raise error

    monkeypatch.setattr(service_main, "serve", fail)
    result = run("serve", env=KEY)
    assert (result.exit_code, result.stderr, served) == (code, "Error: words\n", [])


def test_programming_error_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """An unexpected exception is not converted to a message."""

    async def fail(_: Settings, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(service_main, "serve", fail)
    assert isinstance(run("serve", env=KEY).exception, ZeroDivisionError)


def test_closed_pipe_causes_no_traceback() -> None:
    """Output to a closed pipe prints no traceback."""
    code = "import sys; from service.cli import main; sys.stdin.read(); main(['secret'])"
    reading, writing = os.pipe()
    with subprocess.Popen(  # noqa: S603 - trusted command
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        os.close(writing)
        os.close(reading)
        _, errors = process.communicate("", timeout=60)
    assert "Traceback" not in errors


def test_command_table_matches_the_commands() -> None:
    """Each entry of the table leads to a click command with its name."""
    assert isinstance(boomerang, Commands)
    context = click.Context(boomerang)
    for name in COMMANDS:
        command = boomerang.get_command(context, name)
        assert command is not None
        assert command.name == name


@pytest.mark.parametrize("in_a_class", [False, True])
def test_interrupted_command_has_its_own_exit_code(monkeypatch: pytest.MonkeyPatch, *, in_a_class: bool) -> None:
    """A script can distinguish an interrupt from a failed task, and does not submit again."""

    def interrupted(*_: object) -> None:
        if in_a_class:
            raise RuntimeError("Error calling __set_name__ on a field") from KeyboardInterrupt()
        raise KeyboardInterrupt

    monkeypatch.setattr(service_main, "list_handlers", interrupted)
    result = run("handlers", env=KEY)
    assert (result.exit_code, "Aborted" in result.output) == (130, False)
