"""Shows the events of a task in a channel of Slack, or through an incoming webhook.

A result is uploaded in three steps: Slack gives an address for a file of this length, the bytes are streamed there, and
the file is shared with the channel. Where Slack does not take it, it becomes a link.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from http import HTTPStatus
from typing import Any

import httpx

from service import Content, Reject, Retry, TaskView

from ._chat_media import TooLarge
from ._chat_results import (
    LINK_FOR,
    NO_ADDRESS,
    STEP_TIME,
    Result,
    content_file,
    link_message,
    opened,
    upload_or_link,
    upload_time,
)
from ._chat_words import shorten
from ._slack_api import MAX_TEXT, NoUpload, SlackApi, escaped, pause_of
from ._slack_settings import SlackTools, Target

MB = 1_000_000
KEPT = 86_400.0
UNSHARED = "unshared"
"""The job that checks whether Slack has shared a file, which it does after its answer."""

SHARED_WITHIN = 60.0


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A channel, a thread of it, and the progress message there."""

    target: Target
    api: SlackApi
    tools: SlackTools
    client: str | None = None

    @property
    def id(self) -> str:
        """Return the id of the channel."""
        return str(self.target.channel)

    @property
    def key(self) -> str:
        """Return the key of the channel."""
        return self.id

    @property
    def shown(self) -> str | None:
        """Return the key of the progress message."""
        return f"{self.id}/{self.target.message}" if self.target.message else None

    async def edit(self, text: str, *, final: bool) -> None:  # noqa: ARG002 - as in TaskChat
        """Replace the text of the progress message."""
        await self.api.edit(self.id, str(self.target.message), self._to_person(escaped(text)))

    async def send(self, text: str) -> None:
        """Send a text."""
        await self.api.post(self.id, self._to_person(escaped(text)), thread=self.target.thread)

    async def remove(self) -> None:
        """Delete the progress message."""
        await self.api.delete(self.id, str(self.target.message))

    def _to_person(self, markup: str) -> str:
        return f"<@{self.target.user}> {markup}" if self.target.user else markup

    async def send_result(self, result: Result, *, attempt: int) -> None:
        """Upload a result, else send a link. Raises Retry, Reject."""
        await upload_or_link(result, upload=partial(self._upload, result), send=self.send, attempt=attempt)

    async def _upload(self, result: Result) -> None:
        """Upload and share the content. Raises TooLarge with a link, Unavailable, Retry, Reject."""
        remembered = f"file/{result.key}/{self.tools.message_id}"
        known = await self.tools.state.get(remembered)  # uploaded by an attempt that could not share it
        if known and await self._is_shared(known):
            return
        limit = self.tools.config.slack_max_upload_mb * MB
        async with AsyncExitStack() as stack:
            content = await stack.enter_async_context(opened(result, self.tools, max_bytes=limit))
            link = content.link(LINK_FOR)
            chunks, size = await _sized(content, limit, stack)
            try:
                file_id = await self._send_bytes(content.name, chunks, size)
                await self.tools.state.set(remembered, file_id, expires_in=KEPT)
                await self._share(file_id, content.name)
                await self._check_later(result, file_id)
            except NoUpload as error:
                self.tools.log.warning("%s", error)
                raise TooLarge(size, link) from error

    async def _send_bytes(self, name: str, chunks: AsyncIterator[bytes], size: int) -> str:
        """Stream the bytes to the address that Slack gives for them; return the id of the file."""
        given = await self.api.call("files_getUploadURLExternal", filename=name, length=size)
        address, file_id = str(given.get("upload_url") or ""), str(given.get("file_id") or "")
        if not address or not file_id:
            raise Retry("Slack gave no address for the upload")
        headers = {"content-type": "application/octet-stream", "content-length": str(size)}
        try:
            async with upload_time(size):
                http = self.tools.operator_http
                answer = await http.post(address, content=chunks, headers=headers, timeout=STEP_TIME)
        except httpx.HTTPError as error:
            raise Retry(f"the upload of {size:,} bytes was cut: {type(error).__name__}") from error
        if answer.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            raise NoUpload("the workspace does not take a file of this size")
        if not answer.is_success:
            raise Retry(f"the upload of {size:,} bytes was answered {answer.status_code}")
        return file_id

    async def _share(self, file_id: str, name: str) -> None:
        """Share an uploaded file with the channel. Slack does that after its answer."""
        comment = self._to_person(shorten(escaped(self.target.comment), MAX_TEXT - 100))
        await self.api.call(
            "files_completeUploadExternal",
            files=[{"id": file_id, "title": name}],
            channel_id=self.id,
            thread_ts=self.target.thread,
            initial_comment=comment or None,
        )

    async def _check_later(self, result: Result, file_id: str) -> None:
        """Let the job UNSHARED check that the file is in the channel: now and then Slack accepts one and drops it."""
        target = self.target.model_dump(mode="json")
        data = {"client": self.client, "target": target, "index": result.index, "file": file_id}
        await self.tools.schedule(UNSHARED, f"{result.task.id}/{file_id}", data, after=SHARED_WITHIN)

    async def send_unshared(self, task: TaskView, index: int, file_id: str) -> None:
        """Send a link to a result unless its file is in the channel. Raises Retry, Reject."""
        if await self._is_shared(file_id):
            return
        self.tools.log.warning("slack accepted a file and did not share it")
        result = Result(task=task, index=index, chat=self.key)
        await self._send_link(result)

    async def _send_link(self, result: Result) -> None:
        link = None
        if result.stored:
            async with self.tools.content(result.task, result.index) as content:
                link = content.link(LINK_FOR)
        await self.send(link_message(result, TooLarge(None, link)))

    async def _is_shared(self, file_id: str) -> bool:
        """Return whether a file was shared although the answer was lost."""
        try:
            file = await self.api.file(file_id)
        except Reject:
            return False
        return self.id in [each for name in ("channels", "groups", "ims") for each in file.get(name) or []]


