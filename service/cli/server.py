"""The commands of the operator: serve, worker, migrate, reconcile, secret."""

import gc
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import anyio
import click

from service.cli.lean_imports import import_without_terminal_libraries
from service.domain.webhook_secrets import derive_webhook_secret

if TYPE_CHECKING:
    from service.runtime.config.settings import Settings
    from service.runtime.config.variables import Check

CommandFunction = Callable[..., None]
Role = Literal["all", "web", "worker"]
DOTENV = Path(".env")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")

host_option = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="Listen address; BOOMERANG_API_KEYS is required unless it is loopback.",
)


def port_option(default: str) -> Callable[[CommandFunction], CommandFunction]:
    """Return the option --port; its help describes the default with the text `default`."""
    text = f"Listen port; 0 picks a free port. Default: {default}."
    return click.option("--port", type=click.IntRange(0, 65_535), metavar="PORT", help=text)


def operator_settings(*, strict: bool = True, checks: Sequence["Check"] = ()) -> "Settings":
    """Return the settings from the environment and the file `.env`, including those that handlers require.

    Raises BadSetting with every invalid setting and every fault of `checks`, and BadHandler for a handler that cannot
    be loaded if `strict`.
    """
    from service.deliveries.handler_loader import needed_settings  # noqa: PLC0415 - imports every handler
    from service.runtime.config.required_settings import handlers_directory  # noqa: PLC0415 - heavy
    from service.runtime.config.settings import load_settings  # noqa: PLC0415 - heavy
    from service.runtime.config.variables import read_variables  # noqa: PLC0415 - heavy

    own = handlers_directory(read_variables(os.environ, DOTENV))
    needed = needed_settings(own=own, strict=strict)
    return load_settings(os.environ, dotenv=DOTENV, needed=needed, terminal=sys.stderr.isatty(), checks=checks)


@click.command()
@host_option
@port_option("$PORT, else 8080 (role worker: no port)")
@click.option(
    "--role",
    type=click.Choice(["all", "web", "worker"]),
    default="all",
    show_default=True,
    help="Part of the service to run.",
)
def serve(host: str, port: int | None, role: Role) -> None:
    """Run the service.

    The role web serves the API and receives callbacks. The role worker submits, polls and dispatches deliveries. The
    role all does both.
    """
    _run_service(host, port, role)


