"""Prints what people read in each chat, from the command to the end: `python -m tests.unit.handlers [telegram ...]`."""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from service.sandbox import Switches
from tests.support.discord_api import OTHER_CHANNEL
from tests.support.sample_media import image
from tests.support.sandbox_tasks import end_at_provider
from tests.support.slack_api import BOT, FOREIGN
from tests.unit.handlers.discord.conftest import Bot as Discord
from tests.unit.handlers.slack.conftest import Bot as Slack
from tests.unit.handlers.telegram.conftest import Bot as Telegram

PICTURE, NARROW = image("JPEG", (640, 480)), image("JPEG", (100, 20))
QUICK = Switches(run_time=0.0, tiny_videos=True, callbacks=False)
LONG = Switches(run_time=3600.0, tiny_videos=True, callbacks=False)
Order = Callable[[Any, bytes, bool], Awaitable[object]]
"""Lets a person order a video with a picture; the last argument is whether the person is invited."""


async def _telegram(bot: Telegram, picture: bytes, invited: bool) -> None:
    who = 7 if invited else 8
    await bot.write("/video a cat jumps", photo=picture, user=who, chat=who)


async def _slack(bot: Slack, picture: bytes, invited: bool) -> None:
    if invited:
        await bot.write(f"<@{BOT}> a cat jumps", pictures=(picture,))
    else:
        await bot.command("a cat jumps", channel=FOREIGN)


async def _discord(bot: Discord, picture: bytes, invited: bool) -> None:
    where = {} if invited else {"channel": OTHER_CHANNEL}
    await bot.command("a cat jumps", pictures=(picture,), **where)


CHATS: Mapping[str, tuple[Callable[..., Any], Order]] = {
    "telegram": (Telegram, _telegram),
    "slack": (Slack, _slack),
    "discord": (Discord, _discord),
}


async def _success(bot: Any, order: Order) -> None:
    await order(bot, PICTURE, True)
    await bot.finish()


async def _refused_user(bot: Any, order: Order) -> None:
    await order(bot, PICTURE, False)


async def _invalid_request(bot: Any, order: Order) -> None:
    await order(bot, NARROW, True)


async def _longer_than_a_token(bot: Any, order: Order) -> None:
    """Let the task run for 45 minutes: Discord's token lives for 15, the address for answers of Slack for 30."""
    await order(bot, PICTURE, True)
    for _ in range(9):
        await bot.test.advance(300)
    await end_at_provider(bot.test.sandbox)
    await bot.finish()


JOURNEYS: Mapping[str, tuple[Switches, Callable[[Any, Order], Awaitable[None]]]] = {
    "success": (QUICK, _success),
    "refused user": (QUICK, _refused_user),
    "invalid request": (QUICK, _invalid_request),
    "failure of the provider": (Switches(**{**vars(QUICK), "fail_tasks": 1.0}), _success),
    "task longer than the token of its command": (LONG, _longer_than_a_token),
}


async def transcript(chat: str, journey: str) -> list[str]:
    """Return what was written in a chat, in its order: each message of the person and of the bot."""
    (make, order), (switches, run) = CHATS[chat], JOURNEYS[journey]
    bot = make(switches=switches)
    async with bot.test:
        await run(bot, order)
    return [*bot.api.log]


def _chats() -> list[str]:
    """Return the chats that the command line names, else all."""
    parser = argparse.ArgumentParser(prog="python -m tests.unit.handlers", description=__doc__)
    parser.add_argument("chats", nargs="*", metavar="CHAT", help=f"one of {', '.join(CHATS)}; all by default")
    chats: list[str] = parser.parse_args().chats
    if unknown := sorted({*chats} - {*CHATS}):
        parser.error(f"unknown chats: {', '.join(unknown)}")
    return chats or [*CHATS]


async def _print(chats: list[str]) -> None:
    for chat in chats:
        for journey in JOURNEYS:
            sys.stdout.write(f"\n── {chat}: {journey}\n")
            for line in await transcript(chat, journey):
                sys.stdout.write(f"  {line}".replace("\n", "\n      ") + "\n")


if __name__ == "__main__":
    chosen = _chats()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    asyncio.run(_print(chosen))
