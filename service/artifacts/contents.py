"""The content of stored results: found by their recorded address, read in parts, with a thumbnail beside them."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from weakref import WeakValueDictionary

import structlog
from anyio import CapacityLimiter
from anyio.to_thread import run_sync

from service.artifacts.ports import Archive, FileInfo, Method
from service.artifacts.thumbnail import MAX_BYTES, make_thumbnail
from service.domain.artifact import StoredContent
from service.domain.errors import ArchiveRefused, ArchiveUnavailable
from service.domain.media.limits import Unreadable
from service.domain.task import Json

MEDIA_TYPES = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "png": "image/png",
    "jpg": "image/jpeg",
    "webp": "image/webp",
}
"""By extension: what the archive stores. Nothing else is served, whatever lies in the archive."""

THUMBNAIL = ".poster.jpg"
THREADS = 2
"""Thumbnails that are made at once."""

log = structlog.get_logger("boomerang.artifacts")


@dataclass(kw_only=True, slots=True)
class Contents:
    """Reads what the archive stores; without an `archive` nothing is found."""

    archive: Archive | None = None
    _threads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(THREADS))
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    async def find(self, item: Json) -> StoredContent | None:
        """Return the stored content of an item of a task's output; None if it is not in the archive.

        Raises ArchiveRefused and ArchiveUnavailable.
        """
        name = self._name_of(item)
        media_type = MEDIA_TYPES.get(name.rpartition(".")[2]) if name else None
        if self.archive is None or name is None or media_type is None or name.endswith(THUMBNAIL):
            return None
        info = await self.archive.info(name)
        return None if info is None else self._content(name, media_type, info, item)

    async def thumbnail(self, content: StoredContent) -> StoredContent:
        """Return the JPEG of a found content; the first call makes and stores it. Raises Unreadable.

        It has at most 320 pixels a side and less than 200 kB.
        """
        name = content.name.rpartition(".")[0] + THUMBNAIL
        async with self._locks.setdefault(name, asyncio.Lock()):
            return await self._stored_thumbnail(name) or await self._new_thumbnail(content, name)

    async def signed_url(self, content: StoredContent, method: Method, expires_in: timedelta) -> str | None:
        """Return an address of the store itself for `content`, None where it signs none."""
        if self.archive is None or not content.stored:
            return None
        return await self.archive.sign(content.name, method, expires_in)

    async def erase(self, task_id: str, output: Sequence[Json]) -> None:
        """Delete the stored files of a task's output, and their thumbnails; raises like `find`.

        A process that was killed may have stored a file without recording it: its name follows from the task.
        """
        names: list[str] = []
        for position, item in enumerate(output):
            if name := self._name_of(item):
                names += (name, name.rpartition(".")[0] + THUMBNAIL)  # no thumbnail is made of a file that is gone
            else:
                stem = task_id if position == 0 else f"{task_id}-{position + 1}"
                names += (f"{stem}.{extension}" for extension in MEDIA_TYPES)
        if self.archive and names:
            await self.archive.delete(names)

    def _name_of(self, item: Json) -> str | None:
        """Return the name of the item's file: its address is our own record, and still has to lie in the archive."""
        url = item.get("archived_url")
        return self.archive.address.name_of(url) if self.archive and isinstance(url, str) else None

    def _content(self, name: str, media_type: str, info: FileInfo, item: Json) -> StoredContent:
        recorded = str(item["sha256"]) if item.get("sha256") and item.get("bytes") == info.bytes else None
        version = recorded or sha256(f"{name} {info.bytes} {info.version}".encode()).hexdigest()
        return StoredContent(
            name=name,
            media_type=media_type,
            size=info.bytes,
            etag=f'"{version[:40]}"',
            sha256=recorded,
            read=lambda start, stop: self._read(name, start, stop),
        )

    async def _read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        if self.archive:
            async for part in self.archive.read(name, start, stop):
                yield part

    async def _stored_thumbnail(self, name: str) -> StoredContent | None:
        info = await self.archive.info(name) if self.archive else None
        return self._content(name, "image/jpeg", info, {}) if info and info.bytes < MAX_BYTES else None

    async def _new_thumbnail(self, content: StoredContent, name: str) -> StoredContent:
        data = await run_sync(self._make, content, limiter=self._threads)
        if self.archive:
            try:
                await self.archive.write_small(name, data, "image/jpeg")
            except (ArchiveRefused, ArchiveUnavailable) as error:
                log.warning("thumbnail not stored", file=name, error=str(error))
            else:
                if await self.archive.info(content.name) is None:  # the task was erased meanwhile
                    await self.archive.delete([name])
                return await self._stored_thumbnail(name) or _in_memory(name, data)
        return _in_memory(name, data)

    def _make(self, content: StoredContent) -> bytes:
        if self.archive is None:
            raise Unreadable("there is no archive")
        with self.archive.blocking_reader(content.name) as read_at:
            return make_thumbnail(read_at, content.size, content.media_type)


def _in_memory(name: str, data: bytes) -> StoredContent:
    digest = sha256(data).hexdigest()

    async def read(start: int, stop: int) -> AsyncIterator[bytes]:
        yield data[start:stop]

    return StoredContent(
        name=name,
        media_type="image/jpeg",
        size=len(data),
        etag=f'"{digest[:40]}"',
        sha256=digest,
        stored=False,
        read=read,
    )
