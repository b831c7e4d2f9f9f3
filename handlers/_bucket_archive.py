"""Stores results in an object store: the response of the provider is uploaded while it arrives.

An object is visible only when it is complete: what is wrong with a file ends its upload, and no parts of it remain.
"""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass

from service import ObjectArchive, Retry, Tools

from ._file_types import FILE_TYPES, FileType
from ._responses import open_result
from ._result_files import ResultBody, ResultFile, StoredFile
from ._stream_checks import StreamCheck, stream_check


@dataclass(frozen=True)
class BucketArchive:
    """The bucket behind `store`."""

    store: ObjectArchive

    async def existing(self, result: ResultFile) -> StoredFile | None:
        """Return the complete object that an earlier run stored, or None. It is read for its SHA-256."""
        for file_type in FILE_TYPES:
            if result.allows(file_type):
                size = await self.store.size_of(result.name(file_type))
                if size and (stored := await self._checked(result, file_type, size)):
                    return stored
        return None

    async def download(self, url: str, result: ResultFile, tools: Tools) -> StoredFile:
        """Upload the file at `url`; raises Reject, Retry, UrlExpired or the errors of the store."""
        async with open_result(url, tools) as response:
            body = ResultBody(result)
            parts = body.parts(response)
            first = []
            async for part in parts:
                first.append(part)
                if body.file_type:
                    break
            file_type = body.identified()
            name = result.name(file_type)
            await self.store.write(name, _verified(first, parts, stream_check(file_type)), file_type.media_type)
        return StoredFile(url=self.store.url_of(name), file_type=file_type, bytes=body.length, sha256=body.sha256)

    async def _checked(self, result: ResultFile, file_type: FileType, size: int) -> StoredFile | None:
        name, check, digest = result.name(file_type), stream_check(file_type), hashlib.sha256()
        async for part in self.store.read(name, 0, size):
            check.feed(part)
            digest.update(part)
        if check.corruption():
            return None
        return StoredFile(url=self.store.url_of(name), file_type=file_type, bytes=size, sha256=digest.hexdigest())


async def _verified(first: list[bytes], rest: AsyncIterator[bytes], check: StreamCheck) -> AsyncIterator[bytes]:
    """Yield the parts of a file; raises Retry after the last one if the file is not complete."""
    for part in first:
        check.feed(part)
        yield part
    async for part in rest:
        check.feed(part)
        yield part
    if corruption := check.corruption():
        raise Retry(f"the result is not what it claims to be: {corruption}")
