"""The handler that writes one log line for each event."""

import logging

import pytest

from handlers.log import log
from tests.support.delivery_builders import event, tools


async def test_each_event_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The line names the event, the task, its model and status."""
    caplog.set_level(logging.INFO)
    await log(event(), tools())
    assert [record.getMessage() for record in caplog.records] == [
        "task.completed task=task-1 model=viduq2_pro_reference status=completed outputs=1 event=event-1"
    ]


async def test_line_contains_nothing_private(caplog: pytest.LogCaptureFixture) -> None:
    """Neither prompt nor payload nor metadata nor URL is logged."""
    caplog.set_level(logging.INFO)
    await log(event(), tools())
    assert not any(word in caplog.text for word in ("secret prompt", "the caller's", "chat", "files.example", "hidden"))
