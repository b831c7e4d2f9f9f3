"""The public API of handlers for the files of results: what they read, and the object store that they may write to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Protocol

from service.domain.errors import Reject
from service.domain.task_view import TaskView

MAX_CONTENT = 2 * 1024**3
"""Bytes of a result that are read at most."""


async def _no_poster() -> bytes | None:
    return None


@dataclass(frozen=True, kw_only=True)
class Content:
    """The bytes of one result of a task: of the stored file or, while nothing is stored, from the provider's address.

    `chunks` yields them once, in parts of at most 1 MiB, as fast as they are taken. `name` is a safe file name. `size`
    is in bytes, None where the provider does not send it. `sha256` in hexadecimal is None where it was not recorded.
    `stored` is whether it is the stored file.
    """

    name: str
    media_type: str
    size: int | None
    sha256: str | None
    stored: bool
    chunks: AsyncIterator[bytes] = field(repr=False, compare=False)
    make_poster: Callable[[], Awaitable[bytes | None]] = field(default=_no_poster, repr=False, compare=False)
    make_link: Callable[[timedelta], str | None] = field(default=lambda _: None, repr=False, compare=False)

    async def poster(self) -> bytes | None:
        """Return a picture of the stored file: a JPEG of at most 320 pixels a side and less than 200 kB.

        It is made once and stored beside the file. None while nothing is stored, and for a file of which none can be
        made.
        """
        return await self.make_poster()

    def link(self, expires_in: timedelta) -> str | None:
        """Return an address of this content that needs no key until it expires.

        None without PUBLIC_URL, and while nothing is stored.
        """
        return self.make_link(expires_in)


class ContentSource(Protocol):
    """Opens the content of results."""

    def __call__(
        self, task: TaskView, output: int = 0, *, max_bytes: int = MAX_CONTENT
    ) -> AbstractAsyncContextManager[Content]:
        """Open the result at the position `output` of a task inside an `async with` block.

        Raises Reject for a result that does not exist or has more than `max_bytes`, Retry for one that cannot be
        fetched now, also while its chunks are read.
        """


def no_content(
    task: TaskView, output: int = 0, *, max_bytes: int = MAX_CONTENT
) -> AbstractAsyncContextManager[Content]:
    """Raise Reject: tools that no service made have no content."""
    raise Reject(f"there is no content of output {output} of task {task.id} (of at most {max_bytes} bytes) here")


class ObjectArchive(Protocol):
    """The bucket that ARCHIVE_URL names. Its errors follow the schedule of the delivery; they say what to fix."""

    def url_of(self, name: str) -> str:
        """Return the address of the file `name`."""

    async def size_of(self, name: str) -> int | None:
        """Return the length of a file; None if there is none, or the credentials may not see whether there is one."""

    def read(self, name: str, start: int, stop: int) -> AsyncIterator[bytes]:
        """Yield the bytes of a file from `start` up to `stop`."""

    async def write(self, name: str, chunks: AsyncIterator[bytes], media_type: str) -> None:
        """Store a file while its chunks arrive; an error of them ends the upload, and nothing of it remains."""
