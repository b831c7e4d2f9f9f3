"""The checks that each chat platform still sends to this service."""

from typing import Any

import httpx
import pytest

from handlers import _discord_setup, _slack_setup, _telegram_setup
from handlers._discord_settings import Settings as DiscordSettings
from handlers._slack_settings import Settings as SlackSettings
from handlers._telegram_settings import Settings as TelegramSettings
from service import Reject, Retry
from tests.support import discord_api, slack_api, telegram_api

URL = "https://video.example"
TELEGRAM = TelegramSettings.model_validate({"telegram_token": telegram_api.TOKEN})
SLACK = SlackSettings.model_validate({"slack_token": slack_api.TOKEN, "slack_signing_secret": slack_api.SIGNING_SECRET})
DISCORD = DiscordSettings.model_validate(
    {
        "discord_application_id": discord_api.APPLICATION,
        "discord_public_key": discord_api.PUBLIC_KEY,
        "discord_token": discord_api.TOKEN,
    }
)


def client(respond: Any) -> httpx.AsyncClient:
    """Return a client whose requests a stand-in answers."""
    return httpx.AsyncClient(transport=httpx.MockTransport(respond))


@pytest.mark.parametrize(
    ("registered", "words"),
    [
        ({}, "Telegram sends updates to no address; run `boomerang setup telegram`"),
        ({"url": "https://old.example/x"}, "Telegram sends updates to https://old.example/x; run"),
        ({"url": f"{URL}/handlers/telegram/webhook"}, None),
    ],
)
async def test_telegram_names_where_updates_go(registered: dict[str, str], words: str | None) -> None:
    """Another process may have set another webhook for the same bot."""
    api = telegram_api.TelegramApi()
    api.webhook = dict(registered)
    found = await _telegram_setup.check(TELEGRAM, client(api.respond), public_url=URL)
    assert (found or "").startswith(words or "")
    assert (found is None) is (words is None)


async def test_telegram_names_why_updates_are_not_delivered() -> None:
    """A certificate that has expired, or a service that does not answer."""
    info = {"url": f"{URL}/handlers/telegram/webhook", "has_custom_certificate": False, "pending_update_count": 3}
    result = info | {"last_error_date": 1, "last_error_message": "Connection refused"}
    http = client(lambda _: httpx.Response(200, json={"ok": True, "result": result}))
    found = await _telegram_setup.check(TELEGRAM, http, public_url=URL)
    assert found is not None
    assert found.endswith("3 updates wait: Connection refused")


@pytest.mark.parametrize(
    ("endpoint", "registered", "words"),
    [
        (None, True, "Discord sends commands to no address; enter https://video.example/handlers/discord/interactions"),
        (f"{URL}/handlers/discord/interactions", False, "commands are missing; run `boomerang setup discord`"),
        (f"{URL}/handlers/discord/interactions", True, None),
    ],
)
async def test_discord_names_where_commands_go(endpoint: str | None, *, registered: bool, words: str | None) -> None:
    """Discord removes an address that does not answer its checks."""
    api = discord_api.DiscordApi()
    api.endpoint, api.commands = endpoint, _discord_setup.commands() if registered else []
    found = await _discord_setup.check(DISCORD, client(api.respond), public_url=URL)
    assert (found or "").startswith(words or "")
    assert (found is None) is (words is None)


async def test_slack_accepts_the_token() -> None:
    """More cannot be found out with the token of a bot."""
    assert await _slack_setup.check(SLACK, client(slack_api.SlackApi().respond), public_url=URL) is None
    broken = SLACK.model_copy(update={"slack_token": TELEGRAM.telegram_token})
    with pytest.raises(Retry, match="Slack does not accept BOOMERANG_SLACK_TOKEN"):
        await _slack_setup.check(broken, client(slack_api.SlackApi().respond), public_url=URL)


async def test_address_that_no_platform_reaches_is_named() -> None:
    """None of the three sends to http."""
    for module, config in ((_telegram_setup, TELEGRAM), (_slack_setup, SLACK), (_discord_setup, DISCORD)):
        check: Any = module.check
        with pytest.raises(Reject, match="BOOMERANG_PUBLIC_URL"):
            await check(config, client(lambda _: httpx.Response(500)), public_url="http://video.example")
