"""Shows the events of a task in Discord: in the answer to its command, in a channel, or through a webhook."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

from service import Reject, Retry

from ._chat_events import SENT_FOR
from ._chat_media import TooLarge
from ._chat_progress import MessageGone
from ._chat_results import LINK_FOR, Result, content_file, opened, upload_or_link, upload_time
from ._discord_api import DiscordApi, File, body_of
from ._discord_commands import escaped
from ._discord_errors import TokenDead, digest
from ._discord_settings import DEFAULT_LIMIT, DiscordTools, Target

MAX_REQUEST = 25 * 1024 * 1024
"""Bytes of a request with a file: Discord may name a larger limit than it keeps."""

OVERHEAD = 64 * 1024


@asynccontextmanager
async def _file(result: Result, tools: DiscordTools, limit: int) -> AsyncIterator[File]:
    """Yield the file of a result. Raises TooLarge with a link, Unavailable."""
    limit = min(limit, MAX_REQUEST - OVERHEAD)
    async with opened(result, tools, max_bytes=limit) as content:
        link = content.link(LINK_FOR)
        async with content_file(content, max_bytes=limit) as (handle, size):
            try:
                yield File(handle=handle, size=size, name=content.name, media_type=content.media_type)
            except TooLarge as error:
                raise TooLarge(size, link) from error


async def _upload(result: Result, tools: DiscordTools, limit: int, send: Callable[[File], Awaitable[object]]) -> None:
    async with _file(result, tools, limit) as file, upload_time(file.size):
        await send(file)


@dataclass(frozen=True, kw_only=True)
class Channel:
    """A channel, the interaction of its command while that can be answered, and the progress message there."""

    target: Target
    api: DiscordApi
    tools: DiscordTools

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
        return self.target.interaction or self.target.message

    async def _token(self) -> str | None:
        token = await self.tools.state.get(f"token/{self.target.interaction}") if self.target.interaction else None
        return str(token) if token else None

    async def _original(self) -> str | None:
        """Return the id of the progress message, where it is known."""
        if self.target.message:
            return self.target.message
        found = await self.tools.state.get(f"original/{self.target.interaction}") if self.target.interaction else None
        return str(found) if found else None

    async def _drop_token(self) -> None:
        await self.tools.state.delete(f"token/{self.target.interaction}")

    async def edit(self, text: str, *, final: bool) -> None:
        """Replace the text of the progress message.

        Past the 15 minutes of its token the bot changes it; a final text is a new message then, which the person
        notices: raises MessageGone.
        """
        if token := await self._token():
            try:
                await self.api.answer(token, body_of(text))
            except TokenDead:
                await self._drop_token()
            else:
                return
        original = await self._original()
        if original is None or (final and self.target.interaction):
            raise MessageGone("the answer to the command cannot be changed any more")
        await self.api.edit(self.id, original, body_of(text))

    async def send(self, text: str) -> None:
        """Send a text: as the answer to the command, else as a message of the bot, which mentions the person."""
        await self._send(text)
        if not await self._token():  # the answer to the command still shows the progress
            with suppress(Reject, Retry):
                await self.remove()

    async def _send(self, text: str, *, first: bool = True, file: File | None = None) -> None:
        if token := await self._token():
            try:
                await self.api.answer(token, body_of(text, file=file), first=first, file=file)
            except TokenDead:
                await self._drop_token()
                if file is not None:
                    file.handle.seek(0)
            else:
                await self.tools.state.delete(f"original/{self.target.interaction}")  # it is no progress any more
                return
        await self._post("" if file else text, file)

    async def _post(self, text: str, file: File | None) -> None:
        """Send a message of the bot in place of the answer to the command."""
        person = f"<@{self.target.user}> " if self.target.user else ""
        line = f"{person}{escaped(self.target.comment)}\n{text}".strip()
        await self.api.post(self.id, body_of(line, mention=self.target.user, file=file), file=file)

    async def send_result(self, result: Result, *, attempt: int) -> None:
        """Upload a result, else send a link. Raises Retry, Reject."""
        send = partial(self._send, first=result.index == 0)
        upload = partial(_upload, result, self.tools, self.target.limit, partial(self._send_file, send))
        await upload_or_link(result, upload=upload, send=send, attempt=attempt)

    async def _send_file(self, send: Callable[..., Awaitable[None]], file: File) -> None:
        await send(escaped(self.target.comment), file=file)

    async def remove(self) -> None:
        """Delete the progress message, unless it has become the answer with the results."""
        original = await self._original()
        if original and self.tools.config.token:
            await self.api.delete(self.id, original)
            await self.tools.state.delete(f"original/{self.target.interaction}")


@dataclass(frozen=True, kw_only=True)
class Webhook:
    """A webhook: one message for each task, which is changed, and becomes the one with the results."""

    url: str
    task: str
    api: DiscordApi
    tools: DiscordTools
    comment: str = ""

    @property
    def key(self) -> str:
        """Return the key of the webhook, which does not reveal its address."""
        return digest(self.url)

    @property
    def shown(self) -> str | None:
        """Return the key of the task's message."""
        return f"{self.task}/{self.key}"

    def _line(self, text: str) -> str:
        return f"{escaped(self.comment)}\n{text}".strip()

    async def edit(self, text: str, *, final: bool) -> None:  # noqa: ARG002 - as in TaskChat
        """Change the task's message, or send it first."""
        await self._show(text)

    async def send(self, text: str) -> None:
        """Change the task's message, or send it first."""
        await self._show(text)

    async def _show(self, text: str, file: File | None = None, *, new: bool = False) -> None:
        key = f"message/{self.shown}"
        known = None if new else await self.tools.state.get(key)
        body = body_of(self._line(text), file=file)
        if known:
            with suppress(MessageGone):
                await self.api.webhook("PATCH", self.url, body, message=str(known), file=file)
                return
            if file is not None:
                file.handle.seek(0)
        message = await self.api.webhook("POST", self.url, body, file=file)
        if message and not new:
            await self.tools.state.set(key, message, expires_in=SENT_FOR)

    async def send_result(self, result: Result, *, attempt: int) -> None:
        """Upload a result, else send a link. Raises Retry, Reject."""
        upload = partial(_upload, result, self.tools, DEFAULT_LIMIT, partial(self._send_file, result))
        await upload_or_link(result, upload=upload, send=self.send, attempt=attempt)

    async def _send_file(self, result: Result, file: File) -> None:
        await self._show("", file, new=result.index > 0)

    async def remove(self) -> None:
        """Do nothing: the progress message has become the one with the results."""