async def _sized(content: Content, limit: int, stack: AsyncExitStack) -> tuple[AsyncIterator[bytes], int]:
    """Return the chunks of a content and their total; Slack wants the exact length before the first byte."""
    if content.size is not None:
        return content.chunks, content.size
    file, size = await stack.enter_async_context(content_file(content, max_bytes=limit))
    return _chunks_of(file), size


async def _chunks_of(file: Any) -> AsyncIterator[bytes]:
    while chunk := await asyncio.to_thread(file.read, MB):
        yield chunk


# ── incoming webhooks ────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class IncomingWebhook:
    """An incoming webhook: it takes texts, and nothing that it took can be changed."""

    url: str
    http: httpx.AsyncClient
    tools: SlackTools
    comment: str = ""

    @property
    def key(self) -> str:
        """Return the key of the webhook, which does not reveal its address."""
        return sha256(self.url.encode()).hexdigest()[:32]

    @property
    def shown(self) -> str | None:
        """Return None: there is no progress message."""
        return None

    async def edit(self, text: str, *, final: bool) -> None:
        """Do nothing: there is no progress message."""

    async def remove(self) -> None:
        """Do nothing: there is no progress message."""

    async def send(self, text: str) -> None:
        """Send a text; raises Retry, or Reject for a webhook that does not exist any more or refuses it."""
        line = shorten("\n".join(filter(None, (escaped(self.comment), escaped(text)))), MAX_TEXT)
        answer = await self.http.post(self.url, json={"text": line, "unfurl_links": False, "unfurl_media": False})
        word = answer.text[:60].strip() if answer.headers.get("content-type", "").startswith("text/") else ""
        self.tools.keep_answer(answer.status_code, answer.content)
        if answer.is_success:
            return
        reason = f"the incoming webhook answered {answer.status_code} {word}".strip()
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS:
            raise Retry(reason, after=pause_of(answer))
        if answer.is_client_error and answer.status_code != HTTPStatus.REQUEST_TIMEOUT:
            raise Reject(f"{reason}; make a new webhook if this one was removed")
        raise Retry(reason)

    async def send_result(self, result: Result, *, attempt: int) -> None:  # noqa: ARG002 - as in TaskChat
        """Send a link to a result. Raises Retry, Reject."""
        link = None
        if result.stored:
            async with self.tools.content(result.task, result.index) as content:
                link = content.link(LINK_FOR)
        url = link or result.url
        if not url:
            raise Reject(NO_ADDRESS)
        until = f"for {LINK_FOR.days} days" if link else "for a short time only"
        await self.send(f"The video is ready. Download it here, {until}:\n{url}")
