"""Opens the content of results for handlers: the stored file, or the provider's address while nothing is stored."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Protocol

import httpx

from service.deliveries.handler_content import MAX_CONTENT, Content
from service.domain.artifact import StoredContent
from service.domain.errors import Reject, Retry
from service.domain.link_tokens import LinkTokens
from service.domain.media.limits import Unreadable
from service.domain.task import Json, TaskId
from service.domain.task_view import TaskView

CHUNK = 256 * 1024
MAX_REDIRECTS = 5
TIMEOUT = 30.0
"""Seconds without a byte of the provider."""
EXPIRED = frozenset({401, 403, 404, 410})
EXTENSIONS = {"video/mp4": "mp4", "video/webm": "webm", "image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}
DEFAULT_TYPES = {"video": "video/mp4", "image": "image/png"}


class StoredContents(Protocol):
    """Reads stored results."""

    async def find(self, item: Json) -> StoredContent | None:
        """Return the stored content of an item of a task's output, None if there is none."""

    async def thumbnail(self, content: StoredContent) -> StoredContent:
        """Return the JPEG of a found content; raises Unreadable if none can be made."""


class LatestResults(Protocol):
    """Reads the output of tasks."""

    async def latest(self, task_id: str) -> list[Json]:
        """Return the recorded output of a task, [] for an unknown one."""

    async def refetch(self, task_id: str) -> list[Json]:
        """Fetch the output from the provider, with fresh URLs; raises UpstreamError."""


class _Expired(Exception):
    """The provider's address no longer serves the result; a fresh one may."""


@dataclass(frozen=True, kw_only=True)
class ContentOpener:
    """Opens contents; `public_url` and `links` make links to them."""

    contents: StoredContents
    results: LatestResults
    links: LinkTokens
    now: Callable[[], datetime]
    public_url: str | None

    def for_client(self, http: httpx.AsyncClient) -> "TaskContent":
        """Return the source of one attempt, which fetches from the provider with `http`."""
        return TaskContent(opener=self, http=http)


@dataclass(frozen=True, kw_only=True)
class TaskContent:
    """Implements `ContentSource` for one attempt."""

    opener: ContentOpener
    http: httpx.AsyncClient

    def __call__(
        self, task: TaskView, output: int = 0, *, max_bytes: int = MAX_CONTENT
    ) -> AbstractAsyncContextManager[Content]:
        """Open the result at the position `output`, which may have been stored since the event."""
        return self._open(task, output, max_bytes)

    @asynccontextmanager
    async def _open(self, task: TaskView, output: int, max_bytes: int) -> AsyncIterator[Content]:
        items = await self.opener.results.latest(task.id) or task.output
        if not 0 <= output < len(items):
            raise Reject(f"the task has {len(items)} outputs, counted from 0")
        stored = await self.opener.contents.find(items[output])
        if stored is None:
            async with self._from_provider(task.id, items[output], output, max_bytes) as content:
                yield content
            return
        if stored.size > max_bytes:
            raise Reject(f"the result has {stored.size} bytes, more than {max_bytes}")
        parts = stored.read(0, stored.size)
        async with aclosing(parts):  # type: ignore[type-var]  # a generator
            yield Content(
                name=stored.name,
                media_type=stored.media_type,
                size=stored.size,
                sha256=stored.sha256,
                stored=True,
                chunks=parts,
                make_poster=lambda: self._poster(stored),
                make_link=lambda expires_in: self._link(task.id, output, expires_in),
            )

    async def _poster(self, stored: StoredContent) -> bytes | None:
        try:
            thumbnail = await self.opener.contents.thumbnail(stored)
        except Unreadable:
            return None
        return b"".join([part async for part in thumbnail.read(0, thumbnail.size)])

    def _link(self, task_id: str, output: int, expires_in: timedelta) -> str | None:
        if self.opener.public_url is None:
            return None
        token = self.opener.links.token(TaskId(task_id), self.opener.now() + expires_in)
        return f"{self.opener.public_url}/links/{token}{f'?output={output}' if output else ''}"

    @asynccontextmanager
    async def _from_provider(self, task_id: str, item: Json, output: int, max_bytes: int) -> AsyncIterator[Content]:
        stem = task_id if output == 0 else f"{task_id}-{output + 1}"
        url = str(item.get("url") or "")
        for fresh in (False, True):
            if fresh:
                items = await self.opener.results.refetch(task_id)
                url = str(items[output].get("url") or "") if output < len(items) else ""
            try:
                async with self._response(url) as response:
                    yield _content(response, stem, str(item.get("type") or ""), max_bytes)
                    return
            except _Expired as error:
                if fresh:
                    raise Retry(f"{error}, and so did a fresh address") from error

    @asynccontextmanager
    async def _response(self, url: str) -> AsyncIterator[httpx.Response]:
        """Open an address; the guard of the client checks each redirect."""
        for _ in range(MAX_REDIRECTS + 1):
            if not url.startswith(("http://", "https://")):
                raise Reject("the result's address is not http or https")
            headers = {"accept-encoding": "identity"}
            async with self.http.stream("GET", url, headers=headers, timeout=TIMEOUT) as response:
                if response.has_redirect_location:
                    url = str(response.url.join(response.headers["location"]))
                    continue
                if response.status_code in EXPIRED:
                    raise _Expired(f"the result's address answered {response.status_code}")
                if response.status_code != HTTPStatus.OK:
                    raise Retry(f"the result's address answered {response.status_code}")
                yield response
                return
        raise Retry(f"the result's address redirects more than {MAX_REDIRECTS} times")


def _content(response: httpx.Response, stem: str, kind: str, max_bytes: int) -> Content:
    declared = response.headers.get("content-length", "")
    encoded = response.headers.get("content-encoding", "identity").lower() != "identity"
    size = int(declared) if not encoded and declared.isascii() and declared.isdigit() else None
    if size is not None and size > max_bytes:
        raise Reject(f"the result has {size} bytes, more than {max_bytes}")
    media_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    media_type = media_type if media_type in EXTENSIONS else DEFAULT_TYPES.get(kind, "application/octet-stream")
    return Content(
        name=f"{stem}.{EXTENSIONS.get(media_type, 'bin')}",
        media_type=media_type,
        size=size,
        sha256=None,
        stored=False,
        chunks=_limited(response, size, max_bytes),
    )


async def _limited(response: httpx.Response, size: int | None, max_bytes: int) -> AsyncIterator[bytes]:
    received = 0
    async for chunk in response.aiter_bytes(CHUNK):
        received += len(chunk)
        if received > max_bytes:
            raise Reject(f"the result has more than {max_bytes} bytes")
        yield chunk
    if size is not None and received != size:
        raise Retry(f"the result was cut off after {received} of {size} bytes")
