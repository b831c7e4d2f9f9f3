"""What the Slack bot does with a command: who may use it, and how its person is answered."""

import asyncio
import re
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any
from urllib.parse import urlsplit

import httpx

from service import Reject, Retry

from ._chat_media import AS_IT_IS, UnusablePicture, read_picture
from ._chat_orders import Order, Terms, cancel_newest, make_video, show_status
from ._chat_progress import MessageGone, was_shown
from ._chat_words import shorten
from ._slack_api import NoChannel, SlackApi, escaped
from ._slack_incoming import Incoming
from ._slack_settings import MAX_COMMENT, SlackTools

FILE = re.compile(r"/(?:files/[A-Z0-9]+/|files-pri/[A-Z0-9]+-)(?P<id>F[A-Z0-9]{2,30})(?:/|$)")
DOWNLOAD_TIMEOUT = 15.0

HELP = """Write `/video a cat jumps over the fence` with the link of a picture, or mention me in a message with
pictures: they become a video. In a direct message to me no mention is needed.

`/video status` shows your newest videos, `/video cancel` cancels the newest unfinished one.
You may make {user_daily} videos a day."""
GOT_IT = "Got it. I will show the progress and the video here."
REFUSAL = """Only invited people can make videos here. To be invited, send this to the operator of the bot:
user {user}, channel {channel}, workspace {workspace}"""
ELSEWHERE = (
    "I am not a member of the channel in which you wrote, so the video comes here. To get it there, `/invite` me."
)
NOT_THERE = "I cannot answer here yet. Invite me to this channel (`/invite`), or send me a direct message."
NO_FILE = "I cannot read one of the pictures. Share it in this channel, or send it to me in a direct message."
NOT_HERE = "I use files that are yours, or that were shared in this channel. One of the links leads to another."


def may_spend(incoming: Incoming, tools: SlackTools) -> bool:
    """Return whether its user, channel or workspace is in the operator's lists."""
    config = tools.config
    return (
        incoming.user in config.slack_users
        or incoming.channel in config.slack_channels
        or incoming.workspace in config.slack_workspaces
    )


def instant_answer(incoming: Incoming, tools: SlackTools) -> str | None:
    """Return the answer to a command that needs no work, None for others."""
    if not may_spend(incoming, tools):
        return REFUSAL.format(user=incoming.user, channel=incoming.channel, workspace=incoming.workspace)
    return HELP.format(user_daily=tools.config.slack_user_daily) if incoming.action == "help" else None


async def handle(incoming: Incoming, api: SlackApi, tools: SlackTools, *, last: bool) -> None:
    """Act on one command; safe to run twice. `last` is whether this is the last attempt."""
    config = tools.config
    answers = SlackAnswers(incoming=incoming, api=api, tools=tools)
    pictures = len(incoming.files) + len(incoming.addresses)
    order = Order(
        source=incoming.source, user=incoming.user, chat=incoming.channel, prompt=incoming.text, pictures=pictures
    )
    if instant := instant_answer(incoming, tools):
        await answers.reply(instant)
    elif incoming.action == "status":
        await show_status(order.owner, answers, tools, none=HELP.format(user_daily=config.slack_user_daily))
    elif incoming.action == "cancel":
        await cancel_newest(order.owner, answers, tools)
    else:
        ids = {"workspace": incoming.workspace, "channel": incoming.channel, "user": incoming.user}
        terms = Terms(
            handler="slack",
            model=config.slack_model,
            text_model=config.slack_text_model,
            params=config.slack_params,
            user_daily=config.slack_user_daily,
            chat_daily=config.slack_channel_daily,
            archive=bool(config.archive_url),
            metadata=ids,
        )
        await make_video(order, answers, tools, terms, last=last)


