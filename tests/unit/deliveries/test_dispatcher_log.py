"""Log lines about the end of an attempt."""

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

from service.deliveries.handler_api import Event, Handle, Tools
from service.domain.errors import Retry
from tests.support.delivery_builders import TIMEOUT, dispatcher_setup, handler
from tests.support.sample_handlers import captured_logs


async def _fail(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id
    raise KeyError("chat")


async def _retry(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id
    raise Retry("not now", after=77)


async def test_each_outcome_is_one_line_without_secrets() -> None:
    """Each outcome is one log line with task, delivery, handler, attempt and event, and no body, key or secret."""
    setup = dispatcher_setup(handler("sample", _fail))
    setup.queue.put("sample", target={"url": "https://x.example/?k=1", "secret": "whsec_c2VjcmV0"})
    with captured_logs() as lines:
        await setup.run_until_idle()
    assert [line["event"] for line in lines] == ["delivery"]
    expected = {
        "task": "task-1",
        "delivery": "delivery-1",
        "handler": "sample",
        "attempt": 1,
        "event_type": "task.completed",
        "outcome": "retry",
        "error": "KeyError: 'chat'",
    }
    assert expected.items() <= lines[0].items()
    assert not any(word in str(lines) for word in ("whsec_", "prompt", "the caller's", "x.example"))


@pytest.mark.parametrize(("attempts", "again_at"), [(1, None), (5, "2026-05-06T12:10:59+00:00")])
async def test_failure_is_a_warning(attempts: int, again_at: str | None) -> None:
    """Each failed attempt is logged as a warning, with the time of the next attempt if there is one."""
    setup = dispatcher_setup(handler("sample", _retry, attempts=attempts))
    setup.queue.put("sample")
    with captured_logs() as lines:
        await setup.run_until_idle()
    assert [(line["log_level"], line.get("again_at")) for line in lines] == [("warning", again_at)]


async def _hang(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id
    await asyncio.sleep(TIMEOUT * 10)


async def _misread(event: Event, tools: Tools) -> None:
    assert tools.message_id
    json.loads(event.type)


async def _fail_in_a_group(event: Event, tools: Tools) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_fail(event, tools))


@pytest.mark.parametrize(
    ("handle", "raising", "offset"),
    [(_fail, _fail, 3), (_misread, _misread, 2), (_fail_in_a_group, _fail, 3), (_hang, _hang, 3)],
)
async def test_failure_names_the_line_of_the_handler(handle: Handle, raising: Callable[..., Any], offset: int) -> None:
    """File and line are those of the handler, also if Python's own code raised the error, or the timeout elapsed."""
    setup = dispatcher_setup(handler("sample", handle, timeout=0.01))
    setup.queue.put("sample")
    with captured_logs() as lines:
        await setup.run_until_idle()
    assert [line["where"] for line in lines] == [
        f"deliveries/test_dispatcher_log.py:{inspect.getsourcelines(raising)[1] + offset}"
    ]
