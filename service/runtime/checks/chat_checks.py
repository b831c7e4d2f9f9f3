"""Check of the chat platforms: whether the webhook of each configured bot still leads to this service."""

from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Protocol

from service.deliveries.declared_settings import read_config
from service.deliveries.egress_clients import open_egress_clients
from service.deliveries.handler_api import Handler
from service.deliveries.handler_loader import missing_settings, survey
from service.domain.errors import Reject, Retry
from service.network.transport import outgoing
from service.runtime.checks.finding import Finding, Installation, fault, ok, skipped
from service.runtime.handler_settings import egress_settings

if TYPE_CHECKING:
    import httpx


class PlatformCheck(Protocol):
    """Asks a platform where it sends messages: `check` in a module `handlers/_NAME_setup.py`."""

    async def __call__(self, config: Any, http: "httpx.AsyncClient", *, public_url: str) -> str | None:
        """Return what is wrong and its fix in one line, None if all is well. Raises Reject and Retry."""


async def check_chats(at: Installation) -> Sequence[Finding]:
    """Check the bot of each loaded handler that has one."""
    found = survey(own=at.settings.present.get("HANDLERS_DIR")).handlers
    loaded = {str(row["name"]) for row in at.handlers if row["loaded"]}
    checks = {name: check for name in sorted(loaded & found.keys()) if (check := _platform_check(name))}
    return [await _finding(at, found[name], check) for name, check in checks.items()] or [ok("no bot is configured")]


def _platform_check(name: str) -> PlatformCheck | None:
    module = f"handlers._{name.replace('-', '_')}_setup"
    if find_spec(module) is None:
        return None
    check: PlatformCheck | None = getattr(import_module(module), "check", None)
    return check


async def _finding(at: Installation, handler: Handler, check: PlatformCheck) -> Finding:
    settings = at.settings
    if missing := missing_settings(handler, settings.present):
        return skipped(f"{handler.name} needs {missing}")
    config = read_config(handler.settings, settings.present) if handler.settings else None
    async with open_egress_clients(egress_settings(settings), outgoing(settings.outgoing)) as clients:
        try:
            problem = await check(config, clients.client_for(handler, {}), public_url=settings.public_url or "")
        except (Reject, Retry) as error:
            return fault(f"{handler.name} could not be checked: {error}", f"check the settings of {handler.name}")
    if problem is None:
        return ok(f"{handler.name} sends messages to this service")
    text, _, fix = problem.partition("; ")
    return fault(f"{handler.name}: {text}", fix or f"run `boomerang setup {handler.name}`")
