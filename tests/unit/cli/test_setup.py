"""The command `boomerang setup`, which speaks to the stand-in of the Bot API over a port."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import Result

from handlers._telegram_settings import Settings
from tests.support.telegram_api import TOKEN, TelegramApi
from tests.support.telegram_server import telegram_server
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
    with telegram_server(api) as found:
        yield found


def secret_of(token: str) -> str:
    """Return the secret that the route expects for a bot."""
    return Settings.model_validate({"telegram_token": token}).webhook_secret


def setup(*options: str, address: str = "http://127.0.0.1:9", **settings: str) -> Result:
    """Run the command; `settings` are without the prefix."""
    given = {
        "TELEGRAM_TOKEN": TOKEN,
        "TELEGRAM_URL": address,
        "PUBLIC_URL": "https://video.example",
        "API_KEYS": "ada=" + "k" * 32,
        "EGRESS_ALLOW": "127.0.0.0/8",
        **settings,
    }
    return run("setup", "telegram", *options, env={f"BOOMERANG_{name}": text for name, text in given.items()})


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
