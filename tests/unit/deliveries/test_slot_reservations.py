"""From a fact to its handler in one commit: deliveries recorded in a dispatching process start right after it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Event, Tools
from service.domain.task import Fact, Source, Status
from service.domain.task_update import TaskUpdate
from service.storage.unit_of_work import SqlUnitOfWork
from tests.support.delivery_builders import TIMEOUT, handler
from tests.support.task_loop import LEASE, SECOND, Loop, open_loop
from tests.support.wait_until_idle import ended
from tests.support.worker_builder import build_dispatcher


class RecordingHandler:
    """A handler that records its tasks, and waits while `may_end` is cleared."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Record the task."""
        assert tools.message_id
        self.tasks.append(event.task.id)
        await self.may_end.wait()


@asynccontextmanager
async def _dispatching(
    home: Path, *, name: str = "log", opened: bool = True, slots: int = 2
) -> AsyncIterator[tuple[Loop, Dispatcher, RecordingHandler]]:
    recording = RecordingHandler()
    async with open_loop(home, handlers=(name,), local_handlers=(handler(name, recording, concurrency=slots),)) as loop:
        dispatcher = build_dispatcher(loop)
        if opened:
            dispatcher.open()
        yield loop, dispatcher, recording
        await dispatcher.drain(0)


async def _settled(dispatcher: Dispatcher) -> None:
    async with asyncio.timeout(TIMEOUT):
        await ended(dispatcher)


async def test_recorded_delivery_starts_at_once(tmp_path: Path) -> None:
    """Its handler runs without a claim, and the delivery is stored as delivered."""
    async with _dispatching(tmp_path) as (loop, dispatcher, recording):
        recording.may_end.clear()
        task = await loop.submitted()
        assert dispatcher.in_flight == 1
        recording.may_end.set()
        await _settled(dispatcher)
        assert recording.tasks == [task.id]
        assert await loop.happened(task.id, "attempt") == ["delivered"]
        assert await dispatcher.run_once() == 0


async def test_nothing_starts_where_nothing_dispatches(tmp_path: Path) -> None:
    """In a web process the delivery waits for a process that dispatches."""
    async with _dispatching(tmp_path, opened=False) as (loop, dispatcher, recording):
        task = await loop.submitted()
        assert (dispatcher.in_flight, recording.tasks) == (0, [])
        assert await dispatcher.run_once() == 1
        await _settled(dispatcher)
        assert recording.tasks == [task.id]


async def test_failed_commit_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It runs no handler and takes no slot; recorded again, the fact's handler runs once."""
    async with _dispatching(tmp_path, slots=1) as (loop, dispatcher, recording):
        task = await loop.accept()
        ended = TaskUpdate(task_id=task.id, fact=Fact(status=Status.FAILED), source=Source.POLL)
        with monkeypatch.context() as broken:
            broken.setattr(SqlUnitOfWork, "notify", _refuse)
            with pytest.raises(ZeroDivisionError):
                await loop.recorder.add(ended)
        assert (dispatcher.in_flight, recording.tasks) == (0, [])
        await loop.recorder.add(ended)
        await _settled(dispatcher)
        assert recording.tasks == [task.id]


def _refuse(_self: Any, _topics: Any) -> None:
    raise ZeroDivisionError


async def test_late_commit_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the commit took longer than the lease, another process may have it: the delivery is claimed instead."""
    async with _dispatching(tmp_path) as (loop, dispatcher, recording):
        whole = SqlUnitOfWork.notify

        def late(self: SqlUnitOfWork, topics: Any) -> None:
            loop.clock.move(LEASE)
            whole(self, topics)

        with monkeypatch.context() as slow:
            slow.setattr(SqlUnitOfWork, "notify", late)
            task = await loop.submitted()
        assert (dispatcher.in_flight, recording.tasks) == (0, [])
        assert await loop.store.signals.wait("dispatch", 0)
        for wait in (timedelta(), 5 * SECOND):  # its lease is over, so that somebody may have begun it
            loop.clock.move(wait)
            assert await dispatcher.run_once() == 1
            await _settled(dispatcher)
        assert recording.tasks == [task.id]


async def test_leases_at_insert_stay_within_the_share_of_their_client(tmp_path: Path) -> None:
    """Of four slots a client's targets take two, also if nothing waited before."""
    async with _dispatching(tmp_path, name="webhook", slots=4) as (loop, dispatcher, recording):
        recording.may_end.clear()
        for _ in range(4):
            await loop.submitted(notify=[{"handler": "webhook", "url": "https://ann.example/"}])
        assert dispatcher.in_flight == 2
        await loop.submitted(client="bob", notify=[{"handler": "webhook", "url": "https://bob.example/"}])
        assert dispatcher.in_flight == 3
        recording.may_end.set()


async def test_delivery_without_a_free_slot_waits_in_order(tmp_path: Path) -> None:
    """Beyond a handler's slots nothing starts; waiting deliveries are claimed before new ones start at once."""
    async with _dispatching(tmp_path, slots=1) as (loop, dispatcher, recording):
        recording.may_end.clear()
        first, second = await loop.submitted(), await loop.submitted()
        assert dispatcher.in_flight == 1
        recording.may_end.set()
        await _settled(dispatcher)
        third = await loop.submitted()
        assert dispatcher.in_flight == 0
        while await dispatcher.run_once():
            await _settled(dispatcher)
        recording.may_end.clear()
        fourth = await loop.submitted()
        assert dispatcher.in_flight == 1
        recording.may_end.set()
        await _settled(dispatcher)
        assert recording.tasks == [first.id, second.id, third.id, fourth.id]


async def test_nothing_starts_once_the_drain_has_begun(tmp_path: Path) -> None:
    """A delivery that is recorded during the shutdown is free for other processes at once."""
    async with _dispatching(tmp_path) as (loop, dispatcher, recording):
        await dispatcher.drain(0)
        await loop.submitted()
        assert (dispatcher.in_flight, recording.tasks) == (0, [])
        assert (await loop.store.health.gauges(loop.clock.now())).oldest_due == timedelta(0)
