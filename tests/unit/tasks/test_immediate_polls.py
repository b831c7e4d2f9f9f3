"""From a callback to its confirmation in one commit: what is due for a question is asked about right after it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.domain.task import Fact, Source, Status
from service.domain.task_update import TaskUpdate
from service.storage.unit_of_work import SqlUnitOfWork
from service.tasks.immediate_polls import ImmediatePolls, PollReservations
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import MINUTE, PATIENCE, Loop, a_loop
from tests.support.wait_until_idle import ended


@asynccontextmanager
async def a_loop_that_asks(place: Path, **options: Any) -> AsyncIterator[Loop]:
    """Yield the loop of a process that asks at once."""
    async with a_loop(place, **options) as loop:
        loop.poller.open()
        yield loop
        await loop.poller.drain(0)


async def answered(loop: Loop) -> None:
    """Wait for what is in hand."""
    async with asyncio.timeout(PATIENCE):
        await ended(loop.poller)


@contextmanager
def failing(immediate_polls: ImmediatePolls) -> Iterator[PollReservations]:
    """Yield what leases tasks in a transaction that comes to nothing."""
    with suppress(ZeroDivisionError), immediate_polls.reservations() as born:
        yield born
        raise ZeroDivisionError


async def test_callback_is_confirmed_without_a_round(tmp_path: Path) -> None:
    """The question is leased by the commit that keeps the callback, asked right after it, and gives its lease back."""
    async with a_loop_that_asks(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.tell("up1")
        await loop.call_back(vtrix_body("completed"))
        await answered(loop)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.leased_until) == (Status.COMPLETED, Source.CALLBACK, None)
        assert loop.upstream.asked == ["up1"]
        assert await loop.poller.run_once() == 0


async def test_nobody_asks_where_nobody_said_so(tmp_path: Path) -> None:
    """In a process that only receives the question waits for one that asks."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        assert loop.upstream.asked == []
        assert await loop.poll_due() == 1


async def test_question_in_hand_is_not_asked_twice(tmp_path: Path) -> None:
    """However often a callback repeats what another one said, its task is asked about by one at a time."""
    async with a_loop_that_asks(tmp_path) as loop:
        await loop.submitted()
        loop.upstream.tell("up1")
        loop.upstream.fetch_line = asyncio.Event()
        await loop.call_back(vtrix_body("completed"))
        await loop.call_back(vtrix_body("completed", progress=1))
        assert await loop.poller.run_once() == 0
        loop.upstream.fetch_line.set()
        await answered(loop)
        assert loop.upstream.asked == ["up1"]


async def test_without_room_it_waits_for_a_round(tmp_path: Path) -> None:
    """The budget of requests holds for what is born in hand, too, and nothing is leased in vain."""
    async with a_loop_that_asks(tmp_path, concurrency=1) as loop:
        tasks = [await loop.submitted() for _ in range(2)]
        for number in (1, 2):
            loop.upstream.tell(f"up{number}")
        loop.upstream.fetch_line = asyncio.Event()
        for order in range(2):
            await loop.call_back(vtrix_body("completed", f"up{order + 1}"), order=order)
        assert (await loop.task(tasks[1].id)).leased_until is None
        loop.upstream.fetch_line.set()
        await answered(loop)
        assert loop.upstream.asked == ["up1"]
        assert await loop.poll_due() == 1
        assert loop.upstream.asked == ["up1", "up2"]


async def test_room_is_kept_for_questions_of_a_transaction_under_way(tmp_path: Path) -> None:
    """Neither a round nor another question gets it; a transaction that fails gives it back."""
    async with a_loop_that_asks(tmp_path, concurrency=1) as loop:
        task = await loop.submitted()
        loop.clock.move(10 * MINUTE)
        due = await loop.task(task.id)
        with failing(loop.immediate_polls) as born:
            assert born.lease(due, loop.clock.now()).leased_until
            assert born.lease(due, loop.clock.now()) is due
            assert await loop.poller.run_once() == 0
        assert await loop.poller.run_once() == 1
        await answered(loop)


async def test_what_was_not_committed_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit that fails asks nothing, keeps no room and leases nothing."""
    async with a_loop_that_asks(tmp_path) as loop:
        task = await loop.submitted()
        with monkeypatch.context() as broken:
            broken.setattr(SqlUnitOfWork, "notify", _refuse)
            with pytest.raises(ZeroDivisionError):
                await loop.call_back(vtrix_body("completed"))
        assert (loop.upstream.asked, loop.immediate_polls.reserved) == ([], 0)
        assert (await loop.task(task.id)).leased_until is None


def _refuse(_self: Any, _topics: Any) -> None:
    raise ZeroDivisionError


async def test_task_whose_submission_is_under_way_is_not_asked_about(tmp_path: Path) -> None:
    """Its lease is that of whoever submits it."""
    async with a_loop_that_asks(tmp_path) as loop:
        task = await loop.accept()
        await loop.recorder.add(TaskUpdate(task_id=task.id, fact=Fact(status=Status.SUBMITTING, guessed=True)))
        await loop.recorder.add(TaskUpdate(task_id=task.id, due_at=loop.clock.now()))
        after = await loop.task(task.id)
        assert (after.leased_until, after.fence) == (None, task.fence)


async def test_nothing_is_asked_once_the_end_has_begun(tmp_path: Path) -> None:
    """What becomes due while the process ends is free for another at once."""
    async with a_loop_that_asks(tmp_path) as loop:
        task = await loop.submitted()
        await loop.poller.drain(0)
        await loop.call_back(vtrix_body("completed"))
        assert loop.upstream.asked == []
        assert (await loop.task(task.id)).leased_until is None
        assert (await loop.store.health.gauges(loop.clock.now())).oldest_due == timedelta(0)


async def test_the_end_waits_for_questions_of_a_transaction_under_way(tmp_path: Path) -> None:
    """They are asked, or come to nothing, and are not forgotten under a lease."""
    async with a_loop_that_asks(tmp_path) as loop:
        task = await loop.submitted()
        loop.clock.move(10 * MINUTE)
        due = await loop.task(task.id)
        with failing(loop.immediate_polls) as born:
            assert born.lease(due, loop.clock.now()).leased_until
            closing = asyncio.create_task(loop.immediate_polls.close())
            await asyncio.sleep(0)
            assert not closing.done()
            assert born.lease(due, loop.clock.now()) is due
        async with asyncio.timeout(PATIENCE):
            await closing
