"""The command `boomerang`. Each command's module is imported only when the command is used."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from importlib import import_module
from typing import Any

import click

from service.domain.errors import BadHandler, BadSetting, BoomerangError

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
"""As shells have it for SIGINT: whoever waited for a task must not take this for its failure."""

COMMANDS = {
    "demo": ("service.cli.demo.command", "The whole story on this machine, with nothing configured."),
    "serve": ("service.cli.server", "Run the service."),
    "worker": ("service.cli.server", "Run only the part that submits, polls and dispatches."),
    "migrate": ("service.cli.server", "Bring the database to the newest schema."),
    "sandbox": ("service.cli.sandbox", "Run the stand-in upstream alone."),
    "submit": ("service.cli.tasks", "Submit a task."),
    "status": ("service.cli.tasks", "Show a task."),
    "watch": ("service.cli.tasks", "Follow a task to its end."),
    "tasks": ("service.cli.tasks", "List tasks, newest first."),
    "cancel": ("service.cli.tasks", "Cancel a task."),
    "resubmit": ("service.cli.tasks", "Submit an in-doubt or failed task again, as a new one."),
    "events": ("service.cli.events", "Show everything that happened to a task."),
    "dead": ("service.cli.deliveries", "List dead letters."),
    "replay": ("service.cli.deliveries", "Put deliveries through again."),
    "reconcile": ("service.cli.server", "Do one round of everything that is due."),
    "handlers": ("service.cli.server", "Show which handlers are loaded."),
    "secret": ("service.cli.server", "Print a fresh signing key."),
}
"""Each command: the module that has it under the same name, and its line in the help."""


class CommandFailed(click.ClickException):
    """A command that could not do what was asked; the message says why."""

    exit_code = EXIT_FAILED


class UsageError(CommandFailed):
    """Wrong use or configuration."""

    exit_code = EXIT_USAGE


class Unreachable(CommandFailed):
    """The service cannot be reached, or cannot answer now; it may later."""


class Commands(click.Group):
    """A group that imports a command when it is asked for, and tells every expected error in plain words."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click asks
        """Return the names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click asks
        """Return the command, None for an unknown one."""
        if cmd_name not in COMMANDS:
            return None
        command = getattr(import_module(COMMANDS[cmd_name][0]), cmd_name)
        return command if isinstance(command, click.Command) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that `args` begin with; a misspelt one is answered with the nearest."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if near := get_close_matches(args[0], COMMANDS, n=1):
                raise click.UsageError(f"{error.message} Did you mean '{near[0]}'?", ctx) from None
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click asks
        """Write the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])

    def make_context(self, *args: Any, **how: Any) -> click.Context:
        """Read the options, which may show the help; it may be that it cannot be written."""
        with _click_errors():
            return super().make_context(*args, **how)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an error that was raised on purpose becomes a message and an exit code."""
        try:
            with _click_errors():
                return super().invoke(ctx)
        except KeyboardInterrupt:
            raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


@contextmanager
def _click_errors() -> Iterator[None]:
    """Turn what is raised in the block into what click tells."""
    try:
        yield
    except (BoomerangError, OSError, ExceptionGroup) as error:
        raise _to_click_error(error) from error


def _to_click_error(error: Exception) -> Exception:
    """Return what to raise for `error`: a message for an expected one, itself for a fault of ours."""
    while isinstance(error, ExceptionGroup):
        error = error.exceptions[0]
    if isinstance(error, BadSetting | BadHandler):
        return UsageError(str(error))
    if isinstance(error, BoomerangError):
        return CommandFailed(str(error))
    # a broken pipe is click's own business
    expected = isinstance(error, OSError) and not isinstance(error, BrokenPipeError)
    return CommandFailed(_reason(error)) if expected else error


def _reason(error: Exception) -> str:
    """Return what the system says, about which file, without its number."""
    said, file = getattr(error, "strerror", None), getattr(error, "filename", None)
    return f"{file}: {said}" if said and file else str(said or error)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="boomerang-service", prog_name="boomerang")
def boomerang() -> None:
    """Submit AI video tasks, verify their signed callbacks, poll for the ones that never come, deliver every result.

    Start with `boomerang demo`. Settings are BOOMERANG_* in the environment or in a .env file. Exit codes: 0 done;
    1 the task failed or a check did not hold; 2 wrong use or configuration.
    """


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line (`sys.argv` by default), and exit."""
    boomerang.main(args=arguments, prog_name="boomerang")
