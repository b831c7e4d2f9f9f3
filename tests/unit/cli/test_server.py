"""The commands of whoever runs the service, and what every command has in common."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from service.cli import COMMANDS, Commands, boomerang
from service.domain.errors import BadHandler, BadSetting, NotFound, SchemaBehind
from service.runtime import process as service_main
from service.runtime.config.settings import Settings
from tests.unit.cli.fake_service import run

KEY = {"BOOMERANG_UPSTREAM_KEY": "key", "BOOMERANG_UPSTREAM_URL": "http://127.0.0.1:9"}


@pytest.fixture(autouse=True)
def _alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory, with no setting of the tester's."""
    monkeypatch.chdir(tmp_path)
    for name in ("PORT", "DATABASE_URL", "VTRIX_API_KEY", "VIDU_API_KEY", *filter(_ours, os.environ)):
        monkeypatch.delenv(name, raising=False)


def _ours(name: str) -> bool:
    return name.startswith("BOOMERANG_")


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Gather with what the service would have been served."""
    calls: list[dict[str, Any]] = []

    async def serve(settings: Settings, **how: object) -> None:
        calls.append({"provider": settings.provider, **how})

    monkeypatch.setattr(service_main, "serve", serve)
    return calls


def shell(*arguments: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run a Python of our own, as a process."""
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False, **how)  # noqa: S603 - our own


def test_help_names_every_command_and_imports_none() -> None:
    """The list of commands appears without importing what any of them needs."""
    heavy = ("starlette", "sqlalchemy", "av", "uvicorn", "pydantic")
    code = (
        "import sys; from service.cli import main\n"
        "try: main(['--help'])\n"
        f"finally: print([name for name in {heavy} if name in sys.modules])"
    )
    told = shell("-c", code, cwd=Path(__file__).parents[3])
    assert told.returncode == 0
    assert told.stdout.splitlines()[-1] == "[]"
    for name in COMMANDS:
        assert f"\n  {name} " in told.stdout


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_has_its_own_help(name: str) -> None:
    """Each listed command exists and explains itself."""
    result = run(name, "--help")
    assert result.exit_code == 0
    assert f"boomerang {name}" in result.stdout


def test_an_unknown_command_is_wrong_use() -> None:
    """A misspelt command ends with 2 and names it."""
    result = run("sbumit")
    assert result.exit_code == 2
    assert "sbumit" in result.stderr


def test_a_misspelt_command_is_answered_with_the_nearest() -> None:
    """A slip of the finger is mended by the message; a wild guess gets none."""
    assert (run("hanlders").exit_code, "Did you mean 'handlers'?" in run("hanlders").stderr) == (2, True)
    assert "Did you mean" not in run("frobnicate").stderr


def test_a_reader_that_goes_away_ends_json_in_silence() -> None:
    """`boomerang handlers --json | true` leaves no complaint behind."""
    command = [sys.executable, "-c", "from service.cli import main; main(['handlers', '--json'])"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait(timeout=60) == 1


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["secret"], ["handlers", "--json"]])
def test_a_full_disk_is_one_line(arguments: list[str]) -> None:
    """What cannot be written ends with 1 and the system's reason, the help too."""
    code = f"from service.cli import main; main({arguments!r})"
    with Path("/dev/full").open("wb") as full:
        told = subprocess.run(  # noqa: S603 - our own
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, timeout=60, check=False
        )
    assert (told.returncode, told.stderr) == (1, "Error: No space left on device\n")


def test_serve_is_refused_without_an_upstream_key() -> None:
    """Who starts the service without a key is told of the demo."""
    result = run("serve")
    assert result.exit_code == 2
    assert "`boomerang demo`" in result.stderr


def test_serve_tells_every_wrong_setting() -> None:
    """All wrong settings are told at once, each on a line, with exit code 2."""
    result = run("serve", env={"BOOMERANG_LEASE": "soon", "BOOMERANG_CONFIRM": "maybe", "BOOMERANG_LEAS": "1s"})
    assert result.exit_code == 2
    for words in ("BOOMERANG_LEASE must", "BOOMERANG_CONFIRM must", "BOOMERANG_LEAS is no setting"):
        assert words in result.stderr


def test_serve_on_a_public_host_needs_keys(served: list[dict[str, Any]]) -> None:
    """Nothing but loopback is bound without API keys."""
    assert run("serve", "--host", "0.0.0.0", env=KEY).exit_code == 2  # noqa: S104 - refused is the point
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


def test_settings_may_stand_in_a_file(served: list[dict[str, Any]], tmp_path: Path) -> None:
    """The `.env` of the working directory is read."""
    (tmp_path / ".env").write_text("BOOMERANG_PROVIDER=vidu\nVIDU_API_KEY=key\n")
    assert run("serve").exit_code == 0
    assert served[0]["provider"] == "vidu"


def test_migrate_makes_the_database_and_may_run_again(tmp_path: Path) -> None:
    """Migrating needs no upstream key, and a second time is no fault."""
    for _ in range(2):
        result = run("migrate")
        assert result.exit_code == 0, result.output
        assert "newest schema" in result.stderr
    assert (tmp_path / "boomerang.db").is_file()


def test_reconcile_does_one_round_and_counts() -> None:
    """With nothing due the round is empty; standard output is JSON alone."""
    result = run("reconcile", "--once", "--json", env=KEY)
    assert result.exit_code == 0, result.output
    assert not any(json.loads(result.stdout).values())


def test_reconcile_without_once_is_wrong_use() -> None:
    """The command that runs for ever is `serve`."""
    assert run("reconcile", env=KEY).exit_code == 2


def test_a_handlers_own_setting_is_known_once_it_is_found(served: list[dict[str, Any]], tmp_path: Path) -> None:
    """A setting that a local handler needs is no misspelling."""
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


def test_secret_prints_a_key_that_the_settings_take() -> None:
    """Each call prints another key, alone on standard output."""
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
def test_an_expected_error_is_a_message_and_a_code(
    served: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, error: Exception, code: int
) -> None:
    """What was raised on purpose ends without a traceback."""

    async def fail(_: Settings, **__: object) -> None:
        raise error

    monkeypatch.setattr(service_main, "serve", fail)
    result = run("serve", env=KEY)
    assert (result.exit_code, result.stderr, served) == (code, "Error: words\n", [])


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    """A programming error keeps its traceback."""

    async def fail(_: Settings, **__: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(service_main, "serve", fail)
    assert isinstance(run("serve", env=KEY).exception, ZeroDivisionError)


def test_a_reader_that_leaves_ends_the_command_quietly() -> None:
    """Output into a pipe that is closed is no traceback."""
    code = "import sys; from service.cli import main; sys.stdin.read(); main(['secret'])"
    reading, writing = os.pipe()
    with subprocess.Popen(  # noqa: S603 - our own
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as process:
        os.close(writing)
        os.close(reading)
        _, told = process.communicate("", timeout=60)
    assert "Traceback" not in told


def test_the_table_of_commands_tells_the_truth() -> None:
    """Each entry of the table leads to a click command of that name."""
    assert isinstance(boomerang, Commands)
    context = click.Context(boomerang)
    for name in COMMANDS:
        command = boomerang.get_command(context, name)
        assert command is not None
        assert command.name == name


def test_interrupted_command_is_no_failed_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """A script that waits for a task can tell the two apart, and pays for no second one."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(service_main, "list_handlers", interrupted)
    result = run("handlers", env=KEY)
    assert (result.exit_code, "Aborted" in result.output) == (130, False)
