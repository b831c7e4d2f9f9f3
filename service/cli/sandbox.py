"""Run the stand-in upstream alone: `boomerang sandbox`."""

import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from random import Random
from typing import Any

import click
import uvicorn

from service.sandbox import MediaExtraMissing, Sandbox, SwitchError, Switches
from service.sandbox.switches import Switch, switch_table

UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
"""The units of a duration in seconds, the longest first."""

_WRONG_USE = 2
_BACKLOG = 2048
_GRACE = 3


class _Grouped(click.Command):
    """Show the options under the headings of their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, group by group."""
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
    """Read a switch's value as its JSON form is read."""

    def __init__(self, switch: Switch) -> None:
        self.name = _metavar(switch)
        self._switch = switch

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the value in its one form, or stop with a usage error."""
        try:
            return self._switch.read(value)
        except SwitchError as fault:
            self.fail(str(fault), param, ctx)


def _metavar(switch: Switch) -> str:
    named: dict[object, str] = {int: "count", str: "text", float: "duration"}
    return named.get(switch.kind, "range" if "tuple" in str(switch.kind) else "chance")


def _option(switch: Switch) -> Callable[[click.Command], click.Command]:
    flag = "--" + switch.name.replace("_", "-")
    if switch.kind is bool:
        return click.option(f"{flag}/--no-{flag[2:]}", switch.name, default=switch.default, help=switch.about.text)
    told = "" if switch.default in {0, ""} else f"  [default: {_as_written(switch.default)}]"
    about = switch.about.text + told
    return click.option(flag, switch.name, type=_SwitchValue(switch), default=switch.default, help=about)


def _as_written(default: object) -> str:
    """Return a default as a person writes it: seconds are a float here, and `1d` there."""
    if not isinstance(default, float):
        return str(default)
    unit, length = next(each for each in UNITS.items() if default % each[1] == 0 or each[1] == 1)
    return f"{default / length:g}{unit}"


def _with_switches(command: click.Command) -> click.Command:
    for switch in switch_table().values():
        command = _option(switch)(command)
    return command


@_with_switches
@click.command(cls=_Grouped)
@click.option("--port", type=click.IntRange(0, 65535), default=8099, show_default=True, help="0 takes a free port.")
@click.option("--host", default="127.0.0.1", show_default=True, help="A loopback address.")
@click.option("--seed", type=int, default=None, help="Makes a run repeatable.")
def sandbox(port: int, host: str, seed: int | None, **switches: Any) -> None:
    """Run the stand-in upstream alone: Vtrix- and Vidu-shaped, with real MP4s and every fault as a switch.

    A chance is a probability from 0 to 1, or "first N"; a duration is 500ms, 30s or 2h; a range is 1s..3s. The
    switches can be changed while it runs with POST /sandbox/switches and a JSON object, and GET /sandbox/ledger tells
    what was billed.
    """
    source = Random(seed)  # noqa: S311 - faults need a seed, not secrecy
    try:
        upstream = Sandbox(Switches(**switches), now=lambda: datetime.now(UTC), random=source)
    except MediaExtraMissing as missing:
        click.echo(f"boomerang sandbox: {missing}", err=True)
        raise SystemExit(_WRONG_USE) from missing
    listener = _listener(host, port)
    click.echo(_greeting(*listener.getsockname()[:2]), err=True)
    with listener, suppress(KeyboardInterrupt):
        _server(upstream).run(sockets=[listener])


def _listener(host: str, port: int) -> socket.socket:
    if host != "localhost" and not host.startswith("127.") and host != "::1":
        raise click.BadParameter("the sandbox listens on loopback only", param_hint="--host")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as fault:
        listener.close()
        raise click.BadParameter(
            f"cannot listen on {host}:{port}: {fault.strerror}; --port 0 takes a free one", param_hint="--port"
        ) from fault
    listener.listen(_BACKLOG)
    return listener


def _greeting(host: str, port: int) -> str:
    shown = f"[{host}]" if ":" in host else host
    base = f"http://{shown}:{port}"
    return "\n".join(
        (
            f"The stand-in upstream listens on {base}",
            f"  vtrix: BOOMERANG_PROVIDER=vtrix BOOMERANG_UPSTREAM_URL={base} BOOMERANG_UPSTREAM_KEY=any",
            f"  vidu:  BOOMERANG_PROVIDER=vidu BOOMERANG_UPSTREAM_URL={base}/ent/v2 BOOMERANG_UPSTREAM_KEY=any",
            f"  bills: {base}/sandbox/ledger   switches: {base}/sandbox/switches",
        )
    )


def _server(upstream: Sandbox) -> uvicorn.Server:
    config = uvicorn.Config(
        upstream.app,
        access_log=False,
        log_level="warning",
        lifespan="on",
        timeout_graceful_shutdown=_GRACE,
    )
    return uvicorn.Server(config)
