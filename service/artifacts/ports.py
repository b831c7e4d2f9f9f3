"""What the content of stored results needs of an archive."""

from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

from service.domain.archive_address import ArchiveAddress

ReadAt = Callable[[int, int], bytes]
"""Reads the bytes from a start up to a stop; fewer at the end of the file. Blocks."""

Method = Literal["GET", "HEAD"]


@dataclass(frozen=True, kw_only=True)
class FileInfo:
    """The length of a file in bytes, and a text that changes with its content."""

    bytes: int
    version: str


class Archive(Protocol):
    """An archive. Its methods raise ArchiveRefused and ArchiveUnavailable."""

    @property
    def address(self) -> ArchiveAddress:
        """Where it is."""

    async def info(self, name: str) -> FileInfo | None:
        """Return what is known about the file `name`, None if there is none."""

    def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of the file `name` from `start` up to `stop`, in parts of at most 4 MiB."""

    def blocking_reader(self, name: str) -> AbstractContextManager[ReadAt]:
        """Open the file `name` for a thread."""

    async def write_small(self, name: str, data: bytes, media_type: str) -> None:
        """Store a small file, in place of one with this name."""

    async def delete(self, names: Collection[str]) -> None:
        """Delete these files; those that do not exist are no error."""

    async def sign(self, name: str, method: Method, expires_in: timedelta) -> str | None:
        """Return an address at which anybody can fetch the file until it expires; None where the store signs none."""
