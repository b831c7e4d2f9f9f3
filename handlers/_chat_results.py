"""A result on its way to a chat: its file where the platform takes it, else a link. Shared by the chat handlers."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import IO, Any

import httpx

from service import Content, NotFound, Reject, Retry, TaskView, Tools, UpstreamError

from ._chat_media import TooLarge, spooled
from ._chat_words import link_text

ATTEMPTS_OF_CONTENT = 3
"""From this attempt on, the provider's address is sent where its file cannot be read."""

BYTES_PER_SECOND = 100_000
STEP_TIME = 60.0
"""The slowest upload that is waited for, and further seconds for each."""

LINK_FOR = timedelta(days=7)
CONTENT_ERRORS = (Reject, Retry, NotFound, UpstreamError, httpx.HTTPError)
"""What reading a content raises."""

NO_ADDRESS = "the platform does not take the result, and there is no address of it; set PUBLIC_URL"


class Unavailable(Exception):
    """The content of a result could not be read; `reason` is the reason."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """One result of a task, the one at `index` of its output."""

    task: TaskView
    index: int

    @property
    def url(self) -> str:
        """Return its address at the provider, empty without one."""
        return str(self.task.output[self.index].get("url") or "")

    @property
    def stored(self) -> bool:
        """Return whether its file is stored."""
        return bool(self.task.output[self.index].get("archived_url"))


@dataclass(frozen=True, kw_only=True)
class Result(TaskResult):
    """One result of a task, and the key of the chat to which it goes."""

    chat: str

    @property
    def key(self) -> str:
        """Return the key under which it is remembered that it was sent."""
        return f"sent/{self.task.id}/{self.index}/{self.chat}"


@asynccontextmanager
async def opened(result: TaskResult, tools: Tools[Any, Any], *, max_bytes: int) -> AsyncIterator[Content]:
    """Open the content of a result. Raises TooLarge with a link, Unavailable for what happens before its first byte."""
    async with AsyncExitStack() as stack:
        try:
            content = await stack.enter_async_context(tools.content(result.task, result.index))
        except CONTENT_ERRORS as error:
            raise Unavailable(error) from error
        if content.size is not None and content.size > max_bytes:
            raise TooLarge(content.size, content.link(LINK_FOR))
        yield content


@asynccontextmanager
async def content_file(content: Content, *, max_bytes: int) -> AsyncIterator[tuple[IO[bytes], int]]:
    """Yield a temporary file with the content, and its size. Raises TooLarge with a link, Unavailable."""
    async with AsyncExitStack() as stack:
        spool = spooled(content.chunks, max_bytes=max_bytes, link=content.link(LINK_FOR))
        try:
            found = await stack.enter_async_context(spool)
        except CONTENT_ERRORS as error:
            raise Unavailable(error) from error
        yield found


@asynccontextmanager
async def upload_time(size: int) -> AsyncIterator[None]:
    """Limit the block to the time that an upload of so many bytes may take; raises Retry after it."""
    try:
        async with asyncio.timeout(STEP_TIME + size / BYTES_PER_SECOND):
            yield
    except TimeoutError:
        raise Retry(f"the upload of {size:,} bytes took too long") from None


async def upload_or_link(
    result: Result, *, upload: Callable[[], Awaitable[None]], send: Callable[[str], Awaitable[None]], attempt: int
) -> None:
    """Upload a result; send a link where it is too large, or cannot be read. Raises Retry, Reject."""
    try:
        await upload()
    except TooLarge as error:
        await _send_link(result, error, send)
    except Unavailable as error:
        if not result.url or (attempt < ATTEMPTS_OF_CONTENT and not isinstance(error.reason, Reject)):
            raise error.reason from error
        await _send_link(result, TooLarge(None), send)


async def _send_link(result: Result, reason: TooLarge, send: Callable[[str], Awaitable[None]]) -> None:
    await send(link_message(result, reason))


def link_message(result: TaskResult, reason: TooLarge) -> str:
    """Return the text with the link of `reason`, else the provider's address; raises Reject without either."""
    url = reason.link or result.url
    if not url:
        raise Reject(NO_ADDRESS)
    return link_text(url, reason.size, LINK_FOR.days if reason.link else None)
