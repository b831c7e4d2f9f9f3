"""The examples in every help, and the completion of three shells."""

import os
import pty
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from select import select

import click
import pytest

from service.cli import COMMANDS, boomerang
from service.cli.examples import EXAMPLES
from service.domain.models.catalog import known_models
from service.domain.task import Status
from tests.unit.cli.fake_service import fake_service, run, task

BIN = Path(sys.executable).parent


def every_command() -> Iterator[tuple[str, click.Command]]:
    """Yield each command, and each in a group, with its name."""
    context = click.Context(boomerang)
    for name in COMMANDS:
        command = boomerang.get_command(context, name)
        assert command, name
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", each) for inner, each in command.commands.items())


def test_every_command_has_examples() -> None:
    """Each help ends with at least one example, and no example is of a command that does not exist."""
    commands = dict(every_command())
    assert commands.keys() == EXAMPLES.keys()
    for name in commands:
        help_text = run(*name.split(), "--help").stdout
        tail = help_text.partition("Examples:\n")[2]
        assert [line.strip() for line in tail.strip().splitlines()] == list(EXAMPLES[name]), name


WITHOUT_JSON = {
    "serve": "runs until it is stopped; LOG_FORMAT=json makes its log JSON",
    "worker": "as serve",
    "sandbox": "as serve; its switches and ledger are JSON over HTTP",
    "completion": "prints a script for a shell",
}


def test_every_command_has_json() -> None:
    """Each command prints JSON with `--json`, but for those that print nothing a program would read."""
    lacking = {name for name, each in every_command() if not any("--json" in option.opts for option in each.params)}
    assert lacking == WITHOUT_JSON.keys()


