"""An archive in an object store, through obstore: Amazon S3 and compatible ones, Google Cloud Storage, Azure."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import anyio
import structlog

from service.artifacts.bucket_errors import names_missing_bucket, plain_errors
from service.artifacts.ports import FileInfo, Method, ReadAt
from service.artifacts.upload_feed import UploadFeed
from service.domain.archive_address import BucketAddress
from service.domain.errors import ArchiveRefused, ArchiveUnavailable

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, S3Store

READ_SIZE = 1024**2
"""Bytes of one request for a part of a file: the memory of one reader, however slow it is."""

PART_SIZE = 5 * 1024**2
PARTS_AT_ONCE = 2
"""Parts of a multipart upload, the smallest that S3 takes: an upload holds three of them in memory."""

PROBE_NAME = "boomerang-doctor"
NO_VERSION = '"boomerang-doctor"'
"""The name and the version of an object that does not exist, for a write that the store must refuse."""

ABORT_SECONDS = 4.0
"""How long an upload that is cancelled may take to abort."""

log = structlog.get_logger("boomerang.artifacts")


class BucketArchive:
    """Implements `Archive`; `signs` is whether it signs addresses."""

    def __init__(self, address: BucketAddress, store: "S3Store | GCSStore | AzureStore", *, signs: bool = True) -> None:
        self.address = address
        self._store = store
        self._signs = signs

    def url_of(self, name: str) -> str:
        """Return the address of the file `name`."""
        return self.address.url_of(name)

    async def info(self, name: str) -> FileInfo | None:
        """Return length and version of an object, None if there is none."""
        import obstore  # noqa: PLC0415 - an extra

        try:
            with plain_errors(self.address):
                found = await obstore.head_async(self._store, name)
        except FileNotFoundError:
            return None
        return FileInfo(bytes=found["size"], version=str(found["e_tag"] or found["last_modified"].timestamp()))

    async def size_of(self, name: str) -> int | None:
        """Return the length of an object; None also where the credentials may not see whether there is one.

        S3 answers 403 in place of 404 to credentials that may not list the bucket.
        """
        try:
            found = await self.info(name)
        except ArchiveRefused:
            return None
        return found.bytes if found else None

    async def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes from `start` up to `stop`, one request for each part: a slow reader keeps none open."""
        import obstore  # noqa: PLC0415 - an extra

        try:
            while start < stop:
                end = min(start + READ_SIZE, stop)
                with plain_errors(self.address):
                    data = bytes(await obstore.get_range_async(self._store, name, start=start, end=end))
                if len(data) != end - start:
                    raise ArchiveUnavailable("the stored file has become shorter")
                start = end
                yield data
        except FileNotFoundError:
            raise ArchiveUnavailable("the stored file is no longer there") from None

    @contextmanager
    def blocking_reader(self, name: str) -> Iterator[ReadAt]:
        """Open the object `name` for a thread."""
        import obstore  # noqa: PLC0415 - an extra

        def read_at(start: int, stop: int) -> bytes:
            with plain_errors(self.address):
                return bytes(obstore.get_range(self._store, name, start=start, end=stop)) if start < stop else b""

        yield read_at

    async def write(self, name: str, chunks: AsyncIterator[bytes], media_type: str) -> None:
        """Upload `chunks` in parts while they arrive. Nothing is visible, and no part remains, unless all came.

        What is smaller than one part is sent at once. An error of `chunks` and a cancellation abort the upload. Raises
        ArchiveRefused and ArchiveUnavailable.
        """
        first = bytearray()
        async for chunk in chunks:
            first += chunk
            if len(first) >= PART_SIZE:
                break
        else:
            await self._put(name, bytes(first), media_type)
            return
        feed = UploadFeed()
        upload = asyncio.create_task(self._put(name, feed.chunks(), media_type), name="archive upload")
        upload.add_done_callback(lambda _: feed.close())
        try:
            await feed.put(bytes(first))
            first.clear()
            async for chunk in chunks:
                if not await feed.put(chunk):
                    break
            else:
                await feed.end()
            await asyncio.shield(upload)
        except BaseException:
            feed.abort()
            await _ended(upload)
            raise

    async def _put(self, name: str, data: bytes | AsyncIterator[bytes], media_type: str) -> None:
        import obstore  # noqa: PLC0415 - an extra

        with plain_errors(self.address, writing=True):
            await obstore.put_async(
                self._store,
                name,
                data,
                attributes={"Content-Type": media_type, "Content-Disposition": f'inline; filename="{name}"'},
                chunk_size=PART_SIZE,
                max_concurrency=PARTS_AT_ONCE,
            )

    async def write_small(self, name: str, data: bytes, media_type: str) -> None:
        """Store a small object, in place of one with this name."""
        await self._put(name, data, media_type)

    async def check_writable(self) -> None:
        """Try a write that the store must refuse, since no object has that version: nothing is stored.

        Raises ArchiveRefused and ArchiveUnavailable if it is refused for another reason.
        """
        import obstore  # noqa: PLC0415 - an extra
        from obstore.exceptions import PreconditionError  # noqa: PLC0415 - an extra

        with plain_errors(self.address, writing=True):
            try:
                await obstore.put_async(self._store, PROBE_NAME, b"", mode={"e_tag": NO_VERSION, "version": "1"})
            except PreconditionError as error:
                if not names_missing_bucket(error):
                    return
                raise
        await self.delete([PROBE_NAME])  # a store that knows no conditions

    async def delete(self, names: Collection[str]) -> None:
        """Delete these objects; those that do not exist are no error."""
        import obstore  # noqa: PLC0415 - an extra

        for name in names:
            try:
                with plain_errors(self.address):
                    await obstore.delete_async(self._store, name)
            except FileNotFoundError:
                continue

    async def sign(self, name: str, method: Method, expires_in: timedelta) -> str | None:
        """Return a signed address; None where the credentials cannot sign."""
        import obstore  # noqa: PLC0415 - an extra

        if not self._signs:
            return None
        try:
            with plain_errors(self.address):
                return await obstore.sign_async(self._store, method, name, expires_in)
        except (ArchiveRefused, ArchiveUnavailable) as error:
            log.debug("address not signed", error=str(error))
            return None


async def _ended(upload: "asyncio.Task[None]") -> None:
    """Wait until an upload has aborted, whatever cancels the caller meanwhile; end it after ABORT_SECONDS."""
    end = asyncio.get_running_loop().time() + ABORT_SECONDS
    with anyio.CancelScope(shield=True):
        while not upload.done() and (left := end - asyncio.get_running_loop().time()) > 0:
            with suppress(asyncio.CancelledError):  # the caller raises it again
                await asyncio.wait({upload}, timeout=left)
    if not upload.done():
        upload.cancel()
    elif not upload.cancelled():
        upload.exception()  # is read, so that no warning follows
