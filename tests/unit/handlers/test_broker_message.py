"""Events as CloudEvents 1.0: below 64 KB, and readable for any consumer."""

import json
from typing import Any

import pytest

pytest.importorskip("cloudevents", reason="cloudevents is not installed")

from handlers._broker_message import MAX_DATA, Message, message_of
from service import Event, Reject
from service.testing import sample_event, sample_task

LIMIT = 64_000


def message(event: Event) -> Message:
    """Return the message of an event."""
    return message_of(event, "msg_1", source="urn:test", type_prefix="org.example")


def data_of(event: Event) -> dict[str, Any]:
    """Return the data of an event's message, after a check of all its forms."""
    made = message(event)
    headers, body = made.nats_binary()
    for size in (len(made.structured()), len(json.dumps(headers)) + len(body), len(made.rabbitmq_binary()[1])):
        assert size < LIMIT
    assert all(text.isascii() and text.isprintable() for text in headers.values())
    data: dict[str, Any] = json.loads(body)
    assert json.loads(made.structured())["data"] == data
    return data


def test_small_event_is_complete() -> None:
    """Payload, metadata and artifact are there."""
    event = sample_event("artifact.stored", payload="mine")
    data = data_of(event)
    assert (data["payload"], data["metadata"], data["client"]) == ("mine", {"sample": True}, "sample")
    assert data["artifact"]["media_type"] == "video/mp4"
    assert data["task"] == json.loads(json.dumps(event.task.to_json()))
    assert "payload_bytes" not in data


@pytest.mark.parametrize(
    ("payload", "metadata", "prompt", "missing"),
    [
        (70_000, 10, 10, {"payload"}),
        (30_000, 40_000, 10, {"metadata"}),
        (100, 10, 61_000, {"params"}),
        (50_000, 50_000, 50_000, {"metadata", "params"}),
        (1_048_576, 65_536, 10, {"payload", "metadata"}),
    ],
)
def test_large_parts_are_replaced(payload: int, metadata: int, prompt: int, missing: set[str]) -> None:
    """Of the largest parts only the size is there, and the path of the task that has them."""
    task = sample_task(metadata={"note": "m" * metadata}, params={"prompt": "p" * prompt})
    data = data_of(sample_event(task=task, payload="x" * payload))
    assert {part for part in ("payload", "metadata", "params") if f"{part}_bytes" in data} == missing
    for part in missing:
        assert data.get(part) is None
        assert data["task"].get(part) is None
        assert data[f"{part}_url"] == f"/v1/tasks/{task.id}"


def test_non_ascii_text_counts_as_it_is_written() -> None:
    """A payload below the limit in characters may be above it as JSON."""
    data = data_of(sample_event(payload="\U0001f600" * 6_000))
    assert (data["payload"], data["payload_bytes"]) == (None, 12 * 6_000 + 2)


def test_lone_surrogates_and_control_characters_are_published() -> None:
    """Text that no UTF-8 has does not stop an event."""
    assert data_of(sample_event(payload="\ud800 \x00 \r\n"))["payload"] == "\ud800 \x00 \r\n"


def test_event_that_stays_too_large_is_rejected() -> None:
    """An output of thousands of addresses has no place in a message."""
    task = sample_task(output=[{"type": "video", "url": "https://example.com/" + "x" * MAX_DATA}])
    with pytest.raises(Reject, match="more than 60000 bytes"):
        message(sample_event(task=task))
