"""What the Discord bot does with a command: who may use it, and how its person is answered."""

import asyncio
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from service import Retry

from ._chat_media import AS_IT_IS, MAX_PICTURE, TOO_LARGE, UnusablePicture, read_picture
from ._chat_orders import Order, Terms, cancel_newest, make_video, show_status
from ._chat_progress import MessageGone, was_shown
from ._chat_words import shorten
from ._discord_api import DiscordApi, body_of
from ._discord_errors import TokenDead, host_of
from ._discord_incoming import Attachment, Incoming
from ._discord_settings import MAX_COMMENT, DiscordTools

TOKEN_FOR = 880.0
"""Seconds for which the token of an interaction is used; Discord ends it after 15 minutes."""

YOUNG = 10.0
"""Seconds after a command in which Discord may not know of its own interaction yet."""

KEPT = 7 * 86_400.0
DOWNLOAD_TIMEOUT = 15.0
HOSTS = frozenset({"https://cdn.discordapp.com", "https://media.discordapp.net"})

HELP = "You have made no video here yet. Write /video with a prompt and pictures."
REFUSAL = """Only invited people can make videos here. To be invited, send this to the operator of the bot:
user {user}, channel {channel}, server {server}"""
NO_FILE = "One of the pictures is not there any more. Send the command again with the pictures."
LIMITED = (
    "\nI can only send it within 15 minutes, because the operator of this bot has set no token for later messages."
)


def escaped(text: str) -> str:
    """Return a text of people as markdown that shows it as it is."""
    return re.sub(r"([\\*_~`|>\[\]()<@#:-])", r"\\\1", text)


def refusal(incoming: Incoming, tools: DiscordTools) -> str | None:
    """Return the answer to a person who may not spend, None for others."""
    config = tools.config
    listed = incoming.user in config.discord_users or incoming.channel in config.discord_channels
    if listed or (incoming.server and incoming.server in config.discord_servers):
        return None
    return REFUSAL.format(user=incoming.user, channel=incoming.channel, server=incoming.server or "none")


async def keep_token(incoming: Incoming, tools: DiscordTools) -> None:
    """Keep the token of an interaction for as long as it works."""
    await tools.state.set(f"token/{incoming.id}", incoming.token, expires_in=TOKEN_FOR)


async def handle(incoming: Incoming, api: DiscordApi, tools: DiscordTools, *, last: bool) -> None:
    """Act on one command; safe to run twice. `last` is whether this is the last attempt."""
    config = tools.config
    answers = DiscordAnswers(incoming=incoming, api=api, tools=tools)
    order = Order(
        source=f"command/{incoming.id}",
        user=incoming.user,
        chat=incoming.channel,
        prompt=incoming.text,
        pictures=len(incoming.attachments),
    )
    if incoming.action == "status":
        await show_status(order.owner, answers, tools, none=HELP)
    elif incoming.action == "cancel":
        await cancel_newest(order.owner, answers, tools)
    else:
        terms = Terms(
            handler="discord",
            model=config.discord_model,
            text_model=config.discord_text_model,
            params=config.discord_params,
            user_daily=config.discord_user_daily,
            chat_daily=config.discord_channel_daily,
            archive=bool(config.archive_url),
            metadata={"server": incoming.server, "channel": incoming.channel, "user": incoming.user},
        )
        await make_video(order, answers, tools, terms, last=last)


@dataclass(frozen=True, kw_only=True)
class DiscordAnswers:
    """Answers one command: by its interaction, else with a message of the bot in the channel."""

    incoming: Incoming
    api: DiscordApi
    tools: DiscordTools

    async def reply(self, text: str) -> None:
        """Turn the answer to the command into a text."""
        await self._show(text)

    async def begin(self, text: str) -> dict[str, str]:
        """Turn the answer into the progress message; return what identifies it."""
        shown = await self._show(text if self.tools.config.token else text + LIMITED)
        await was_shown(self.tools.state, message=shown.get("interaction") or shown["message"], text=text)
        return shown

    async def change(self, shown: Any, text: str) -> None:
        """Turn the progress message into `text`, or send it if that message is gone."""
        if "message" not in shown:
            await self._show(text)
            return
        try:
            await self.api.edit(self.incoming.channel, shown["message"], body_of(text))
        except MessageGone:
            await self._post(text)

    async def _show(self, text: str) -> dict[str, str]:
        """Change the answer to the interaction; where its token does not work, write to the channel instead."""
        incoming, state = self.incoming, self.tools.state
        token = await state.get(f"token/{incoming.id}")
        if token:
            try:
                original = await self.api.answer(token, body_of(text))
            except TokenDead:
                age = self.tools.now() - incoming.made_at
                if age.total_seconds() < YOUNG:
                    raise Retry("Discord does not know of the interaction yet", after=2) from None
                await state.delete(f"token/{incoming.id}")
            else:
                await state.set(f"original/{incoming.id}", original, expires_in=KEPT)
                return {"interaction": incoming.id}
        return {"message": await self._post(text)}

    async def _post(self, text: str) -> str:
        line = f"<@{self.incoming.user}> {text}"
        return await self.api.post(self.incoming.channel, body_of(line, mention=self.incoming.user))

    def target(self, shown: Any) -> dict[str, Any]:
        """Return where events of the task go."""
        incoming = self.incoming
        comment = shorten(incoming.text, MAX_COMMENT // 2)
        where = {"channel": incoming.channel, "user": incoming.user, "limit": incoming.limit}
        return {**shown, **where, "comment": comment}

    async def pictures(self) -> list[str]:
        """Return the pictures as data URIs: their addresses expire. Raises UnusablePicture, Retry."""
        return await asyncio.gather(*(self._download(each) for each in self.incoming.attachments))

    async def _download(self, attachment: Attachment) -> str:
        host = host_of(attachment.url)
        if host not in HOSTS and host != host_of(self.tools.config.discord_url):
            raise UnusablePicture(NO_FILE)
        if attachment.size > MAX_PICTURE:
            raise UnusablePicture(TOO_LARGE)
        http = self.tools.operator_http
        async with http.stream("GET", attachment.url, headers=AS_IT_IS, timeout=DOWNLOAD_TIMEOUT) as response:
            if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status_code in BUSY:
                raise Retry(f"Discord answered {response.status_code} to a download")
            if not response.is_success:
                raise UnusablePicture(NO_FILE)
            return await read_picture(response)


BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT})
