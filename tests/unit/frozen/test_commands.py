"""The command line: every command, every option and the exit codes."""

import os
from pathlib import Path
from typing import Any

import click
import pytest

import service.cli
from service.cli import main
from tests.unit.frozen.snapshots import assert_frozen


def group() -> click.Group:
    """Return the click group, whatever its name in the module is."""
    found: list[click.Group] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(click.Command, "main", lambda self, *_args, **_how: found.append(self))
        main([])
    return found[0]


def option(parameter: click.Parameter) -> dict[str, Any]:
    """Return the properties of an option or an argument."""
    about: dict[str, Any] = {"default": plain(parameter.default), "multiple": getattr(parameter, "multiple", False)}
    about |= {"required": parameter.required, "arguments": parameter.nargs, "metavar": parameter.metavar}
    about |= {"flag": getattr(parameter, "is_flag", False)}
    if isinstance(parameter.type, click.Choice):
        about["choices"] = [str(choice) for choice in parameter.type.choices]
    return about


def plain(default: object) -> object:
    """Return a default as a JSON value; click's marker for a missing default counts as none."""
    return default if isinstance(default, bool | int | float | str | list) else None


def commands() -> dict[str, Any]:
    """Return every command with its options, without the help option that click adds on first use."""
    every = group()
    context = click.Context(every)
    found: dict[str, Any] = {"": {"/".join(one.opts): option(one) for one in every.params}}
    for name in every.list_commands(context):
        command = every.get_command(context, name)
        assert command, name
        found[name] = {"/".join([*one.opts, *one.secondary_opts]): option(one) for one in command.params}
    return found


def test_commands_and_options() -> None:
    """Every command has its options, and the switches of the sandbox are options too."""
    assert_frozen("commands.json", commands())


def test_help_options() -> None:
    """Every command accepts -h and --help."""
    assert group().context_settings["help_option_names"] == ["-h", "--help"]


def exit_code(*arguments: str) -> int:
    """Run a command in this process and return its exit code."""
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    return int(ended.value.code or 0)


def test_exit_codes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0 success; 1 failure; 2 wrong usage or configuration; 130 interrupted."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOMERANG_")]:
        monkeypatch.delenv(name)
    assert (exit_code("secret"), exit_code("nonsense"), exit_code("serve")) == (0, 2, 2)
    monkeypatch.setenv("BOOMERANG_URL", "http://127.0.0.1:1")
    assert exit_code("status", "nobody") == 1
    monkeypatch.setenv("BOOMERANG_LEESE", "1s")
    assert exit_code("handlers") == 2

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(click, "echo", interrupted)
    monkeypatch.setattr(service.cli, "end_in_spite_of_threads", lambda _: None)  # threads of tests before end nothing
    assert exit_code("secret") == 130


def test_exit_code_for_a_broken_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`boomerang handlers` reports a broken handler by its exit code."""
    (tmp_path / "handlers").mkdir()
    (tmp_path / "handlers" / "mine.py").write_text("from service import Handlers\nraise ValueError\n")
    monkeypatch.chdir(tmp_path)
    assert exit_code("handlers") == 1
