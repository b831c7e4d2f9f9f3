"""Tasks that a handler submits: the same checks, limits and idempotency as those of a client."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from service import Conflict, InvalidTask, NotFound, Reject, data_uri
from service.deliveries import handler_tasks
from service.testing import HandlerTest
from tests.support.sample_media import image
from tests.unit.handler_api import bot

MODEL = "viduq2_pro_reference"
PARAMS = {"prompt": "a cat", "images": ["https://files.example/cat.png"]}
SETTINGS = {"BOT_SECRET": "secret", "API_KEYS": "ada=key-of-ada,root=key-of-root:admin", "CLIENT_RATE": "none,ada=1"}


@pytest.fixture
async def test() -> AsyncIterator[HandlerTest]:
    """Yield the running handler."""
    async with HandlerTest(bot.handlers, settings=SETTINGS) as running:
        yield running


async def submit(test: HandlerTest, **changes: Any) -> Any:
    """Submit a task with these changes."""
    return await test.tools.submit(**({"model": MODEL, "params": PARAMS} | changes))


async def test_task_is_stored_before_it_is_sent(test: HandlerTest) -> None:
    """It belongs to the handler, which alone reads it."""
    task = await submit(test, metadata={"chat": 7})
    assert (task.status, task.metadata, test.sandbox.bills) == ("queued", {"chat": 7}, [])
    stored = await test._application.store.queries.task(task.id)
    assert stored is not None
    assert stored.client == "handler:bot"
    assert await test.tools.task(task.id) == task
    assert await test.tools.task(task.id, client=stored.client) == task
    assert await test.tools.task("no such task") is None
    assert (await test.finish(task.id)).status == "completed"


async def test_same_key_gives_the_first_task(test: HandlerTest) -> None:
    """Another request with the key is refused, and other handlers and clients have keys of their own."""
    first = await submit(test, idempotency_key="update/1")
    assert (await submit(test, idempotency_key="update/1")).id == first.id
    with pytest.raises(InvalidTask, match="idempotency_key: "):
        await submit(test, idempotency_key="update/1", metadata={"a": 1})
    assert (await submit(test, idempotency_key="update/1", client="ada")).id != first.id
    assert len(await test.tasks()) == 2


async def test_every_fault_is_a_line_in_plain_words(test: HandlerTest) -> None:
    """Of parameters, metadata and notify; uncaught, it is a dead letter, as the same request never succeeds."""
    with pytest.raises(InvalidTask) as caught:
        await submit(
            test,
            params={"prompt": "", "images": [], "duration": 99},
            notify=[{"handler": "bot"}, {"handler": "log"}, {"handler": "pager"}],
        )
    locations = [fault.loc for fault in caught.value.faults]
    assert ("params", "duration") in locations
    assert ("notify", 0, "chat") in locations
    lines = str(caught.value).splitlines()
    assert len(lines) == len(locations)
    assert "notify.0.chat: is required" in lines
    assert any(line.startswith("duration: ") for line in lines)
    assert any(line.startswith("notify.1.handler: is not a loaded handler; ") for line in lines)
    assert isinstance(caught.value, Reject)


@pytest.mark.parametrize(
    "params", [{"prompt": "\0"}, {"prompt": "\ud800"}, {"prompt": b"bytes"}, {"prompt": float("nan")}, {"x": "\\\0"}]
)
async def test_what_is_no_json_or_cannot_be_stored_is_refused(test: HandlerTest, params: dict[str, Any]) -> None:
    """As the API refuses it."""
    with pytest.raises(InvalidTask):
        await submit(test, params=params)
    assert await test.tasks() == []


async def test_backslash_before_u0000_is_text(test: HandlerTest) -> None:
    """Only the character itself is refused."""
    assert (await submit(test, params=PARAMS | {"prompt": "\\u0000"})).params["prompt"] == "\\u0000"


async def test_request_has_a_maximum_size(test: HandlerTest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Like the body of a client's request."""
    monkeypatch.setattr(handler_tasks, "MAX_REQUEST", 1000)
    with pytest.raises(InvalidTask, match="at most 1,000 are allowed"):
        await submit(test, metadata={"a": "x" * 1000})


async def test_media_go_up_as_bytes(test: HandlerTest) -> None:
    """A data URI is stored apart, and the task shows its size."""
    data = image()
    task = await submit(test, params=PARAMS | {"images": [data_uri(data, "image/png")]})
    [stored] = task.params["images"]
    assert (stored["media_type"], stored["bytes"]) == ("image/png", len(data))


async def test_task_counts_for_the_client_that_is_named(test: HandlerTest) -> None:
    """Past the rate of that client it waits, and its note says so."""
    first, second = await submit(test, client="ada"), await submit(test, client="ada")
    await test.advance(1)
    found = [await test.tools.task(each.id, client="ada") for each in (first, second)]
    assert [task and task.status for task in found][1] == "queued"
    assert found[1] is not None
    assert found[1].note
    assert await test.tools.task(first.id) is None
    with pytest.raises(ValueError, match="a client must be"):
        await submit(test, client="handler:other")


async def test_task_is_canceled_while_it_is_queued(test: HandlerTest) -> None:
    """A task of another client is unknown, and one that has ended is not canceled."""
    task = await submit(test)
    with pytest.raises(NotFound):
        await test.tools.cancel(task.id, client="ada")
    assert (await test.tools.cancel(task.id)).status == "canceled"
    with pytest.raises(Conflict, match="already canceled"):
        await test.tools.cancel(task.id)
    with pytest.raises(NotFound):
        await test.tools.cancel("no such task")
