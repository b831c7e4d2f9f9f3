"""How soon a new process answers its first chat command: platforms wait three seconds, imports included."""

import time
from dataclasses import dataclass
from statistics import median

import httpx

from handlers._telegram_settings import Settings
from handlers.telegram import SECRET_HEADER
from service.storage import migrate
from tests.acceptance.environment import client
from tests.acceptance.processes import until
from tests.benchmarks.environment import BenchmarkEnvironment, stopping
from tests.benchmarks.table import Row, milliseconds
from tests.support.chat_server import chat_server
from tests.support.telegram_api import TOKEN, TelegramApi

LIMIT = 3.0
"""Seconds for which Slack and Discord wait for the answer to a command; Telegram waits longer."""


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
    """Return the seconds of the first and of a later command, and those until the bot has written to the chat."""
    found = [await _measure(environment, number) for number in range(environment.sizes.starts)]
    processor = f"{median(each.processor for each in found):.2f} s of CPU"
    later = f"{milliseconds(median(each.later for each in found))} (a later command)"
    return [
        _row("process start → first chat command answered", [each.started for each in found], processor),
        _row("first chat command → answered, imports included", [each.first for each in found], later),
        _row("first chat command → message in the chat", [each.written for each in found]),
    ]


def _row(measure: str, figures: list[float], floor: str = "") -> Row:
    target, reached = f"{LIMIT:.0f} s", median(figures) < LIMIT
    return Row(measure=measure, figure=milliseconds(median(figures)), floor=floor, target=target, reached=reached)


async def _measure(environment: BenchmarkEnvironment, number: int) -> Answer:
    api = TelegramApi()
    database = environment.sqlite(f"chats-{number}")
    await migrate(database)  # as a process finds it that starts again
    with chat_server(api) as telegram:
        began = time.perf_counter()
        child = await environment.service(
            database,
            role="all",
            TELEGRAM_TOKEN=TOKEN,
            TELEGRAM_USERS="7",
            TELEGRAM_URL=telegram,
        )
        async with stopping(child), client(child.url) as http:
            sent = time.perf_counter()
            await _send(http, api.message("/help"))
            answered, processor = time.perf_counter(), child.processor_seconds()
            await until(lambda: bool(api.texts()), what="the answer in the chat", pause=0.005)
            written = time.perf_counter()
            await _send(http, api.message("/help"))
            return Answer(
                started=answered - began,
                first=answered - sent,
                written=written - sent,
                later=time.perf_counter() - written,
                processor=processor,
            )


async def _send(http: httpx.AsyncClient, update: object) -> None:
    secret = Settings.model_validate({"telegram_token": TOKEN}).webhook_secret
    answer = await http.post("/handlers/telegram/webhook", json=update, headers={SECRET_HEADER: secret})
    answer.raise_for_status()
