"""How soon a new process answers its first chat command: platforms wait three seconds, imports included."""

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import httpx

from handlers._telegram_settings import Settings
from handlers.telegram import SECRET_HEADER
from service.storage import migrate
from tests.acceptance.environment import client
from tests.acceptance.processes import until
from tests.benchmarks.environment import BenchmarkEnvironment, stopping
from tests.benchmarks.table import Row, milliseconds
from tests.support import discord_api, slack_api
from tests.support.chat_server import Platform, chat_server
from tests.support.telegram_api import TOKEN, TelegramApi

LIMIT = 3.0
"""Seconds for which Slack and Discord wait for the answer to a command; Telegram waits longer."""


@dataclass(frozen=True, kw_only=True)
class Chat:
    """A platform: its stand-in, the settings of the service, a command, and whether the chat has its effect."""

    name: str
    api: Platform
    setting: str
    path: str
    settings: Mapping[str, str] = field(repr=False)
    command: Callable[[httpx.AsyncClient], Awaitable[None]]
    written: Callable[[], bool]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Seconds of one process: from its start, for the first command, until the chat has it, and for a later command.

    `processor` are the seconds of CPU until the first command was answered.
    """

    started: float
    first: float
    written: float
    later: float
    processor: float


async def chats(environment: BenchmarkEnvironment) -> list[Row]:
    """Return for each platform the seconds of the first and of a later command, and those until the chat has it."""
    rows: list[Row] = []
    for make in (_telegram, _slack, _discord):
        found = [await _measure(environment, make(), number) for number in range(environment.sizes.starts)]
        rows += _rows(make().name, found)
    return rows


def _rows(name: str, found: list[Answer]) -> list[Row]:
    processor = f"{median(each.processor for each in found):.2f} s of CPU"
    later = f"{milliseconds(median(each.later for each in found))} (a later command)"
    return [
        _row(f"process start → first {name} command answered", [each.started for each in found], processor),
        _row(f"first {name} command → answered, imports included", [each.first for each in found], later),
        _row(f"first {name} command → message in the chat", [each.written for each in found]),
    ]


def _row(measure: str, figures: list[float], floor: str = "") -> Row:
    target, reached = f"{LIMIT:.0f} s", median(figures) < LIMIT
    return Row(measure=measure, figure=milliseconds(median(figures)), floor=floor, target=target, reached=reached)


async def _measure(environment: BenchmarkEnvironment, chat: Chat, number: int) -> Answer:
    database = environment.sqlite(f"chats-{chat.name}-{number}")
    await migrate(database)  # as a process finds it that starts again
    with chat_server(chat.api) as platform:
        settings: dict[str, Any] = {**chat.settings, chat.setting: platform + chat.path}
        began = time.perf_counter()
        child = await environment.service(database, role="all", **settings)
        async with stopping(child), client(child.url) as http:
            sent = time.perf_counter()
            await chat.command(http)
            answered, processor = time.perf_counter(), child.processor_seconds()
            await until(chat.written, what="the answer in the chat", pause=0.005)
            written = time.perf_counter()
            await chat.command(http)
            return Answer(
                started=answered - began,
                first=answered - sent,
                written=written - sent,
                later=time.perf_counter() - written,
                processor=processor,
            )


async def _post(http: httpx.AsyncClient, path: str, **request: Any) -> dict[str, Any]:
    answer = (await http.post(path, **request)).raise_for_status()
    found: dict[str, Any] = answer.json() if answer.content else {}
    return found


def _telegram() -> Chat:
    api = TelegramApi()
    secret = Settings.model_validate({"telegram_token": TOKEN}).webhook_secret

    async def command(http: httpx.AsyncClient) -> None:
        await _post(http, "/handlers/telegram/webhook", json=api.message("/help"), headers={SECRET_HEADER: secret})

    settings = {"TELEGRAM_TOKEN": TOKEN, "TELEGRAM_USERS": "7"}

    def written() -> bool:
        return bool(api.texts())

    return Chat(
        name="Telegram",
        api=api,
        setting="TELEGRAM_URL",
        path="",
        settings=settings,
        command=command,
        written=written,
    )


def _slack() -> Chat:
    api = slack_api.SlackApi()
    settings = {
        "SLACK_TOKEN": slack_api.TOKEN,
        "SLACK_SIGNING_SECRET": slack_api.SIGNING_SECRET,
        "SLACK_USERS": slack_api.USER,
    }

    async def command(http: httpx.AsyncClient) -> None:
        request = api.command("status")
        await _post(http, "/handlers/slack/command", content=request.content, headers=request.headers)

    def written() -> bool:
        return any(call.method == "chat.postEphemeral" for call in api.calls)

    return Chat(
        name="Slack",
        api=api,
        setting="SLACK_URL",
        path="/api",
        settings=settings,
        command=command,
        written=written,
    )


def _discord() -> Chat:
    api = discord_api.DiscordApi()
    settings = {
        "DISCORD_APPLICATION_ID": discord_api.APPLICATION,
        "DISCORD_PUBLIC_KEY": discord_api.PUBLIC_KEY,
        "DISCORD_TOKEN": discord_api.TOKEN,
        "DISCORD_USERS": discord_api.USER,
    }

    async def command(http: httpx.AsyncClient) -> None:
        interaction = api.command(name="video-status")
        request = api.signed(interaction)
        content, headers = request.content, request.headers
        answer = await _post(http, "/handlers/discord/interactions", content=content, headers=headers)
        api.take_answer(interaction, answer)

    def written() -> bool:
        return any(each.answer and each.answer.text for each in api.interactions.values())

    return Chat(
        name="Discord",
        api=api,
        setting="DISCORD_URL",
        path="/api/v10",
        settings=settings,
        command=command,
        written=written,
    )
