"""Chats from the command to the video in real processes, against stand-ins of Slack and Discord at a port."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import httpx

from tests.acceptance.environment import client, serve, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Child, Workspace, until
from tests.support import discord_api, slack_api
from tests.support.chat_server import Platform, chat_server
from tests.support.ports import free_port
from tests.support.sample_media import image

PICTURE = image("JPEG", (320, 240))


@asynccontextmanager
async def running(
    workspace: Workspace, api: Platform, setting: str, path: str, **more: str
) -> AsyncIterator[tuple[Child, httpx.AsyncClient, str]]:
    """Yield a service that archives its results, a client for it, and the address of the platform."""
    public_url = f"http://{HOST}:{free_port()}"
    with chat_server(api) as platform:
        more |= {setting: platform + path, "ARCHIVE_URL": (workspace.home / "videos").as_uri()}
        async with upstream(workspace, "--run-time", "1s") as sandbox:
            child = await serve(workspace, settings(sandbox.url, public_url, sqlite(workspace), **more))
            async with client(child.url) as http:
                yield child, http, platform


def stored(workspace: Workspace) -> list[bytes]:
    """Return the stored videos."""
    return [path.read_bytes() for path in (workspace.home / "videos").iterdir() if path.suffix == ".mp4"]


def shows(api: discord_api.DiscordApi, text: str) -> bool:
    """Return whether the newest message in the channel contains a text."""
    return text in api.texts()[-1]


async def test_mention_in_slack_becomes_the_stored_video(workspace: Workspace) -> None:
    """The library speaks to the stand-in by its base address, and the file is streamed; no log line has a secret."""
    api = slack_api.SlackApi()
    event = api.message(f"<@{slack_api.BOT}> a dance", pictures=(PICTURE,))
    given = {"SLACK_TOKEN": slack_api.TOKEN, "SLACK_SIGNING_SECRET": slack_api.SIGNING_SECRET}
    given |= {"SLACK_CHANNELS": slack_api.CHANNEL}
    async with running(workspace, api, "SLACK_URL", "/api", **given) as (child, http, _):
        for signed, status in ((True, 200), (True, 200), (False, 401)):
            request = api.signed_event(event)
            headers = request.headers if signed else {**request.headers, "x-slack-signature": "v0=00"}
            answer = await http.post("/handlers/slack/events", content=request.content, headers=headers)
            assert answer.status_code == status
        await until(lambda: api.log[-1] == "delete", what="the video in place of the progress message")
        assert api.texts() == [f"[file] <@{slack_api.USER}> a dance"]
        assert [*api.uploaded.values()] == stored(workspace)
        assert not [text for text in (slack_api.TOKEN, slack_api.SIGNING_SECRET) if text in child.output()]


async def test_command_in_discord_becomes_the_stored_video_or_a_link(workspace: Workspace) -> None:
    """A file above the limit of the interaction is a link that needs no key."""
    api = discord_api.DiscordApi()
    given = {"DISCORD_APPLICATION_ID": discord_api.APPLICATION, "DISCORD_PUBLIC_KEY": discord_api.PUBLIC_KEY}
    given |= {"DISCORD_TOKEN": discord_api.TOKEN, "DISCORD_SERVERS": discord_api.SERVER}
    async with running(workspace, api, "DISCORD_URL", "/api/v10", **given) as (child, http, platform):
        api.files_at = platform
        for limit, ready in ((discord_api.SIZE_LIMIT, "[file] a dance"), (100, "Download it here, for 7 days")):
            interaction = api.command("a dance", pictures=(PICTURE,), attachment_size_limit=limit)
            request = api.signed(interaction)
            answer = await http.post("/handlers/discord/interactions", content=request.content, headers=request.headers)
            api.take_answer(interaction, answer.json())
            await until(partial(shows, api, ready), what=f"{ready} in the answer")
        link = api.texts()[-1].splitlines()[-1]
        [video, *_] = [sent.file for sent in api.seen() if sent.file]
        async with httpx.AsyncClient() as anybody:
            linked = await anybody.get(child.url + httpx.URL(link).raw_path.decode())
        assert video in stored(workspace)
        assert linked.content in stored(workspace)
        tokens = [each.token for each in api.interactions.values()]
        assert not [text for text in (discord_api.TOKEN, *tokens) if text in child.output()]
