"""Checks of the settings of the archive, which concern several of them."""

from typing import TYPE_CHECKING

from service.artifacts.bucket_options import missing_extra
from service.domain.archive_address import BucketAddress, archive_address
from service.runtime.config.dotenv import PREFIX

if TYPE_CHECKING:
    from service.runtime.config.settings import Settings


def archive_faults(settings: "Settings") -> list[str]:
    """Return a line for each fault of the archive's settings that concerns several of them."""
    address = archive_address(settings.archive_url) if settings.archive_url else None
    if not isinstance(address, BucketAddress):
        return []
    faults = []
    if fault := missing_extra(address):
        faults.append(f"{PREFIX}ARCHIVE_URL {fault}")
    if (settings.archive_access_key is None) != (settings.archive_secret_key is None):
        faults.append(f"{PREFIX}ARCHIVE_ACCESS_KEY and {PREFIX}ARCHIVE_SECRET_KEY belong together: set both or none")
    endpoint = settings.archive_endpoint or ""
    if endpoint.startswith("http://") and not settings.archive_allow_http:
        faults.append(
            f"{PREFIX}ARCHIVE_ENDPOINT is http, which sends results without encryption: give an https address, or set "
            f"{PREFIX}ARCHIVE_ALLOW_HTTP=true"
        )
    return faults
