"""The command `boomerang setup`, which speaks to the stand-in of the Bot API over a port."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from handlers._telegram_settings import Settings
from tests.support.chat_server import chat_server
from tests.support.discord_api import APPLICATION, PUBLIC_KEY, DiscordApi
from tests.support.discord_api import TOKEN as DISCORD_TOKEN
from tests.support.slack_api import SCOPES, SIGNING_SECRET, SlackApi
from tests.support.slack_api import TOKEN as SLACK_TOKEN
from tests.support.telegram_api import TOKEN, TelegramApi
from tests.unit.cli.fake_service import run

ADDRESS = "https://video.example/handlers/telegram/webhook"


@pytest.fixture(autouse=True)
def _isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test in an empty directory without BOOMERANG_* variables."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("BOOMERANG_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def api() -> TelegramApi:
    """Return the Bot API."""
    return TelegramApi()


@pytest.fixture
def address(api: TelegramApi) -> Iterator[str]:
    """Yield its address."""
    with chat_server(api) as found:
        yield found


def secret_of(token: str) -> str:
    """Return the secret that the route expects for a bot."""
    return Settings.model_validate({"telegram_token": token}).webhook_secret


def setup(*options: str, address: str = "http://127.0.0.1:9", **settings: str) -> Result:
    """Run the command for Telegram; `settings` are without the prefix."""
    return setup_of("telegram", *options, **{"TELEGRAM_TOKEN": TOKEN, "TELEGRAM_URL": address, **settings})


def setup_of(platform: str, *options: str, **settings: str) -> Result:
    """Run the command for a platform."""
    given = {
        "PUBLIC_URL": "https://video.example",
        "API_KEYS": "ada=" + "k" * 32,
        "EGRESS_ALLOW": "127.0.0.0/8",
        **settings,
    }
    return run("setup", platform, *options, env={f"BOOMERANG_{name}": text for name, text in given.items()})


def test_setup_registers_the_webhook_and_the_commands(api: TelegramApi, address: str) -> None:
    """The secret is the one that the route expects; a second run says what was registered before."""
    result = setup(address=address, TELEGRAM_USERS="7")
    assert result.exit_code == 0, result.stderr
    assert result.stdout.splitlines() == [
        "the bot is @VideoBot, it had no webhook",
        f"register the webhook {ADDRESS} with its secret, for: message",
        "register the commands /video, /status, /cancel, /help",
        "1 users and everybody in 0 chats may make videos",
    ]
    assert api.webhook["url"] == ADDRESS
    assert api.webhook["secret_token"] == secret_of(TOKEN)
    assert api.webhook["allowed_updates"] == ["message"]
    assert [command["command"] for command in api.commands] == ["video", "status", "cancel", "help"]
    assert setup(address=address).stdout.startswith(f"the bot is @VideoBot, its webhook was {ADDRESS}\n")


def test_setup_removes_what_it_registered(api: TelegramApi, address: str) -> None:
    """It needs no public address for that."""
    setup(address=address)
    result = setup("--remove", address=address, PUBLIC_URL="")
    assert (result.exit_code, api.webhook, api.commands) == (0, {}, [])
    assert result.stdout.splitlines()[-1] == "remove the webhook and the menu of commands"


def test_dry_run_sends_nothing() -> None:
    """It prints what it would do, also where Telegram cannot be reached; no line has the token or the secret."""
    result = setup("--dry-run")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[:2] == [
        f"would register the webhook {ADDRESS} with its secret, for: message",
        "would register the commands /video, /status, /cancel, /help",
    ]
    found = json.loads(setup("--dry-run", "--json").stdout)
    assert (found["platform"], found["dry_run"], found["lines"]) == ("telegram", True, result.stdout.splitlines())
    secret = secret_of(TOKEN)
    assert not {TOKEN, secret} & {*result.output.split()}


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"TELEGRAM_TOKEN": ""}, "boomerang setup telegram needs BOOMERANG_TELEGRAM_TOKEN"),
        ({"TELEGRAM_TOKEN": "12"}, "BOOMERANG_TELEGRAM_TOKEN must be a token of @BotFather"),
        ({"TELEGRAM_SECRET": "short"}, "BOOMERANG_TELEGRAM_SECRET must be 16 to 256 of the characters"),
        ({"TELEGRAM_URL": "api.telegram.org"}, "BOOMERANG_TELEGRAM_URL must be an http or https address"),
        ({"PUBLIC_URL": ""}, "set BOOMERANG_PUBLIC_URL to the https address"),
        ({"PUBLIC_URL": "https://video.example:444"}, "must be https at port 443, 80, 88 or 8443"),
    ],
)
def test_what_is_missing_or_wrong_is_named(settings: dict[str, str], words: str) -> None:
    """One line says what to fix, and nothing is sent."""
    result = setup("--dry-run", **settings)
    assert result.exit_code in {1, 2}
    assert words in result.stderr


def test_token_that_telegram_does_not_accept_is_named(address: str) -> None:
    """The setting to fix, and not the token."""
    result = setup(address=address, TELEGRAM_TOKEN="1:another")
    assert result.exit_code == 1
    assert "Telegram does not accept BOOMERANG_TELEGRAM_TOKEN" in result.stderr
    assert "1:another" not in result.output


# ── slack ────────────────────────────────────────────────────────────────────


def manifest_of(output: str) -> dict[str, Any]:
    """Return the manifest that a command printed; its other lines are comments of YAML."""
    lines = [line for line in output.splitlines() if not line.startswith("#")]
    found: dict[str, Any] = json.loads("\n".join(lines))
    return found


def slack(*options: str, **settings: str) -> Result:
    """Run the command for Slack without any setting of it."""
    return setup_of("slack", *options, **{"TELEGRAM_TOKEN": "", "TELEGRAM_URL": "", **settings})


def test_setup_of_slack_prints_the_manifest_and_what_is_missing() -> None:
    """An app has a token only after its manifest has made it."""
    result = slack()
    assert result.exit_code == 0, result.stderr
    found = manifest_of(result.stdout)
    [command] = found["features"]["slash_commands"]
    assert (command["command"], command["url"]) == ("/video", "https://video.example/handlers/slack/command")
    events = found["settings"]["event_subscriptions"]
    assert events["request_url"] == "https://video.example/handlers/slack/events"
    for name in ("BOOMERANG_SLACK_TOKEN", "BOOMERANG_SLACK_SIGNING_SECRET", "BOOMERANG_SLACK_CHANNELS"):
        assert name in result.stdout


def test_scopes_of_the_manifest_are_those_that_the_bot_uses() -> None:
    """The stand-in refuses each method without its scope."""
    found = manifest_of(slack().stdout)
    assert set(found["oauth_config"]["scopes"]["bot"]) >= SCOPES


def test_setup_of_slack_names_the_bot_of_the_token() -> None:
    """With a token it also says whose it is; neither it nor the secret is shown."""
    with chat_server(SlackApi()) as address:
        given = {"SLACK_TOKEN": SLACK_TOKEN, "SLACK_SIGNING_SECRET": SIGNING_SECRET, "SLACK_URL": f"{address}/api"}
        result = slack(**given, SLACK_USERS="U0ADA")
        wrong = slack(**{**given, "SLACK_TOKEN": "xoxb-another"})
    assert result.stdout.splitlines()[-2:] == [
        "# the token is that of the bot video in the workspace T0001",
        "# 1 users, 0 channels and 0 workspaces may make videos",
    ]
    assert "Slack does not accept BOOMERANG_SLACK_TOKEN (invalid_auth)" in wrong.stderr
    assert not [text for text in (SLACK_TOKEN, SIGNING_SECRET, "xoxb-another") if text in result.output + wrong.output]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"SLACK_TOKEN": "12"}, "BOOMERANG_SLACK_TOKEN must be the bot token"),
        ({"SLACK_TOKEN": "xoxb-1234"}, "needs BOOMERANG_SLACK_TOKEN and BOOMERANG_SLACK_SIGNING_SECRET together"),
        ({"SLACK_SIGNING_SECRET": "short"}, "BOOMERANG_SLACK_SIGNING_SECRET must be the signing secret"),
        ({"SLACK_WEBHOOK_URL": "hooks.slack.com/x"}, "BOOMERANG_SLACK_WEBHOOK_URL must be an http or https address"),
        ({"PUBLIC_URL": ""}, "set BOOMERANG_PUBLIC_URL to the https address"),
    ],
)
def test_what_is_wrong_for_slack_is_named(settings: dict[str, str], words: str) -> None:
    """One line says what to fix."""
    result = slack(**settings)
    assert result.exit_code in {1, 2}
    assert words in result.stderr


# ── discord ──────────────────────────────────────────────────────────────────

DISCORD = {"DISCORD_APPLICATION_ID": APPLICATION, "DISCORD_PUBLIC_KEY": PUBLIC_KEY, "DISCORD_TOKEN": DISCORD_TOKEN}


def discord(*options: str, **settings: str) -> Result:
    """Run the command for Discord."""
    return setup_of("discord", *options, **{**DISCORD, **settings})


def test_setup_of_discord_registers_the_commands_with_one_request() -> None:
    """It prints the address that has to be entered, and the link that invites the bot; `--remove` removes them."""
    api = DiscordApi()
    with chat_server(api) as address:
        result = discord(DISCORD_URL=f"{address}/api/v10", DISCORD_USERS="7")
        assert [each["name"] for each in api.commands] == ["video", "video-status", "video-cancel"]
        assert [each["type"] for each in api.commands[0]["options"]] == [3] + [11] * 7
        assert len(api.requests) == 1
        assert discord("--remove", DISCORD_URL=f"{address}/api/v10", PUBLIC_URL="").exit_code == 0
        assert api.commands == []
    lines = result.stdout.splitlines()
    assert lines[0] == "register the commands /video, /video-status, /video-cancel"
    assert lines[1].endswith(": https://video.example/handlers/discord/interactions")
    assert lines[3] == "1 users, 0 channels and 0 servers may make videos"
    assert not [text for text in (PUBLIC_KEY, DISCORD_TOKEN) if text in result.output]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (dict.fromkeys(DISCORD, ""), "set BOOMERANG_DISCORD_APPLICATION_ID (General Information: Application ID); "),
        ({"DISCORD_TOKEN": ""}, "set BOOMERANG_DISCORD_TOKEN (Bot: Reset Token)"),
        ({"DISCORD_PUBLIC_KEY": "12"}, "BOOMERANG_DISCORD_PUBLIC_KEY must be the Public Key"),
        ({"DISCORD_PUBLIC_KEY": ""}, "needs BOOMERANG_DISCORD_APPLICATION_ID and BOOMERANG_DISCORD_PUBLIC_KEY"),
        ({"DISCORD_TOKEN": "Bot x"}, "BOOMERANG_DISCORD_TOKEN must be the token of the bot, without the word Bot"),
        ({"PUBLIC_URL": "http://video.example"}, "set BOOMERANG_PUBLIC_URL to the https address"),
    ],
)
def test_what_is_wrong_for_discord_is_named(settings: dict[str, str], words: str) -> None:
    """One line says what to fix, and nothing is sent."""
    result = discord("--dry-run", **settings)
    assert result.exit_code in {1, 2}
    assert words in result.stderr


def test_token_that_discord_does_not_accept_is_named() -> None:
    """The setting to fix, and not the token."""
    with chat_server(DiscordApi()) as address:
        result = discord(DISCORD_URL=f"{address}/api/v10", DISCORD_TOKEN="another-token-of-20-letters")
    assert "Discord does not accept BOOMERANG_DISCORD_TOKEN" in result.stderr
    assert "another-token" not in result.output
