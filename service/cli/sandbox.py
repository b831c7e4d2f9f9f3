"""The command `boomerang sandbox`: run the stand-in provider alone."""

import os
import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from types import FrameType
from typing import Any

import click
import uvicorn

from service.cli import EXIT_INTERRUPTED, EXIT_USAGE
from service.cli.lean_imports import import_without_terminal_libraries

import_without_terminal_libraries()

from service.sandbox import MediaExtraMissing, Sandbox, SwitchError, Switches  # noqa: E402 - imports httpx
from service.sandbox.switches import Switch, switch_table  # noqa: E402 - the same

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""Seconds of each unit of a duration, longest first."""

_BACKLOG = 2048
_SHUTDOWN_TIMEOUT = 3
"""Seconds."""


class SandboxServer(uvicorn.Server):
    """A server that a second signal ends at once; uvicorn would print the traceback of its own cancellation."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop at the first signal, as uvicorn does."""
        if self.should_exit:
            os._exit(EXIT_INTERRUPTED)
        super().handle_exit(sig, frame)


class _GroupedOptions(click.Command):
    """A command whose help lists the options by group."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each group under its heading."""
        groups: dict[str, list[tuple[str, str]]] = {"Options": []}
        for param in self.get_params(ctx):
            switch = switch_table().get(param.name or "")
            record = param.get_help_record(ctx)
            if record is not None:
                groups.setdefault(switch.about.group if switch else "Options", []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


class _SwitchValue(click.ParamType[Any]):
    """An option value, parsed like the JSON value of its switch."""

    def __init__(self, switch: Switch) -> None:
        names: dict[object, str] = {int: "count", str: "text", float: "duration"}
        self.name = names.get(switch.kind, "range" if "tuple" in str(switch.kind) else "chance")
        self._switch = switch

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the parsed value. Raises click.BadParameter for an invalid one."""
        try:
            return self._switch.read(value)
        except SwitchError as error:
            self.fail(str(error), param, ctx)


def _option(switch: Switch) -> Callable[[click.Command], click.Command]:
    flag = "--" + switch.name.replace("_", "-")
    if switch.kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", switch.name, default=switch.default, help=switch.about.text)
    default = "" if switch.default in {0, ""} else f"  [default: {_format_default(switch.default)}]"
    text = switch.about.text + default
    return click.option(flag, switch.name, type=_SwitchValue(switch), default=switch.default, help=text)


def _format_default(default: object) -> str:
    """Return a default in the form of the command line, such as `1d` for 86400.0 seconds."""
    if not isinstance(default, float):
        return str(default)
    unit, length = next((unit, length) for unit, length in UNITS.items() if default % length == 0 or length == 1)
    return f"{default / length:g}{unit}"


def _with_switches(command: click.Command) -> click.Command:
    """Add one option for each switch."""
    for switch in switch_table().values():
        command = _option(switch)(command)
    return command


@_with_switches
@click.command(cls=_GroupedOptions)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8099,
    show_default=True,
    help="Port to listen on; 0 picks a free port.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on.")
@click.option("--seed", type=int, default=None, help="Seed of the injected faults; makes a run repeatable.")
def sandbox(port: int, host: str, seed: int | None, **switches: Any) -> None:
    """Run the stand-in provider (sandbox) with the APIs of Vtrix and Vidu, real MP4 files and injectable faults.

    A chance is a probability from 0 to 1, or "first N". A duration is 500ms, 30s or 2h. A range is 1s..3s.

    POST /sandbox/switches with a JSON object changes the switches at run time. GET /sandbox/ledger returns the bills
    and request counts.
    """
    source = Random(seed)  # noqa: S311 - faults must be repeatable, not secret
    try:
        provider = Sandbox(Switches(**switches), now=lambda: datetime.now(UTC), random=source)
    except MediaExtraMissing as missing:
        click.echo(f"boomerang sandbox: {missing}", err=True)
        raise SystemExit(EXIT_USAGE) from missing
    listener = _listener(host, port)
    click.echo(_startup_message(*listener.getsockname()[:2]), err=True)
    with listener, suppress(KeyboardInterrupt):
        config = uvicorn.Config(
            provider.app,
            access_log=False,
            log_level="warning",
            lifespan="on",
            timeout_graceful_shutdown=_SHUTDOWN_TIMEOUT,
        )
        SandboxServer(config).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    if host != "localhost" and not host.startswith("127.") and host != "::1":
        raise click.BadParameter("the sandbox listens on loopback only", param_hint="--host")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise click.BadParameter(
            f"cannot listen on {host}:{port}: {error.strerror}; --port 0 picks a free port", param_hint="--port"
        ) from error
    listener.listen(_BACKLOG)
    return listener


def _startup_message(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    base = f"http://{shown}:{port}"
    return "\n".join(
        (
            f"The stand-in provider (sandbox) listens on {base}",
            f"  vtrix: BOOMERANG_PROVIDER=vtrix BOOMERANG_UPSTREAM_URL={base} BOOMERANG_UPSTREAM_KEY=any",
            f"  vidu:  BOOMERANG_PROVIDER=vidu BOOMERANG_UPSTREAM_URL={base}/ent/v2 BOOMERANG_UPSTREAM_KEY=any",
            f"  bills: {base}/sandbox/ledger   switches: {base}/sandbox/switches",
        )
    )
