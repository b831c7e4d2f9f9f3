"""Registers the bot at Telegram: the webhook with its secret, the updates that it wants, and its menu of commands."""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx

from service import Reject

from ._telegram_bot import import_telegram, make_bot, mapped
from ._telegram_settings import Settings

if TYPE_CHECKING:
    from telegram import Bot

PATH = "/handlers/telegram/webhook"
PORTS = frozenset({443, 80, 88, 8443})
ALLOWED_UPDATES = ("message",)
MAX_CONNECTIONS = 20
"""Updates that Telegram sends at once: their number is limited by the route too."""

COMMANDS = {
    "video": "make a video of photos: send them with this command as the caption",
    "status": "show your newest videos",
    "cancel": "cancel your newest unfinished video",
    "help": "how to make a video",
}


def webhook_address(public_url: str) -> str:
    """Return the address of the webhook; raises Reject if Telegram cannot send to it."""
    if not public_url:
        raise Reject("set BOOMERANG_PUBLIC_URL to the https address at which Telegram reaches this service")
    parts = urlsplit(public_url)
    if parts.scheme != "https" or (parts.port or 443) not in PORTS:
        raise Reject("BOOMERANG_PUBLIC_URL must be https at port 443, 80, 88 or 8443: Telegram sends to no other")
    return public_url.rstrip("/") + PATH


async def setup(
    config: Settings, http: httpx.AsyncClient, *, public_url: str, remove: bool, dry_run: bool
) -> AsyncIterator[str]:
    """Register the bot, or remove it, and yield a line for each step. Raises Reject, Retry with what to fix."""
    await import_telegram()
    from telegram.error import TelegramError  # noqa: PLC0415 - heavy

    address = "" if remove else webhook_address(public_url)
    would = "would " if dry_run else ""
    bot = make_bot(config, http)
    try:
        if not dry_run:
            yield await _who_and_where(bot)
        if remove:
            if not dry_run:
                await bot.delete_webhook()
                await bot.delete_my_commands()
            yield f"{would}remove the webhook and the menu of commands"
            return
        if not dry_run:
            await _register(bot, address, config.webhook_secret)
    except TelegramError as error:
        raise mapped(error) from error
    yield f"{would}register the webhook {address} with its secret, for: {', '.join(ALLOWED_UPDATES)}"
    yield f"{would}register the commands {', '.join(f'/{name}' for name in COMMANDS)}"
    for line in _who_may_spend(config):
        yield line


async def check(config: Settings, http: httpx.AsyncClient, *, public_url: str) -> str | None:
    """Return in one line what is wrong with where Telegram sends updates, and its fix; None if all is well.

    Raises Retry, Reject if Telegram cannot be called.
    """
    await import_telegram()
    from telegram.error import TelegramError  # noqa: PLC0415 - heavy

    address = webhook_address(public_url)
    try:
        info = await make_bot(config, http).get_webhook_info()
    except TelegramError as error:
        raise mapped(error) from error
    if info.url != address:
        return f"Telegram sends updates to {info.url or 'no address'}; run `boomerang setup telegram`"
    if info.last_error_message and info.pending_update_count:
        waiting = f"{info.pending_update_count} updates wait"
        return f"Telegram cannot deliver to {address}, {waiting}: {info.last_error_message[:200]}"
    return None


async def _who_and_where(bot: "Bot") -> str:
    me, info = await bot.get_me(), await bot.get_webhook_info()
    before = f", its webhook was {info.url}" if info.url else ", it had no webhook"
    return f"the bot is @{me.username}{before}"


async def _register(bot: "Bot", address: str, secret: str) -> None:
    await bot.set_webhook(
        address, secret_token=secret, allowed_updates=ALLOWED_UPDATES, max_connections=MAX_CONNECTIONS
    )
    await bot.set_my_commands(list(COMMANDS.items()))


def _who_may_spend(config: Settings) -> list[str]:
    chats, users = len(config.telegram_chats), len(config.telegram_users)
    if chats or users:
        return [f"{users} users and everybody in {chats} chats may make videos"]
    return [
        "nobody may make videos yet: write to the bot, it answers with your id,",
        "then set BOOMERANG_TELEGRAM_USERS (or BOOMERANG_TELEGRAM_CHATS) and restart the service",
    ]
