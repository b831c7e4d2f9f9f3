"""The requests of the library through the HTTP client of the service."""

from typing import Any

import httpx
import pytest
from telegram import Bot, InputFile
from telegram.error import NetworkError, TimedOut

from handlers._telegram_requests import FloodControl, OperatorRequest
from tests.support.telegram_api import PRIVATE, TOKEN


def bot_with(answer: Any) -> tuple[Bot, list[httpx.Request]]:
    """Return a bot whose requests get `answer`, a response or an exception, and the list of its requests."""
    requests: list[httpx.Request] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        if isinstance(answer, Exception):
            raise answer
        response: httpx.Response = answer
        return response

    request = OperatorRequest(httpx.AsyncClient(transport=httpx.MockTransport(respond)))
    return Bot(TOKEN, base_url="http://telegram/bot", request=request, get_updates_request=request), requests


async def test_time_for_an_upload_grows_with_its_size() -> None:
    """40 MB may take minutes to be sent and processed; a text may not."""
    sent = {"message_id": 1, "date": 1, "chat": {"id": PRIVATE, "type": "private"}}
    bot, requests = bot_with(httpx.Response(200, json={"ok": True, "result": sent}))
    await bot.send_video(PRIVATE, InputFile(b"x" * 40_000_000, filename="a.mp4"))
    await bot.send_message(PRIVATE, "x")
    upload, text = (request.extensions["timeout"] for request in requests)
    assert upload["read"] > 400
    assert text["read"] == pytest.approx(15, abs=0.1)


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (httpx.ReadTimeout("at http://telegram/bot" + TOKEN), TimedOut),
        (httpx.ConnectError("at http://telegram/bot" + TOKEN), NetworkError),
        (httpx.Response(200, content=b"x" * 2_000_000), NetworkError),
        (httpx.Response(502, content=b"<html>"), NetworkError),
        (httpx.Response(429, content=b"<html>"), FloodControl),
        (httpx.Response(429, json={"parameters": {"retry_after": "soon"}}), FloodControl),
    ],
)
async def test_every_failure_is_an_error_without_the_token(answer: Any, error: type[Exception]) -> None:
    """A proxy may answer with HTML, and an answer may be endless."""
    bot, _ = bot_with(answer)
    with pytest.raises(error) as caught:
        await bot.send_message(PRIVATE, "x")
    assert TOKEN not in str(caught.value)
