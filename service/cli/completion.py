"""The command `boomerang completion`, and the values that a shell completes."""

import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click
from click.shell_completion import CompletionItem, get_completion_class

if TYPE_CHECKING:
    from service.cli.api_client import Client

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_BOOMERANG_COMPLETE"
"""The variable by which the script asks this program for the completions."""

ZSH_BEGIN = "(( $+functions[compdef] )) || { autoload -Uz compinit && compinit; }"
"""A line behind the first one, `#compdef`: without it, a zsh that has not loaded its completions reports an error."""

OPEN_ENDED = {
    "bash": ("COMPREPLY+=($value)\n", "COMPREPLY+=($value)\n            [[ $value == *= ]] && compopt -o nospace\n"),
    "zsh": (
        """            if [[ "$descr" == "_" ]]; then\n""",
        """            if [[ "$key" == *= ]]; then
                compadd -U -S '' -- "$key"
            elif [[ "$descr" == "_" ]]; then\n""",
    ),
}
"""What to replace in the script of a shell, so that it adds no space to a name whose value follows; fish adds none."""

COMPLETION_SECONDS = 2.0
"""How long a completion waits for the service."""

MAX_NAMES = 50
"""Tasks and circuits that are completed, of tasks the newest."""

Complete = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


@click.command()
@click.argument("shell", type=click.Choice(SHELLS))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that completes commands, options, models, statuses, handlers and ids in a shell.

    Add the line of your shell to its start file (~/.bashrc, ~/.zshrc, ~/.config/fish/config.fish), and open a new one.
    """
    script = get_completion_class(shell)
    if script is None:
        raise click.UsageError(f"there is no completion for {shell}")
    source = script(context.find_root().command, {}, "boomerang", VARIABLE).source()
    source = source.replace(*OPEN_ENDED.get(shell, ("", "")))
    click.echo(source.replace("\n", f"\n{ZSH_BEGIN}\n", 1) if shell == "zsh" else source)


def _values(names: Callable[[], Sequence[str]]) -> Complete:
    """Return a completion of the values that `names` returns; an error completes nothing, since nobody would see it."""

    def complete(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
        try:
            return [CompletionItem(name) for name in names() if name.startswith(incomplete)]
        except Exception:  # noqa: BLE001 - a shell has no place for an error of a broken handler or setting
            return []

    return complete


def _model_names() -> Sequence[str]:
    from service.providers import served_models  # noqa: PLC0415 - heavy, and only completion needs it here
    from service.runtime.config.dotenv import read_dotenv  # noqa: PLC0415 - see below

    variables = {**read_dotenv(Path(".env")), **os.environ}
    return sorted(served_models(variables.get("BOOMERANG_PROVIDER", "vtrix").strip().lower()))


def _handler_names() -> Sequence[str]:
    from service.deliveries.handler_loader import survey  # noqa: PLC0415 - imports every handler

    return sorted(survey().handlers)


def _parameter_names() -> Sequence[str]:
    from service.domain.models.catalog import MODELS  # noqa: PLC0415 - heavy, and only completion needs it here

    return sorted({f"{name}=" for model in MODELS.values() for name in model.model_fields})


def _of_service(read: Callable[["Client"], Awaitable[Mapping[str, str]]]) -> Complete:
    """Return a completion of the names that the service answers, each with a note; without an answer there are none."""

    def complete(context: click.Context, _: click.Parameter, incomplete: str) -> list[CompletionItem]:
        from service.cli.api_client import Client, find_access  # noqa: PLC0415 - heavy, and only completion needs it

        async def names() -> Mapping[str, str]:
            access = find_access(context.params.get("url"), context.params.get("api_key"), os.environ, Path(".env"))
            with anyio.fail_after(COMPLETION_SECONDS):
                async with Client(access.url, access.api_key, variables=access.variables) as client:
                    return await read(client)

        try:
            found = anyio.run(names)
        except Exception:  # noqa: BLE001 - as above
            return []
        return [CompletionItem(name, help=note) for name, note in found.items() if name.startswith(incomplete)]

    return complete


async def _circuit_keys(client: "Client") -> Mapping[str, str]:
    found = (await client.circuits(limit=MAX_NAMES))["data"]
    return {each["key"]: str(each["state"]) for each in found}


async def _task_ids(client: "Client") -> Mapping[str, str]:
    found = (await client.tasks(limit=MAX_NAMES))["data"]
    return {each["id"]: f"{each['status']}, {each['created_at'][:16]}Z" for each in found}


def _files(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(incomplete, type="file")]


models: Any = _values(_model_names)
parameters: Any = _values(_parameter_names)
handlers: Any = _values(_handler_names)
circuits: Any = _of_service(_circuit_keys)
task_ids: Any = _of_service(_task_ids)
files: Any = _files