@pytest.mark.parametrize("example", [line for lines in EXAMPLES.values() for line in lines])
def test_every_example_parses(example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each example is a valid command line: its command, its options and their values."""
    monkeypatch.chdir(tmp_path)
    for name in ("cat.png", "dog.png"):
        (tmp_path / name).touch()
    words = shlex.split(example, comments=True)
    if words[0] == "eval":
        words = shlex.split(words[1].removeprefix("$(").removesuffix(")"))
    assert words[0] == "boomerang"
    words = words[1 : words.index("|") if "|" in words else None]
    context = boomerang.make_context("boomerang", words.copy())
    while isinstance(context.command, click.Group):
        remaining = [*context._protected_args, *context.args]
        if not remaining:
            break
        inner, command, rest = context.command.resolve_command(context, remaining)
        assert command
        context = command.make_context(str(inner), rest, parent=context)
    assert context.parent is not None


def completions(shell: str, line: str, *, cwd: Path, **variables: str) -> list[str]:
    """Return what the program itself answers to the script of a shell for a line that is typed."""
    words = line.split(" ")
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "_BOOMERANG_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1) if shell != "fish" else words[-1],
        **variables,
    }
    done = subprocess.run([BIN / "boomerang"], env=environment, cwd=cwd, capture_output=True, check=True, timeout=120)  # noqa: S603
    return done.stdout.decode().split("\n")[:-1] if done.stdout.strip() else []


def test_models_of_the_provider_are_completed(tmp_path: Path) -> None:
    """Vidu's own API has one of the models; the provider is that of the environment, else of the file .env."""
    line, only = "boomerang submit --model vidu", ["plain,viduq2_pro_reference"]
    assert completions("bash", line, cwd=tmp_path, BOOMERANG_PROVIDER="vidu") == only
    (tmp_path / ".env").write_text("BOOMERANG_PROVIDER=vidu\n")
    assert completions("bash", line, cwd=tmp_path) == only


def test_values_are_completed(tmp_path: Path) -> None:
    """Commands, options, statuses, models, handlers and parameters are completed; an unknown value by nothing."""
    assert completions("bash", "boomerang do", cwd=tmp_path) == ["plain,doctor"]
    assert completions("bash", "boomerang tasks --mo", cwd=tmp_path) == ["plain,--model"]
    statuses = completions("bash", "boomerang tasks --status ", cwd=tmp_path)
    assert statuses == [f"plain,{status.value}" for status in Status]
    assert completions("bash", "boomerang submit --model vidu", cwd=tmp_path) == [
        f"plain,{name}" for name in sorted(known_models())
    ]
    assert completions("bash", "boomerang dead --handler web", cwd=tmp_path) == ["plain,webhook"]
    assert completions("bash", "boomerang submit --param dur", cwd=tmp_path) == ["plain,duration="]
    assert completions("bash", "boomerang submit --image ./c", cwd=tmp_path) == ["file,./c"]
    assert completions("bash", "boomerang dead --handler nothing", cwd=tmp_path) == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_script_of_a_shell(shell: str, tmp_path: Path) -> None:
    """Each script asks this program by the variable, and its shell accepts the script where it is installed."""
    result = run("completion", shell)
    assert result.exit_code == 0
    assert f"_BOOMERANG_COMPLETE={shell}_complete" in result.stdout
    if program := shutil.which(shell):
        script = tmp_path / "script"
        script.write_text(result.stdout)
        flags = {"bash": "-n", "zsh": "-n", "fish": "--no-execute"}
        subprocess.run([program, flags[shell], str(script)], check=True, timeout=60)  # noqa: S603


def test_zsh_without_completions_loads_them() -> None:
    """The script begins with the line by which zsh finds it, and loads the completions only where they are missing."""
    first, second = run("completion", "zsh").stdout.splitlines()[:2]
    assert first == "#compdef boomerang"
    assert second.startswith("(( $+functions[compdef] )) ||")


@pytest.mark.skipif(not shutil.which("bash"), reason="bash is not installed")
def test_bash_completes_what_is_typed(tmp_path: Path) -> None:
    """On a terminal with the script loaded; after the name of a parameter its value is typed, without a space."""
    (tmp_path / "script").write_text(run("completion", "bash").stdout)
    steps = [("$ ", ". ./script\n"), ("script\r\n$ ", "boomerang sub\t--param dur\t5")]
    shown = on_terminal("bash", "--norc", "--noprofile", "-i", steps=steps, until="=5", cwd=tmp_path)
    assert "boomerang submit --param duration=5" in shown


def on_terminal(*command: str, steps: Sequence[tuple[str, str]], until: str, cwd: Path) -> str:
    """Type into a shell on a terminal, each text once another one is shown; return what is shown `until` a text."""
    terminal, inner = pty.openpty()
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb", "PS1": "$ "}
    shown = ""
    with subprocess.Popen(  # noqa: S603
        command, stdin=inner, stdout=inner, stderr=inner, cwd=cwd, env=environment, start_new_session=True
    ) as shell:
        os.close(inner)
        for awaited, text in (*steps, (until, "")):
            while awaited not in shown and select([terminal], [], [], 30)[0]:
                shown += os.read(terminal, 4096).decode()
            os.write(terminal, text.encode())
        shell.kill()
    os.close(terminal)
    return shown


def test_ids_of_tasks_are_completed(tmp_path: Path) -> None:
    """The newest of the service, with their statuses; without a service there are none."""
    with fake_service() as service:
        found = {"data": [task(id="0198-a"), task(id="0199-b")], "next_cursor": None}
        service.respond_to("GET /v1/tasks", (200, found))
        lines = completions("fish", f"boomerang status --url {service.url} 0198", cwd=tmp_path)
    assert lines == ["plain,0198-a\tcompleted, 2026-01-02T03:04Z"]
    assert completions("bash", "boomerang cancel ", cwd=tmp_path, BOOMERANG_URL="http://127.0.0.1:9") == []


def test_unknown_shell_is_refused() -> None:
    """The message names the shells that there are."""
    result = run("completion", "csh")
    assert result.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in result.stderr