@click.command()
@host_option
@port_option("$PORT, else no port")
def worker(host: str, port: int | None) -> None:
    """Run only submission, polling and dispatch; with a port, also serve health checks and metrics."""
    _run_service(host, port, "worker")


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    """Collect no garbage inside the block, unless it begins to: what a start imports lives until the end.

    Collections would take a fifth of the time of a start.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@_no_garbage_collection()
def _run_service(host: str, port: int | None, role: Role) -> None:
    import_without_terminal_libraries()
    from service.runtime.config.required_settings import start_checks  # noqa: PLC0415 - heavy
    from service.runtime.output_writer import queue_standard_streams  # noqa: PLC0415 - only a service needs it
    from service.runtime.process import serve as run  # noqa: PLC0415 - heavy

    listens = role != "worker" or port is not None or bool(_platform_port())
    settings = operator_settings(checks=start_checks(host=host if listens else None))
    if port is None and listens:
        port = settings.port
    queue_standard_streams()

    async def start() -> None:
        await run(settings, host=host, port=port, role=role)

    anyio.run(start, backend_options={"use_uvloop": sys.platform != "win32"})


def _platform_port() -> str:
    """Return the text of the port that the environment or the file `.env` gives, empty if none."""
    from service.runtime.config.dotenv import PREFIX  # noqa: PLC0415 - heavy
    from service.runtime.config.variables import read_variables  # noqa: PLC0415 - heavy

    variables = read_variables(os.environ, DOTENV)
    return variables.get(f"{PREFIX}PORT", "").strip() or variables.get("PORT", "").strip()


@click.command()
@json_option
def migrate(as_json: bool) -> None:
    """Upgrade the database to the newest schema. Repeated and concurrent runs are safe."""
    from service.cli.output import print_json, result_console  # noqa: PLC0415 - a service needs no Rich
    from service.runtime.process import migrate_database  # noqa: PLC0415 - heavy

    version = anyio.run(migrate_database, operator_settings())
    if as_json:
        print_json({"schema": version})
    else:
        result_console().print("The database has the newest schema.", soft_wrap=True)


@click.command()
@click.option("--once", is_flag=True, help="Process what is due, then exit (required).")
@json_option
def reconcile(once: bool, as_json: bool) -> None:
    """Submit, poll and dispatch everything that is due once; for cron on platforms that suspend idle services."""
    if not once:
        raise click.UsageError(
            "use `boomerang reconcile --once`; a running service (`boomerang serve`) needs no reconcile"
        )
    from service.cli.output import print_json, result_console  # noqa: PLC0415 - a service needs no Rich
    from service.runtime.config.required_settings import start_checks  # noqa: PLC0415 - heavy
    from service.runtime.process import reconcile_once  # noqa: PLC0415 - heavy

    settings = operator_settings(checks=start_checks(host=None))
    counts = anyio.run(reconcile_once, settings)
    if as_json:
        print_json(counts)
    else:
        text = ", ".join(f"{name} {count}" for name, count in counts.items())
        result_console().print(text or "Nothing was due.", soft_wrap=True)


@click.command()
@click.option("--webhook", is_flag=True, help="Print a new secret for BOOMERANG_WEBHOOK_SECRETS or a notify entry.")
@click.option("--client", metavar="NAME", help="Print the secret that signs the webhooks of this client now.")
@click.option("--show", is_flag=True, help="Print the secret that signs now: of --client, else that of WEBHOOK_URL.")
@json_option
def secret(webhook: bool, client: str | None, show: bool, as_json: bool) -> None:
    """Print a new signing key for BOOMERANG_SECRET_KEYS, or a webhook secret.

    To replace a signing key, set SECRET_KEYS=new,old and restart the processes in any order; remove the old key the
    same way once the tasks that it signed have ended.
    """
    from service.runtime.config.key_file import generate_key  # noqa: PLC0415 - heavy

    if webhook and (show or client is not None):
        raise click.UsageError("--webhook makes a new secret; --client and --show print the one that signs now")
    if show or client is not None:
        _show_secrets(client, as_json=as_json)
        return
    key = generate_key()
    value, name = (derive_webhook_secret(key), "secret") if webhook else (key, "key")
    _print_secret({name: value}, value, as_json=as_json)


def _print_secret(document: Mapping[str, object], text: str, *, as_json: bool) -> None:
    """Print a secret on standard output, alone or as JSON."""
    from service.cli.output import print_json  # noqa: PLC0415 - a service needs no Rich

    print_json(document) if as_json else click.echo(text)


def _show_secrets(client: str | None, *, as_json: bool) -> None:
    """Print the newest secret that signs, as JSON all; report on standard error what else the reader must know."""
    from service.runtime.config.required_settings import ensure_secret_keys  # noqa: PLC0415 - heavy
    from service.runtime.config.setting_parsers import database_file  # noqa: PLC0415 - heavy
    from service.runtime.handler_settings import client_secrets  # noqa: PLC0415 - heavy

    given = operator_settings()
    file = Path(f"{database_file(given.database_url)}.key")
    made = not given.secret_keys and not file.exists()
    settings = ensure_secret_keys(given)
    found = client_secrets(settings).for_client(client) if client is not None else settings.webhook_secrets
    _print_secret({"secret": found[0], "older": list(found[1:])}, found[0], as_json=as_json)
    if len(found) > 1:
        count = len(found) - 1
        others = "1 more secret signs" if count == 1 else f"{count} more secrets sign"
        click.echo(f"{others} beside it: older keys and the shared secret, see handlers/README.md", err=True)
    if made:
        click.echo(f"{file} was not there and is made now; a service elsewhere has another key", err=True)
    names = sorted({key.name for key in settings.api_keys})
    if client is not None and names and client not in names:
        click.echo(f"BOOMERANG_API_KEYS has no client {client!r} here; it names {', '.join(names)}", err=True)
