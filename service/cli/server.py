"""The commands of whoever runs the service: serve, worker, migrate, reconcile, handlers, secret."""

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import click

from service.cli import EXIT_FAILED
from service.cli.output import clean, print_json, result_console, show_fields
from service.domain.errors import BadSetting
from service.domain.task import EventType

if TYPE_CHECKING:
    from service.runtime.config.settings import Settings

CommandFunction = Callable[..., None]
Role = Literal["all", "web", "worker"]
DOTENV = Path(".env")

host_option = click.option(
    "--host", default="127.0.0.1", show_default=True, help="Where to listen; any but loopback needs BOOMERANG_API_KEYS."
)


def port_option(default: str) -> Callable[[CommandFunction], CommandFunction]:
    """Return the option --port; `default` says what holds without it."""
    about = f"Where to listen; 0 takes a free one. Default: {default}."
    return click.option("--port", type=click.IntRange(0, 65_535), metavar="PORT", help=about)


def operator_settings(*, strict: bool = True) -> "Settings":
    """Return the settings of the environment and the file `.env`; raises BadSetting with every fault.

    The settings of the handlers that can be found here are known; raises BadHandler for a broken one if `strict`.
    """
    from service.deliveries.handler_loader import needed_settings  # noqa: PLC0415 - imports every handler
    from service.runtime.config.settings import load_settings  # noqa: PLC0415 - only the commands that need it pay for it

    needed = needed_settings(strict=strict)
    return load_settings(os.environ, dotenv=DOTENV, needed=needed, terminal=sys.stderr.isatty())


@click.command()
@host_option
@port_option("$PORT, else 8080, and none for a worker")
@click.option(
    "--role",
    type=click.Choice(["all", "web", "worker"]),
    default="all",
    show_default=True,
    help="Which part of it to run.",
)
def serve(host: str, port: int | None, role: Role) -> None:
    """Run the service: callbacks and API (web), or submitting, polling and dispatching (worker), or all."""
    if role == "worker":
        _run_worker(host, port)
    else:
        settings = operator_settings()
        _run_service(settings, host, settings.port if port is None else port, role)


@click.command()
@host_option
@port_option("$PORT, else none")
def worker(host: str, port: int | None) -> None:
    """Run only the part that submits, polls and dispatches; with a port it also tells its health and metrics."""
    _run_worker(host, port)


def _run_worker(host: str, port: int | None) -> None:
    settings = operator_settings()
    given = settings.port if "PORT" in settings.present else None
    _run_service(settings, host, given if port is None else port, "worker")


def _run_service(settings: "Settings", host: str, port: int | None, role: Role) -> None:
    from service.runtime.config.settings import require_keys_for_host, require_upstream_key  # noqa: PLC0415 - heavy
    from service.runtime.process import serve as run  # noqa: PLC0415 - heavy

    require_upstream_key(settings)
    if port is not None:
        require_keys_for_host(settings, host)

    async def start() -> None:
        await run(settings, host=host, port=port, role=role)

    anyio.run(start, backend_options={"use_uvloop": sys.platform != "win32"})


@click.command()
def migrate() -> None:
    """Bring the database to the newest schema; safe to run twice, and by two at once."""
    from service.runtime.process import migrate_database  # noqa: PLC0415 - heavy

    result_console().print(anyio.run(migrate_database, operator_settings()), soft_wrap=True)


@click.command()
@click.option("--once", is_flag=True, help="Do one round, then exit.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def reconcile(once: bool, as_json: bool) -> None:
    """Do one full round of submit, poll and dispatch for what is due: for cron on platforms that sleep."""
    if not once:
        raise click.UsageError("write `boomerang reconcile --once`; a running service reconciles by itself")
    from service.runtime.config.settings import require_upstream_key  # noqa: PLC0415 - heavy
    from service.runtime.process import reconcile_once  # noqa: PLC0415 - heavy

    settings = operator_settings()
    require_upstream_key(settings)
    done = anyio.run(reconcile_once, settings)
    if as_json:
        print_json(done)
    else:
        told = ", ".join(f"{name} {count}" for name, count in done.items())
        result_console().print(told or "Nothing was due.", soft_wrap=True)


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def handlers(as_json: bool) -> None:
    """Show which handlers are loaded, from where, and for which events. The exit code is 1 when one is broken."""
    from service.runtime.process import list_handlers  # noqa: PLC0415 - heavy

    try:
        settings = operator_settings(strict=False)
    except BadSetting:
        settings = operator_settings()  # a setting may be a broken handler's: that is told, where there is one
    found = list_handlers(settings)
    if as_json:
        print_json(found)
    else:
        for row in found:
            result_console().print(clean(row["name"]))
            show_fields({"  is": _state(row), "  from": row["origin"], "  for": _events(row["events"])})
    if any(row["broken"] for row in found):
        raise click.exceptions.Exit(EXIT_FAILED)


def _state(row: dict[str, object]) -> str:
    if row["broken"]:
        return f"broken: {row['why']}"
    return "loaded" if row["loaded"] else f"not loaded: {row['why']}"


def _events(names: object) -> str:
    found = {str(name) for name in names} if isinstance(names, Iterable) else set()
    return "every event" if found == set(EventType) else ", ".join(sorted(found))


@click.command()
def secret() -> None:
    """Print a fresh signing key, for BOOMERANG_SECRET_KEYS."""
    from service.runtime.config.key_file import generate_key  # noqa: PLC0415 - heavy

    click.echo(generate_key())
