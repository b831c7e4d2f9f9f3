"""Validation of new tasks: addresses of events, and the thread that validates."""

import asyncio
import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import InvalidParams
from service.domain.media.limits import ImageFacts
from service.tasks.new_task import NewTask, ValidatedTask, validate_new_task
from tests.support.sample_media import image, uri
from tests.support.task_loop import GOOD, Loop, open_loop


async def test_callback_address_becomes_a_notify_entry(tmp_path: Path) -> None:
    """The caller's callback_url is added to notify; the payload is not sent."""
    async with open_loop(tmp_path) as loop:
        hook = {"handler": "webhook", "url": "https://caller.example/one"}
        params = GOOD | {"callback_url": "https://caller.example/two", "payload": "mine"}
        task = await loop.accept(params=params, notify=[hook])
        assert task.notify == (hook, {"handler": "webhook", "url": "https://caller.example/two"})
        assert "callback_url" not in task.params
        assert "payload" not in task.params


async def test_callback_address_needs_the_webhook_handler(tmp_path: Path) -> None:
    """Without the webhook handler a callback_url is refused instead of ignored."""
    async with open_loop(tmp_path, handlers=("log",)) as loop:
        with pytest.raises(InvalidParams) as caught:
            await loop.accept(params=GOOD | {"callback_url": "https://caller.example/two"})
        assert [fault.loc for fault in caught.value.faults] == [("params", "callback_url")]


async def test_blocked_address_is_refused_everywhere(tmp_path: Path) -> None:
    """No address is accepted that could only fail: the fault contains the reason and the location."""
    inside, outside = "http://127.0.0.1/hook", "https://caller.example/hook"
    async with open_loop(tmp_path, refusal=lambda url: "is inside" if url == inside else None) as loop:
        notify = [{"handler": "webhook", "url": url} for url in (outside, inside)]
        with pytest.raises(InvalidParams) as caught:
            await loop.accept(params=GOOD | {"callback_url": inside}, notify=notify)
        assert [(fault.loc, fault.msg) for fault in caught.value.faults] == [
            (("notify", 1, "url"), "is inside"),
            (("params", "callback_url"), "is inside"),
        ]


async def validation_threads(loop: Loop, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> list[bool]:
    """Return, for each validation of a request, whether it ran outside of the event loop."""
    beside: list[bool] = []

    def noted(new: NewTask, **rules: Any) -> ValidatedTask:
        beside.append(threading.current_thread() is not threading.main_thread())
        return validate_new_task(new, **rules)

    monkeypatch.setattr("service.tasks.task_service.validate_new_task", noted)
    await loop.accept(**changes)
    return beside


@pytest.mark.parametrize(
    ("changes", "beside"),
    [
        ({"size": 1000}, False),
        ({}, True),
        ({"size": 300_000}, True),
        ({"size": 1000, "params": GOOD | {"images": [uri("image/png", image())]}}, True),
        ({"size": 1000, "params": GOOD | {"images": [uri("image/png", image()).replace("data:", "DATA:")]}}, True),
    ],
    ids=["addresses", "of unknown size", "long", "a picture", "a picture in capitals"],
)
async def test_files_are_never_opened_on_the_event_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], beside: bool
) -> None:
    """Slow validation runs in a thread; a few addresses are validated in the event loop."""
    async with open_loop(tmp_path) as loop:
        assert await validation_threads(loop, monkeypatch, **changes) == [beside]


@dataclass(frozen=True, kw_only=True)
class BlockedInspector:
    """An inspector whose work for the client `flood` ends only when `release` is set."""

    client: str = ""
    release: threading.Event = field(default_factory=threading.Event)
    inspecting: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def for_client(self, client: str) -> "BlockedInspector":
        """Return the inspector of one client."""
        return replace(self, client=client)

    def image(self, data: bytes) -> ImageFacts:
        """Return the facts of an image."""
        del data
        if self.client == "flood":
            self.inspecting.release()
            assert self.release.wait(10)
        return ImageFacts(format="png", width=160, height=128)

    def video(self, data: bytes) -> None:
        """Return None."""
        del data


async def test_pictures_of_one_client_leave_threads_for_others(tmp_path: Path) -> None:
    """While a flood of slow pictures is decoded and more wait, the pictures of two other clients are accepted."""
    async with open_loop(tmp_path) as loop:
        loop.task_service.inspect = inspector = BlockedInspector()
        pictures = {"params": GOOD | {"images": [uri("image/png", image())]}}
        flood = [asyncio.create_task(loop.accept(client="flood", **pictures)) for _ in range(50)]
        try:
            assert await asyncio.to_thread(inspector.inspecting.acquire, timeout=10)
            async with asyncio.timeout(10):
                for client in ("normal", "another", "normal"):
                    assert (await loop.accept(client=client, **pictures)).client == client
            assert not any(task.done() for task in flood)
        finally:
            inspector.release.set()
        assert {task.client for task in await asyncio.gather(*flood)} == {"flood"}


def metadata_of(size: int) -> dict[str, str]:
    """Return metadata that take `size` bytes of JSON without blanks, with characters of several bytes."""
    empty = len('{"note":"é","more":"x"}'.encode())
    return {"note": "é" + "x" * (size - empty), "more": "x"}


@pytest.mark.parametrize(("size", "accepted"), [(64 * 1024, True), (64 * 1024 + 1, False)])
async def test_metadata_take_up_to_64_kib(tmp_path: Path, size: int, accepted: bool) -> None:
    """Metadata of exactly 64 KiB of UTF-8 are accepted, one byte more is refused with both numbers."""
    async with open_loop(tmp_path) as loop:
        if accepted:
            assert (await loop.accept(metadata=metadata_of(size))).metadata == metadata_of(size)
            return
        with pytest.raises(InvalidParams) as caught:
            await loop.accept(metadata=metadata_of(size))
        [fault] = caught.value.faults
        assert fault.loc == ("metadata",)
        assert fault.msg.startswith(f"must be at most {64 * 1024:,} bytes of JSON, is {size:,}")
