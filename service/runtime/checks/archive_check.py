"""Check of the archive: whether results could be stored. Nothing is."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile

from anyio.to_thread import run_sync

from service.artifacts.bucket_archive import BucketArchive
from service.domain.archive_address import FolderAddress, archive_address
from service.domain.errors import ArchiveRefused, ArchiveUnavailable, BadSetting
from service.runtime.archive import open_archive
from service.runtime.checks.finding import Finding, Installation, fault, ok, warning

NO_ARCHIVE = "no archive is set: results are lost when their addresses at the provider expire"
ARCHIVE_FIX = "set BOOMERANG_ARCHIVE_URL to a directory (file:///srv/videos) or a bucket (s3://bucket/prefix)"
FOLDER_FIX = "give it to the user that Boomerang runs as, or set BOOMERANG_ARCHIVE_URL to another directory"
STORE_FIX = "check BOOMERANG_ARCHIVE_ENDPOINT, the network and BOOMERANG_HTTP_PROXY"


async def check_archive_writable(at: Installation) -> Sequence[Finding]:
    """Check that the directory or the bucket of the archive can be written."""
    url = at.settings.archive_url
    if url is None:
        return [warning(NO_ARCHIVE, ARCHIVE_FIX)]
    address = archive_address(url)
    if isinstance(address, FolderAddress):
        return [await run_sync(_folder, address.folder)]
    try:
        archive = open_archive(at.settings)
        if isinstance(archive, BucketArchive):
            await archive.check_writable()
    except (ArchiveRefused, BadSetting) as error:
        text, _, fix = str(error).partition(": ")
        return [fault(text, fix or STORE_FIX)]
    except ArchiveUnavailable as error:
        return [fault(str(error), STORE_FIX)]
    return [ok(f"{url} accepts the credentials and can be written")]


def _folder(folder: Path) -> Finding:
    """Write a temporary file into the directory, or into the nearest one above it that exists."""
    nearest = next(each for each in (folder, *folder.parents) if each.exists())
    try:
        with TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        return fault(f"the archive {folder} cannot be written: {error.strerror}", FOLDER_FIX)
    made = "" if nearest == folder else ", and is made at the start"
    return ok(f"{folder} can be written{made}")
