"""Passes the chunks of one upload from the task that reads them to the one that sends them."""

import asyncio
from collections.abc import AsyncIterator


class UploadAborted(Exception):
    """The source of an upload ended early: raised inside the upload, which aborts it."""


class UploadFeed:
    """A queue of one chunk, so that the source waits for the store.

    The uploading library is never cancelled: it would leave the parts that it has sent. `abort` makes its source fail.
    """

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes | None] = asyncio.Queue(1)
        self._closed = False
        self._aborted = asyncio.Event()

    async def put(self, chunk: bytes) -> bool:
        """Pass a chunk on; return False once the upload has ended."""
        if not self._closed:
            await self._queue.put(chunk)
        return not self._closed

    async def end(self) -> None:
        """Pass on that all chunks came."""
        if not self._closed:
            await self._queue.put(None)

    def close(self) -> None:
        """Take what waits out of the queue: the upload has ended, and nobody reads it any more."""
        self._closed = True
        while not self._queue.empty():
            self._queue.get_nowait()

    def abort(self) -> None:
        """Make the upload fail, which removes its parts."""
        self._aborted.set()

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the chunks; raises UploadAborted after `abort`."""
        aborted = asyncio.ensure_future(self._aborted.wait())
        try:
            while True:
                getting = asyncio.ensure_future(self._queue.get())
                await asyncio.wait({getting, aborted}, return_when=asyncio.FIRST_COMPLETED)
                if self._aborted.is_set():
                    getting.cancel()
                    raise UploadAborted
                if (chunk := getting.result()) is None:
                    return
                yield chunk
        finally:
            aborted.cancel()