@dataclass(frozen=True, kw_only=True)
class SlackAnswers:
    """Answers one command: in its channel, else to its person directly."""

    incoming: Incoming
    api: SlackApi
    tools: SlackTools

    async def reply(self, text: str) -> None:
        """Answer so that only the person sees it; raises NoChannel if Slack shows it nowhere."""
        found, text = self.incoming, escaped(text)
        try:
            if found.private:
                await self.api.post(found.channel, text, thread=found.thread)
            else:
                await self.api.whisper(found.channel, found.user, text, thread=found.thread)
        except NoChannel:
            await self._write_directly(text)

    async def begin(self, text: str) -> dict[str, str]:
        """Send the progress message to the channel, else to the person; return the ids of both."""
        found, line = self.incoming, f"<@{self.incoming.user}> {escaped(text)}"
        try:
            channel, message = await self.api.post(found.channel, line, thread=found.thread)
        except NoChannel:
            channel, message = await self._write_directly(f"{ELSEWHERE}\n\n{escaped(text)}")
        await was_shown(self.tools.state, message=f"{channel}/{message}", text=text)
        return {"channel": channel, "message": message}

    async def _write_directly(self, text: str) -> tuple[str, str]:
        """Write to the person; where Slack does not let the bot, say so through the command's own address."""
        try:
            return await self.api.post(self.incoming.user, text)
        except NoChannel:
            with suppress(httpx.HTTPError):  # the address is valid for half an hour, and for five answers
                answer = {"response_type": "ephemeral", "text": NOT_THERE}
                if self.tools.config.is_host_of_slack(self.incoming.response_url):
                    await self.tools.operator_http.post(self.incoming.response_url, json=answer)
            raise

    async def change(self, shown: Any, text: str) -> None:
        """Turn the progress message into `text`, or send it if that message is gone."""
        line = f"<@{self.incoming.user}> {escaped(text)}"
        try:
            await self.api.edit(shown["channel"], shown["message"], line)
        except MessageGone:
            await self.api.post(shown["channel"], line)

    def target(self, shown: Any) -> dict[str, Any]:
        """Return where events of the task go."""
        here = shown["channel"] == self.incoming.channel
        comment = shorten(self.incoming.text, MAX_COMMENT // 2)
        return {
            **shown,
            "thread": self.incoming.thread if here else None,
            "user": self.incoming.user,
            "comment": comment,
        }

    async def pictures(self) -> list[str]:
        """Return the pictures: files of Slack as bytes, addresses elsewhere as they are. Raises UnusablePicture."""
        shared = [self._shared(each) for each in self.incoming.files]
        return await asyncio.gather(*shared, *(self._linked(each) for each in self.incoming.addresses))

    async def _shared(self, file_id: str) -> str:
        return await self._download(await self._file(file_id))

    async def _linked(self, address: str) -> str:
        if not self.tools.config.is_host_of_slack(address):
            return address  # of anyone's choice: the provider fetches it, not this service
        named = FILE.search(urlsplit(address).path)
        if named is None:
            raise UnusablePicture(NO_FILE)
        file = await self._file(named["id"])
        shared_in = [each for name in ("channels", "groups", "ims") for each in file.get(name) or []]
        if file.get("user") != self.incoming.user and self.incoming.channel not in shared_in:
            raise UnusablePicture(NOT_HERE)
        return await self._download(file)

    async def _file(self, file_id: str) -> dict[str, Any]:
        try:
            return await self.api.file(file_id)
        except Reject as error:
            raise UnusablePicture(NO_FILE) from error

    async def _download(self, file: dict[str, Any]) -> str:
        """Return a file of Slack as a data URI: its address needs the token, which goes to Slack only."""
        address = str(file.get("url_private_download") or file.get("url_private") or "")
        if file.get("is_external") or not self.tools.config.is_host_of_slack(address):
            raise UnusablePicture(NO_FILE)
        headers = {"authorization": f"Bearer {self.tools.config.token}", **AS_IT_IS}
        http = self.tools.operator_http
        async with http.stream("GET", address, headers=headers, timeout=DOWNLOAD_TIMEOUT) as response:
            if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR or response.status_code in BUSY:
                raise Retry(f"Slack answered {response.status_code} to a download")
            if not response.is_success or "text/html" in response.headers.get("content-type", ""):
                self.tools.log.warning("slack gave no file: %s; the app needs files:read", response.status_code)
                raise UnusablePicture(NO_FILE)  # without the scope Slack answers with its page for signing in
            return await read_picture(response)


BUSY = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.REQUEST_TIMEOUT})
