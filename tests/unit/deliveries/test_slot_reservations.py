"""From a fact to its handler in one commit: what is recorded in a process that dispatches is started right after."""

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
from tests.support.delivery_builders import PATIENCE, handler, tools
from tests.support.task_loop import LEASE, SECOND, Loop, open_loop
from tests.support.wait_until_idle import ended


class Guest:
    """A handler that remembers which tasks it was given, and may be made to wait."""

    def __init__(self) -> None:
        self.tasks: list[str] = []
        self.may_end = asyncio.Event()
        self.may_end.set()

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Remember the task."""
        assert tools.message_id
        self.tasks.append(event.task.id)
        await self.may_end.wait()


@asynccontextmanager
async def _scene(
    place: Path, *, name: str = "log", opened: bool = True, slots: int = 2
) -> AsyncIterator[tuple[Loop, Dispatcher, Guest]]:
    guest = Guest()
    async with open_loop(place, handlers=(name,), crew=(handler(name, guest, concurrency=slots),)) as loop:
        dispatch = Dispatcher(
            queue=loop.store.deliveries,
            slots=loop.slots,
            tools=lambda _claim, _handler: tools(),
            clock=loop.clock,
            schedule=(timedelta(),),
            jitter=lambda: 0.0,
        )
        if opened:
            dispatch.open()
        yield loop, dispatch, guest
        await dispatch.drain(0)


async def _settled(dispatch: Dispatcher) -> None:
    async with asyncio.timeout(PATIENCE):
        await ended(dispatch)


async def test_what_is_recorded_is_started_at_once(tmp_path: Path) -> None:
    """Its handler runs without a round, and it is stored as delivered."""
    async with _scene(tmp_path) as (loop, dispatch, guest):
        task = await loop.submitted()
        assert dispatch.in_flight == 1
        await _settled(dispatch)
        assert guest.tasks == [task.id]
        assert await loop.happened(task.id, "attempt") == ["delivered"]
        assert await dispatch.run_once() == 0


async def test_nothing_is_started_where_nobody_dispatches(tmp_path: Path) -> None:
    """In a process that only receives it waits for one that dispatches."""
    async with _scene(tmp_path, opened=False) as (loop, dispatch, guest):
        task = await loop.submitted()
        assert (dispatch.in_flight, guest.tasks) == (0, [])
        assert await dispatch.run_once() == 1
        await _settled(dispatch)
        assert guest.tasks == [task.id]


async def test_what_was_not_committed_is_not_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails runs no handler and takes no place; recorded again, the fact's handler runs once."""
    async with _scene(tmp_path, slots=1) as (loop, dispatch, guest):
        task = await loop.accept()
        ended = TaskUpdate(task_id=task.id, fact=Fact(status=Status.FAILED), source=Source.POLL)
        with monkeypatch.context() as broken:
            broken.setattr(SqlUnitOfWork, "notify", _refuse)
            with pytest.raises(ZeroDivisionError):
                await loop.recorder.add(ended)
        assert (dispatch.in_flight, guest.tasks) == (0, [])
        await loop.recorder.add(ended)
        await _settled(dispatch)
        assert guest.tasks == [task.id]


def _refuse(_self: Any, _topics: Any) -> None:
    raise ZeroDivisionError


async def test_what_was_committed_too_late_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the commit took longer than the lease, somebody else may have it: it is claimed, not just started."""
    async with _scene(tmp_path) as (loop, dispatch, guest):
        whole = SqlUnitOfWork.notify

        def late(self: SqlUnitOfWork, topics: Any) -> None:
            loop.clock.move(LEASE)
            whole(self, topics)

        with monkeypatch.context() as slow:
            slow.setattr(SqlUnitOfWork, "notify", late)
            task = await loop.submitted()
        assert (dispatch.in_flight, guest.tasks) == (0, [])
        assert await loop.store.signals.wait("dispatch", 0)
        for wait in (timedelta(), 5 * SECOND):  # its lease is over, so that somebody may have begun it
            loop.clock.move(wait)
            assert await dispatch.run_once() == 1
            await _settled(dispatch)
        assert guest.tasks == [task.id]


async def test_births_have_places_only_within_the_share_of_their_client(tmp_path: Path) -> None:
    """Of four places a client's targets take two, also where nothing had waited before."""
    async with _scene(tmp_path, name="webhook", slots=4) as (loop, dispatch, guest):
        guest.may_end.clear()
        for _ in range(4):
            await loop.submitted(notify=[{"handler": "webhook", "url": "https://ann.example/"}])
        assert dispatch.in_flight == 2
        await loop.submitted(client="bob", notify=[{"handler": "webhook", "url": "https://bob.example/"}])
        assert dispatch.in_flight == 3
        guest.may_end.set()


async def test_what_finds_no_place_waits_its_turn(tmp_path: Path) -> None:
    """Beyond a handler's places nothing is started; what waits is claimed before anything new is started."""
    async with _scene(tmp_path, slots=1) as (loop, dispatch, guest):
        guest.may_end.clear()
        first, second = await loop.submitted(), await loop.submitted()
        assert dispatch.in_flight == 1
        guest.may_end.set()
        await _settled(dispatch)
        third = await loop.submitted()
        assert dispatch.in_flight == 0
        while await dispatch.run_once():
            await _settled(dispatch)
        fourth = await loop.submitted()
        assert dispatch.in_flight == 1
        await _settled(dispatch)
        assert guest.tasks == [first.id, second.id, third.id, fourth.id]


async def test_nothing_is_started_once_the_end_has_begun(tmp_path: Path) -> None:
    """What is recorded while the process ends is free for another at once."""
    async with _scene(tmp_path) as (loop, dispatch, guest):
        await dispatch.drain(0)
        await loop.submitted()
        assert (dispatch.in_flight, guest.tasks) == (0, [])
        assert (await loop.store.health.gauges(loop.clock.now())).oldest_due == timedelta(0)
