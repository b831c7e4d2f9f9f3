"""The command `boomerang setup`: register a bot at its chat platform."""

from collections.abc import AsyncIterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import anyio
import click

from service.cli.output import print_json
from service.cli.server import operator_settings
from service.domain.errors import BadSetting

if TYPE_CHECKING:
    import httpx

    from service.deliveries.handler_api import Handler
    from service.runtime.config.settings import Settings

PLATFORMS = ("discord", "slack", "telegram")
"""Handlers with a module `handlers/_NAME_setup.py` whose function `setup` registers their bot.

A module with `WITHOUT_SETTINGS` says itself which settings are missing.
"""


class PlatformSetup(Protocol):
    """Registers a bot at its platform, and yields a line for each thing that it did or, with `dry_run`, would do."""

    def __call__(
        self, config: Any, http: "httpx.AsyncClient", *, public_url: str, remove: bool, dry_run: bool
    ) -> AsyncIterator[str]:
        """Yield the lines; raises Reject or Retry with what to fix. `public_url` is empty where there is none."""


@click.command()
@click.argument("platform", type=click.Choice(PLATFORMS))
@click.option("--dry-run", is_flag=True, help="Print what would be registered, and send nothing.")
@click.option("--remove", is_flag=True, help="Remove what this command registered.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
def setup(platform: str, dry_run: bool, remove: bool, as_json: bool) -> None:
    """Register the webhook and the commands of a chat bot, so that its platform sends messages to this service.

    For slack it prints the manifest of the app instead, which registers them.

    It needs BOOMERANG_PUBLIC_URL and the settings of the handler (see handlers/README.md). Run it again after one of
    them has changed.
    """
    settings = operator_settings()
    handler = _handler(platform, settings)
    lines: list[str] = []

    async def run() -> None:
        async for line in _lines(platform, handler, settings, dry_run=dry_run, remove=remove):
            lines.append(line)
            if not as_json:
                click.echo(line)

    anyio.run(run)
    if as_json:
        print_json({"platform": platform, "dry_run": dry_run, "lines": lines})


def _handler(platform: str, settings: "Settings") -> "Handler":
    """Return the handler of a platform; raises BadSetting for a setting that it lacks."""
    from service.deliveries.handler_loader import discover, missing_settings  # noqa: PLC0415 - imports every handler

    handler = discover(own=settings.present.get("HANDLERS_DIR"))[platform]
    missing = missing_settings(handler, settings.present)
    module = import_module(f"handlers._{platform}_setup")
    if missing and not getattr(module, "WITHOUT_SETTINGS", False):
        raise BadSetting(f"boomerang setup {platform} needs {missing}")
    return handler


async def _lines(
    platform: str, handler: "Handler", settings: "Settings", *, dry_run: bool, remove: bool
) -> AsyncIterator[str]:
    """Yield what the module of the platform does."""
    from service.deliveries.declared_settings import read_config  # noqa: PLC0415 - heavy
    from service.deliveries.egress_clients import open_egress_clients  # noqa: PLC0415 - heavy
    from service.network.transport import outgoing  # noqa: PLC0415 - heavy
    from service.runtime.handler_settings import egress_settings  # noqa: PLC0415 - heavy

    run: PlatformSetup = import_module(f"handlers._{platform}_setup").setup
    config = read_config(handler.settings, settings.present) if handler.settings else None
    async with open_egress_clients(egress_settings(settings), outgoing(settings.outgoing)) as clients:
        http = clients.client_for(handler, {})
        async for line in run(config, http, public_url=settings.public_url or "", remove=remove, dry_run=dry_run):
            yield line
