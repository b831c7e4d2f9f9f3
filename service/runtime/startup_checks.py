"""Look at the start at where results and events are to go: else the first paid result would find out."""

import errno
from collections.abc import Collection
from pathlib import Path
from tempfile import TemporaryFile

import httpx
import structlog
from anyio.to_thread import run_sync

from service.deliveries.egress import USUAL_PORTS, Egress, EgressRefused, literal_addresses
from service.domain.errors import BadSetting
from service.runtime.config.setting_types import archive_directory
from service.runtime.config.settings import Settings

TRANSIENT_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EINTR, errno.ETIMEDOUT})
"""What may keep a disk from being written to for a while: no reason not to start, since deliveries are tried again."""

LOOPBACK = "127.0.0.1"

log = structlog.get_logger("boomerang")


async def check_delivery_targets(settings: Settings, handlers: Collection[str]) -> None:
    """Look at the places that the loaded `handlers` bring things to; raises BadSetting for one that cannot be right."""
    if settings.webhook_url and "webhook" in handlers:
        check_webhook(settings.webhook_url, settings.egress_allow)
    if settings.archive_url and "archive" in handlers:
        await run_sync(check_archive, archive_directory(settings.archive_url))


def check_webhook(url: str, allow: Collection[str]) -> None:
    """Refuse an address that the egress guard refuses whatever it resolves to; a name is resolved at each dial."""
    egress, there = Egress(allow), httpx.URL(url)
    try:
        for address in [LOOPBACK] if there.host == "localhost" else literal_addresses(there.host):
            egress.check(there.host, there.port or USUAL_PORTS[there.scheme], address)
    except EgressRefused:
        raise BadSetting(
            "BOOMERANG_WEBHOOK_URL leads to an address that is not public; no event is sent there unless "
            "BOOMERANG_EGRESS_ALLOW names its host or network"
        ) from None


def check_archive(folder: Path) -> None:
    """Make the directory where it is missing, and write to it; a disk that is only full is told, and no fault."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass
    except OSError as error:
        if error.errno in TRANSIENT_ERRORS:
            log.warning("archive cannot be written", setting="BOOMERANG_ARCHIVE_URL", why=error.strerror)
            return
        raise BadSetting(
            f"BOOMERANG_ARCHIVE_URL must name a directory that can be written: {error.strerror}; "
            "make it and give it to the user that Boomerang runs as, or name another"
        ) from None
