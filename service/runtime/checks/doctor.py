"""Runs the checks of an installation one after another."""

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from service.deliveries import handler_loader
from service.domain.errors import BadSetting, BoomerangError
from service.network.transport import outgoing
from service.runtime.checks.archive_check import check_archive_writable
from service.runtime.checks.chat_checks import check_chats
from service.runtime.checks.database_checks import check_database, check_notifications
from service.runtime.checks.finding import Finding, Installation, InstallationCheck, fault, ok, skipped
from service.runtime.checks.handler_checks import check_handlers
from service.runtime.checks.process_checks import check_processes, check_wake_up
from service.runtime.checks.provider_checks import check_provider
from service.runtime.checks.public_address import check_public_address
from service.runtime.checks.valid_settings import ReadSettings, read_valid_settings, stored_keys
from service.runtime.system import SystemClock

CHECK_SECONDS = 30.0
"""Seconds that one check may take."""

DATABASE = frozenset({"database_url", "database_listen_url"})
ARCHIVE = frozenset({"archive_url", "archive_endpoint", "archive_access_key", "archive_secret_key", "archive_region"})

CHECKS = (
    InstallationCheck(name="database", run=check_database, needs=DATABASE),
    InstallationCheck(name="notifications", run=check_notifications, needs=DATABASE),
    InstallationCheck(name="processes", run=check_processes, needs=DATABASE),
    InstallationCheck(name="wake-up", run=check_wake_up, needs=DATABASE | {"serverless"}),
    InstallationCheck(name="provider", run=check_provider, needs=frozenset({"provider", "upstream_url"})),
    InstallationCheck(name="public address", run=check_public_address, needs=frozenset({"public_url"})),
    InstallationCheck(name="archive", run=check_archive_writable, needs=ARCHIVE),
    InstallationCheck(name="handlers", run=check_handlers),
    InstallationCheck(name="chats", run=check_chats, needs=frozenset({"public_url", "handlers"})),
)


async def examine(
    environ: Mapping[str, str], dotenv: Path, *, host: str, port: int | None, names: Collection[str] = ()
) -> AsyncIterator[tuple[str, Finding]]:
    """Yield the name of each check with each of its findings; `host` and `port` are where the service listens.

    `port` None is that of the settings. With `names`, only these checks of CHECKS are made.
    """
    try:
        read = read_valid_settings(environ, dotenv, host=host)
    except BoomerangError as error:
        for line in str(error).splitlines():
            yield "settings", fault(line, "correct it; the other checks need the settings")
        return
    for finding in read.findings or [ok("all settings are valid")]:
        yield "settings", finding
    keys, finding = _keys(read)
    yield "signing keys", finding
    at = _installation(read, keys, host, read.settings.port if port is None else port)
    for check in [each for each in CHECKS if not names or each.name in names]:
        for finding in await _findings(check, at, read.invalid):
            yield check.name, finding


def _keys(read: ReadSettings) -> tuple[Sequence[str], Finding]:
    try:
        keys = stored_keys(read.settings)
    except BadSetting as error:
        text, _, fix = str(error).partition("; ")
        return (), fault(text, fix or "make the file readable, or set BOOMERANG_SECRET_KEYS")
    if keys:
        return keys, ok(f"{len(keys)} signing {'key' if len(keys) == 1 else 'keys'}")
    if read.settings.database_url.startswith("postgresql:"):
        return (), fault("there is none", "run `boomerang secret`, and set BOOMERANG_SECRET_KEYS to what it prints")
    return (), ok("none yet; the service makes one beside the SQLite file at its start")


def _installation(read: ReadSettings, keys: Sequence[str], host: str, port: int) -> Installation:
    settings = read.settings
    return Installation(
        settings=settings,
        keys=keys,
        network=outgoing(settings.outgoing),
        clock=SystemClock(),
        host=host,
        port=port,
        variables=read.variables,
        handlers=[asdict(row) for row in handler_loader.list_handlers(settings.handlers, settings.present)],
    )


async def _findings(check: InstallationCheck, at: Installation, invalid: frozenset[str]) -> Sequence[Finding]:
    if wrong := sorted(check.needs & invalid):
        return [skipped(f"not checked, because BOOMERANG_{wrong[0].upper()} is invalid")]
    try:
        async with asyncio.timeout(CHECK_SECONDS):
            return await check.run(at)
    except TimeoutError:
        return [fault(f"the check did not end within {CHECK_SECONDS:.0f} s", "try again; something does not answer")]
    except BoomerangError as error:
        return [fault(str(error), "see the message")]
    except OSError as error:
        return [fault(f"the check failed: {error.strerror or os.strerror(error.errno or 0)}", "see the message")]
