"""The command `boomerang`. The module of a command is imported only when the command is used."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click
from click.shell_completion import CompletionItem

from service.cli.examples import with_examples
from service.cli.streams_and_signals import (
    drop_unwritable_output,
    end_in_spite_of_threads,
    end_on_sigterm_as_first_process,
    open_missing_streams,
)
from service.domain.errors import BadHandler, BadSetting, BoomerangError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as in shells: a script that waits for a task can distinguish it from a failed task."""

COMMANDS = {
    "demo": ("service.cli.demo.command", "Run one task end to end on this machine; no configuration needed."),
    "serve": ("service.cli.server", "Run the service."),
    "worker": ("service.cli.server", "Run only submission, polling and dispatch."),
    "migrate": ("service.cli.server", "Upgrade the database to the newest schema."),
    "sandbox": ("service.cli.sandbox", "Run the stand-in provider (sandbox)."),
    "submit": ("service.cli.tasks", "Submit a task."),
    "status": ("service.cli.tasks", "Show a task."),
    "watch": ("service.cli.tasks", "Follow a task until it finishes."),
    "tasks": ("service.cli.tasks", "List tasks, newest first."),
    "cancel": ("service.cli.tasks", "Cancel a task."),
    "resubmit": ("service.cli.tasks", "Submit an in-doubt or failed task again as a new task."),
    "events": ("service.cli.events", "Show the history of a task."),
    "dead": ("service.cli.deliveries", "List dead letters."),
    "replay": ("service.cli.replays", "Replay deliveries, one by one or in bulk."),
    "endpoints": ("service.cli.endpoints", "List and manage standing webhook addresses."),
    "circuits": ("service.cli.circuits", "List destinations that fail, and close the circuit of one."),
    "login": ("service.cli.login", "Print a one-time link that signs a browser in to the dashboard."),
    "usage": ("service.cli.usage", "Show what tasks cost, by day, model and client."),
    "reconcile": ("service.cli.server", "Process everything that is due once, then exit."),
    "handlers": ("service.cli.handlers", "List the handlers, write a new one, or send a test event through one."),
    "doctor": ("service.cli.doctor", "Check the installation, and say how to fix what is wrong."),
    "completion": ("service.cli.completion", "Print the script of shell completion."),
    "secret": ("service.cli.server", "Print a new signing key."),
    "setup": ("service.cli.setup", "Register a chat bot at its platform."),
}
"""Name of each command: the module that defines it under the same name, and its summary in the help."""


class CommandFailed(click.ClickException):
    """A command failed; the message gives the reason."""

    exit_code = EXIT_FAILED


class UsageError(CommandFailed):
    """Invalid usage or configuration."""

    exit_code = EXIT_USAGE


class Unreachable(CommandFailed):
    """The service cannot be reached or is temporarily unavailable; a later try may succeed."""


class Commands(click.Group):
    """A group that imports commands on first use and reports expected errors as messages."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - signature of click
        """Return the command names in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - signature of click
        """Import and return a command, or None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        return with_examples(command, cmd_name) if isinstance(command, click.Command) else None

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin with `incomplete`, without importing the commands."""
        found = [
            CompletionItem(name, help=about) for name, (_, about) in COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` start with; the error for an unknown name suggests the closest one."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if matches := get_close_matches(args[0], COMMANDS, n=1):
                raise click.UsageError(f"{error.message} Did you mean '{matches[0]}'?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - signature of click
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, summary) for name, (_, summary) in COMMANDS.items()])

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the options. `--help` prints here, so that a failed write is reported too."""
        with _click_errors():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; convert expected errors to a message and an exit code."""
        try:
            with _click_errors():
                return super().invoke(ctx)
        except (KeyboardInterrupt, RuntimeError) as error:
            # Python 3.11 turns an interrupt while a class is made, as in an import, into this error's cause
            if isinstance(error, RuntimeError) and not isinstance(error.__cause__, KeyboardInterrupt):
                raise
            if sys.stderr is not None and sys.stderr.isatty():
                click.echo(err=True)  # ends the line with ^C
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def _click_errors() -> Iterator[None]:
    """Convert expected errors of the block to click exceptions."""
    try:
        yield
    except (BoomerangError, OSError, ExceptionGroup) as error:
        raise _to_click_error(error) from error


def _to_click_error(error: Exception) -> Exception:
    """Return the exception to raise for `error`: a click exception if it is expected, `error` itself otherwise."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, BadSetting | BadHandler):
        return UsageError(str(error))
    if isinstance(error, BoomerangError):
        return CommandFailed(str(error))
    if not isinstance(error, OSError) or isinstance(error, BrokenPipeError):  # click handles a broken pipe
        return error
    reason = error.strerror or str(error)
    return CommandFailed(f"{error.filename}: {reason}" if error.strerror and error.filename else reason)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="boomerang-service", prog_name="boomerang")
def boomerang() -> None:
    """Submit AI video tasks, verify their signed callbacks, poll when callbacks are lost, and deliver every result.

    Try `boomerang demo` first. Settings are read from BOOMERANG_* environment variables and from .env in the working
    directory.

    Exit codes: 0 success; 1 the task or the command failed; 2 invalid usage or configuration; 130 interrupted.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line `arguments` (default: `sys.argv`) and exit."""
    open_missing_streams()
    end_on_sigterm_as_first_process()
    try:
        boomerang.main(args=arguments, prog_name="boomerang")
    except SystemExit as end:
        if end.code == EXIT_INTERRUPTED:
            end_in_spite_of_threads(EXIT_INTERRUPTED)
        drop_unwritable_output()
        raise
