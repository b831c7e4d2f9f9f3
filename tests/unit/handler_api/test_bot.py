"""A chat bot over the public API: signed updates, albums, caps, faults in plain words, the answer in the chat."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from service.testing import HandlerTest
from tests.unit.handler_api import bot

SECRET = "secret-of-the-platform"
PHOTO = "https://files.example/{}.png"


@pytest.fixture
async def test() -> AsyncIterator[HandlerTest]:
    """Yield the running bot."""
    async with HandlerTest(bot.handlers, settings={"BOT_SECRET": SECRET}) as running:
        yield running


async def send(test: HandlerTest, number: int, *, album: str = "a1", photo: str | None = None, chat: int = 7) -> Any:
    """Send an update as the platform does; return the answer's body."""
    body = {"id": number, "album": album, "photo": photo or PHOTO.format(number), "chat": chat}
    response = await test.request("POST", "/update", json=body, headers={"x-secret": SECRET})
    assert response.status_code == 200
    return response.json()


def texts(test: HandlerTest) -> list[str]:
    """Return what the bot has written."""
    return [json.loads(request.content)["text"] for request in test.requests]


async def test_album_becomes_one_task_whose_result_comes_back_to_the_chat(test: HandlerTest) -> None:
    """Photos that come seconds apart, and twice, are one task of the handler's own client."""
    assert [await send(test, number) for number in (1, 2, 2)] == [{}, {}, {"text": "seen before"}]
    await test.advance(2.4)
    assert await test.tasks() == []
    await send(test, 3)
    await test.advance(2.4)
    assert await test.tasks() == []
    await test.advance(0.1)
    [task] = await test.tasks()
    assert task.params["images"] == [PHOTO.format(number) for number in (1, 2, 3)]
    assert (await test.finish(task.id)).status == "completed"
    assert texts(test) == ["task.completed"]
    [bill] = test.sandbox.bills
    assert bill.upstream_id
    assert (await test.tools.task(task.id)) is not None
    assert await test.tools.task(task.id, client="ada") is None


async def test_photos_without_end_are_a_task_in_time(test: HandlerTest) -> None:
    """The quiet window is renewed up to twelve seconds after the first photo."""
    for number in range(6):
        await send(test, number)
        await test.advance(2)
    [task] = await test.tasks()
    assert len(task.params["images"]) == 6


async def test_faults_reach_the_chat_in_plain_words(test: HandlerTest) -> None:
    """Every fault is a line."""
    await send(test, 1, photo="no address")
    await send(test, 2, photo="http://")
    await test.advance(3)
    [text] = texts(test)
    assert [line.partition(":")[0] for line in text.splitlines()] == ["images.0", "images.1"]
    assert await test.tasks() == []


async def test_cap_of_a_day_is_kept_and_ends(test: HandlerTest) -> None:
    """The third album of a day is refused, and the next day begins anew."""
    for number in range(3):
        await send(test, number, album=f"album {number}")
    await test.advance(3)
    assert texts(test) == ["enough for today"]
    assert len(await test.tasks()) == 2
    await test.advance(86_400)
    await send(test, 9, album="tomorrow")
    await test.advance(3)
    assert len(await test.tasks()) == 3


async def test_unsigned_update_is_refused_without_details(test: HandlerTest) -> None:
    """The handler's own words are not answered, as they may help an attacker."""
    response = await test.request("POST", "/update", json={})
    assert response.status_code == 401
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json() == {"type": "about:blank", "title": "Unauthorized", "status": 401}


async def test_failing_route_is_answered_without_details(test: HandlerTest) -> None:
    """A body that is no JSON raises in the handler; the answer has the id of the log line."""
    response = await test.request("POST", "/update", content=b"{secret", headers={"x-secret": SECRET})
    assert response.status_code == 500
    assert response.json()["type"] == "urn:boomerang:problem:internal-error"
    assert "secret" not in response.text


async def test_large_body_is_refused_before_the_handler_reads_it(test: HandlerTest) -> None:
    """The limit is the route's."""
    response = await test.request("POST", "/update", content=b" " * 2001, headers={"x-secret": SECRET})
    assert response.status_code == 413


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/update", 405), ("POST", "/other", 404)])
async def test_other_addresses_are_not_served(test: HandlerTest, method: str, path: str, status: int) -> None:
    """A method or path that the handler does not register."""
    assert (await test.request(method, path)).status_code == status


async def test_closed_chat_spends_nothing() -> None:
    """Lists are written with commas, and typed."""
    async with HandlerTest(bot.handlers, settings={"BOT_SECRET": SECRET, "BOT_CHATS": "7, 8"}) as test:
        assert await send(test, 1, chat=9) == {"text": "not here"}
        assert test.tools.config.bot_chats == (7, 8)


async def test_delivery_has_the_declared_options(test: HandlerTest) -> None:
    """A target that does not fit any more is a dead letter that names every fault."""
    outcome = await test.deliver("task.failed", target={"chat": 7})
    assert outcome.delivered
    assert texts(test) == ["task.failed"]
    outcome = await test.deliver("task.failed", target={"chat": "x", "colour": 1})
    assert outcome.outcome == "dead"
    assert outcome.error is not None
    assert "chat must be" in outcome.error
    assert "colour is unknown" in outcome.error
