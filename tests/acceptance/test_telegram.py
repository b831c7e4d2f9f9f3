"""A chat from the command to the video in real processes, against the stand-in of the Bot API at a port."""

from collections.abc import Callable
from typing import Any

from handlers._telegram_settings import Settings
from handlers.telegram import SECRET_HEADER
from tests.acceptance.environment import client, serve, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Workspace, until
from tests.support.chat_server import chat_server
from tests.support.ports import free_port
from tests.support.sample_media import image
from tests.support.telegram_api import GROUP, TOKEN, Sent, TelegramApi


def video_of(api: TelegramApi) -> Callable[[], list[Sent]]:
    """Return a function that returns the videos in the group."""
    return lambda: [sent for sent in api.shown(GROUP) if sent.media == "video"]


async def test_photo_in_a_group_becomes_the_stored_video_with_its_poster(workspace: Workspace) -> None:
    """The library uploads the archived file over a real connection; no log line has the token."""
    api = TelegramApi()
    public_url = f"http://{HOST}:{free_port()}"
    secret = Settings.model_validate({"telegram_token": TOKEN}).webhook_secret
    update: dict[str, Any] = api.message("/video@VideoBot a dance", chat=GROUP, photo=image("JPEG", (320, 240)))
    with chat_server(api) as telegram:
        more = {
            "TELEGRAM_TOKEN": TOKEN,
            "TELEGRAM_CHATS": str(GROUP),
            "TELEGRAM_URL": telegram,
            "ARCHIVE_URL": (workspace.home / "videos").as_uri(),
        }
        async with upstream(workspace, "--run-time", "1s") as sandbox:
            child = await serve(workspace, settings(sandbox.url, public_url, sqlite(workspace), **more))
            async with client(child.url) as http:
                statuses = [
                    (
                        await http.post("/handlers/telegram/webhook", json=update, headers={SECRET_HEADER: given})
                    ).status_code
                    for given in (secret, secret, TOKEN)
                ]
                assert statuses == [200, 200, 401]
                await until(lambda: bool(video_of(api)()), what="the video in the chat")
                await until(lambda: api.log[-1] == "delete", what="the end of the progress message")
            bills = (await sandbox.ledger())["bills"]
        [sent] = video_of(api)()
        assert (len(bills), sent.details["thumbnail"], sent.reply_to) == (1, True, update["message"]["message_id"])
        assert int(sent.details["width"]) > int(sent.details["height"]) > 0
        assert api.texts(GROUP) == ["[video]"]
        stored = [path.read_bytes() for path in (workspace.home / "videos").iterdir() if path.suffix == ".mp4"]
        assert [len(data) for data in stored] == [sent.details["bytes"]]
        assert TOKEN not in child.output()
