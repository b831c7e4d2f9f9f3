"""Check at startup that results and events can be delivered, before the first result is paid for, and warn of risks."""

import errno
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryFile
from urllib.parse import urlsplit

import httpx
import structlog
from anyio.to_thread import run_sync

from service.artifacts.local_archive import FOLDER_MODE
from service.deliveries.egress_clients import EgressSettings
from service.deliveries.egress_policy import DEFAULT_PORTS, EgressRefused
from service.domain.archive_address import FolderAddress, archive_address
from service.domain.errors import BadSetting
from service.domain.hosts import is_loopback
from service.network.addresses import authority, literal_addresses
from service.network.proxies import proxy_rules
from service.runtime.config.settings import Settings
from service.runtime.handler_settings import egress_settings
from service.tasks.media_inspector import missing_extras

TRANSIENT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EINTR, errno.ETIMEDOUT})
"""Errors that can pass by themselves. They do not prevent the start, because deliveries are retried."""

LOOPBACK = "127.0.0.1"

log = structlog.get_logger("boomerang.runtime")


async def check_delivery_targets(settings: Settings, handlers: Collection[str]) -> None:
    """Check the targets of the loaded `handlers`; raises BadSetting for a target that can never work."""
    if settings.webhook_url and "webhook" in handlers:
        check_webhook(settings.webhook_url, egress_settings(settings))
    address = archive_address(settings.archive_url) if settings.archive_url else None
    if isinstance(address, FolderAddress) and "archive" in handlers:
        await run_sync(check_archive, address.folder)


def log_warnings(settings: Settings) -> None:
    """Log which proxies are used, and what works less well or less safely with these settings."""
    if settings.public_url is None:
        log.warning("poll-only: no BOOMERANG_PUBLIC_URL, so no callback address is sent and every task is polled")
    for extra in missing_extras():
        log.warning("inline media are checked by structure only", missing=extra, hint="install the extra `media`")
    if settings.web_concurrency and settings.web_concurrency > 1:  # platforms set it by themselves
        log.info(
            "WEB_CONCURRENCY has no effect: this is one process, which answers all requests concurrently",
            web_concurrency=settings.web_concurrency,
            hint="for more, start `boomerang serve` several times over PostgreSQL",
        )
    rules = proxy_rules(settings.outgoing)
    for scheme, proxy in (("http", rules.http), ("https", rules.https)):
        if proxy:
            log.info("outgoing requests use a proxy", scheme=scheme, proxy=authority(proxy.host, proxy.port))
    provider = urlsplit(settings.upstream_url)
    if settings.upstream_key and provider.scheme == "http" and not is_loopback(provider.hostname or ""):
        log.warning(
            "the provider's key is sent without encryption", setting="BOOMERANG_UPSTREAM_URL", hint="use https://"
        )


def check_webhook(url: str, egress_settings: EgressSettings) -> None:
    """Refuse an address that the egress guard always refuses; a host name is resolved later, for each connection.

    WEBHOOK_URL may name an internal address, but none in EGRESS_DENY. Raises BadSetting.
    """
    egress, target = egress_settings.for_handlers(url), httpx.URL(url)
    try:
        for address in [LOOPBACK] if target.host == "localhost" else literal_addresses(target.host):
            egress.check(target.host, target.port or DEFAULT_PORTS[target.scheme], address)
    except EgressRefused:
        raise BadSetting(
            "BOOMERANG_WEBHOOK_URL leads to an address in a network of BOOMERANG_EGRESS_DENY; no event is sent there"
        ) from None


def check_archive(folder: Path) -> None:
    """Create the directory if it is missing and write to it; a full disk is only logged.

    Raises BadSetting for a directory that cannot be written.
    """
    try:
        folder.mkdir(FOLDER_MODE, parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in TRANSIENT_ERRORS:
            log.warning("archive not writable", setting="BOOMERANG_ARCHIVE_URL", error=error.strerror)
            return
        reason = f"{folder} is a file" if isinstance(error, FileExistsError) else error.strerror
        raise BadSetting(
            f"BOOMERANG_ARCHIVE_URL must name a directory that can be written: {reason}; "
            "make it and give it to the user that Boomerang runs as, or name another"
        ) from None
