"""The commands of handlers: list them, write a new one with its test, send a test event through one."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import anyio
import click

from service.cli import EXIT_FAILED, completion
from service.cli.api_client import Client, with_client
from service.cli.output import clean, print_json, result_console, show_fields, show_wrapped
from service.cli.server import operator_settings
from service.domain.errors import BadSetting, InvalidParams
from service.domain.task import EventType, Json

if TYPE_CHECKING:
    from service.runtime.config.settings import Settings

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,62}")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")


@click.group(invoke_without_command=True)
@json_option
@click.pass_context
def handlers(context: click.Context, as_json: bool) -> None:
    """List the handlers: whether they are loaded, their origin, events and settings.

    The exit code is 1 if one is broken. Values of settings are never shown.
    """
    if context.invoked_subcommand is None:
        _list(as_json)


def _list(as_json: bool) -> None:
    from service.runtime.process import list_handlers  # noqa: PLC0415 - heavy

    try:
        settings = operator_settings(strict=False)
    except BadSetting:
        settings = operator_settings()  # if a broken handler may own the setting, report the handler
    found = list_handlers(settings)
    _add_pauses(settings, found)
    if as_json:
        print_json(found)
    else:
        for row in found:
            _show(row)
    if any(row["broken"] for row in found):
        raise click.exceptions.Exit(EXIT_FAILED)


def _add_pauses(settings: "Settings", found: Iterable[dict[str, Any]]) -> None:
    """Add since when each handler is paused: None for one that is not, and where no database can be read."""
    from service.runtime.process import handler_pauses  # noqa: PLC0415 - heavy

    pauses = anyio.run(handler_pauses, settings)
    since = {name: pause.since for pause in pauses for name in pause.names}
    for row in found:
        row["paused_at"] = since[row["name"]].isoformat() if row["name"] in since else None


def _show(row: Mapping[str, Any]) -> None:
    result_console().print(clean(row["name"]))
    fields = {"  is": _state(row), "  from": row["origin"], "  for": _events(row["events"])}
    show_fields({**fields, "  at": ", ".join(row["routes"]), "  rate": row["rate"]})
    for setting in row["settings"]:
        show_wrapped(f"  {setting['name']}  {_about(setting)}", indent=4)


def _about(setting: Mapping[str, Any]) -> str:
    default = f"default {setting['default']}" if setting["default"] is not None else "not set"
    value = "set" if setting["set"] else "required" if setting["required"] else default
    return clean(f"{value}: {setting['description']}" if setting["description"] else value)


def _state(row: Mapping[str, Any]) -> str:
    if row["broken"]:
        return f"broken: {row['why']}"
    if row["loaded"]:
        return f"loaded, paused since {row['paused_at']}" if row["paused_at"] else "loaded"
    return str(row["why"]) if row["passed_over"] else f"not loaded: {row['why']}"


def _events(names: object) -> str:
    found = {str(name) for name in names} if isinstance(names, Iterable) else set()
    return "every event" if found == set(EventType) else ", ".join(sorted(found))


@handlers.command()
@click.argument("name")
@json_option
def new(name: str, as_json: bool) -> None:
    """Write handlers/NAME.py and its test in the working directory. Existing files are never overwritten."""
    from service.cli.handler_template import HANDLER, TEST  # noqa: PLC0415 - only this command needs it

    if not NAME.fullmatch(name):
        raise click.UsageError("NAME must begin with a letter and have ASCII letters, digits, '-' and '_' alone")
    module = name.replace("-", "_").lower()
    folder = Path("handlers")
    files = {folder / f"{module}.py": HANDLER, folder / f"test_{module}.py": TEST}
    if existing := [str(path) for path in files if path.exists()]:
        raise click.UsageError(f"{', '.join(existing)} exists already; choose another name, or remove it")
    _check_free(name, module)
    folder.mkdir(exist_ok=True)
    for path, template in files.items():
        with path.open("x", encoding="utf-8") as file:
            file.write(template.format(name=name, module=module, prefix=module, capitals=module.upper()))
    if as_json:
        print_json({"name": name, "files": [str(path) for path in files]})
        return
    for path in files:
        result_console().print(f"{path} written", soft_wrap=True)
    install = "" if find_spec("pytest") else ", after `pip install pytest`"
    result_console().print(f"Try `pytest {folder}/test_{module}.py`{install}.", soft_wrap=True)


def _check_free(name: str, module: str) -> None:
    """Raise UsageError for a name that another handler has, or whose settings the service has itself."""
    from service.deliveries.handler_loader import survey  # noqa: PLC0415 - imports every handler
    from service.runtime.config.settings import NAMES  # noqa: PLC0415 - heavy

    taken = {each for handler in survey().handlers.values() for each in handler.names}
    if name in taken or module in taken or f"{module.upper()}_URL" in NAMES or module in {"test", "handler"}:
        raise click.UsageError(f"the name {name} is taken; choose another")


@handlers.command()
@click.argument("name", shell_complete=completion.handlers)
@json_option
@with_client
async def pause(client: Client, *, name: str, as_json: bool) -> None:
    """Pause a handler in every process: its deliveries wait, and lose no attempt."""
    _show_pause(await client.handler_action(name, "pause"), as_json=as_json)


@handlers.command()
@click.argument("name", shell_complete=completion.handlers)
@json_option
@with_client
async def resume(client: Client, *, name: str, as_json: bool) -> None:
    """Resume a handler: what waits is delivered at once."""
    _show_pause(await client.handler_action(name, "resume"), as_json=as_json)


def _show_pause(handler: Json, *, as_json: bool) -> None:
    if as_json:
        print_json(handler)
        return
    state = {"handler": handler["name"], "state": "paused" if handler["paused"] else "active"}
    show_fields({**state, "since": handler["paused_at"], "by": handler["paused_by"]})


@handlers.command("test")
@click.argument("name", shell_complete=completion.handlers)
@click.option("--target", metavar="JSON", help='What a notify entry has beside "handler", as a JSON object.')
@click.option("--event", "event_type", type=click.Choice([each.value for each in EventType]), help="Type of the event.")
@json_option
def test_event(name: str, target: str | None, event_type: str | None, as_json: bool) -> None:
    """Send one clearly marked test event through the handler NAME with the real settings, and print the outcome.

    Exit codes: 0 delivered; 1 it would be tried again, or has failed; 2 wrong use or configuration.
    """
    from service.runtime.sample_delivery import try_handler  # noqa: PLC0415 - heavy

    entry = _parsed(target)
    try:
        result = anyio.run(lambda: try_handler(operator_settings(), name, target=entry, event_type=event_type))
    except InvalidParams as invalid:
        lines = [f"{'.'.join(map(str, fault.loc[2:])) or 'the entry'} {fault.msg}" for fault in invalid.faults]
        raise click.UsageError("--target: " + "; ".join(lines)) from None
    if as_json:
        print_json(asdict(result))
    else:
        show_fields(
            {
                "outcome": result.outcome,
                "event": result.event,
                "seconds": f"{result.seconds:.3f}",
                "error": result.error,
            }
        )
    if result.outcome != "delivered":
        raise click.exceptions.Exit(EXIT_FAILED)


def _parsed(target: str | None) -> dict[str, object] | None:
    if target is None:
        return None
    try:
        value = json.loads(target)
    except ValueError as error:
        raise click.UsageError(f"--target is no JSON: {error}") from None
    if not isinstance(value, dict):
        raise click.UsageError('--target must be a JSON object, like {"chat": 42}')
    return {key: each for key, each in value.items() if key != "handler"}
