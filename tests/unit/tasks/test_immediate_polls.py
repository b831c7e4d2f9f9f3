"""From a callback to its confirmation in one commit: a task that becomes due is polled right after it."""

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
from tests.support.task_loop import MINUTE, TIMEOUT, Loop, open_loop
from tests.support.wait_until_idle import ended


@asynccontextmanager
async def polling_loop(home: Path, **options: Any) -> AsyncIterator[Loop]:
    """Yield the loop of a process that polls at once."""
    async with open_loop(home, **options) as loop:
        loop.poller.open()
        yield loop
        await loop.poller.drain(0)


async def polled(loop: Loop) -> None:
    """Wait until no poll runs."""
    async with asyncio.timeout(TIMEOUT):
        await ended(loop.poller)


@contextmanager
def failing_transaction(immediate_polls: ImmediatePolls) -> Iterator[PollReservations]:
    """Yield what leases tasks in a transaction that fails."""
    with suppress(ZeroDivisionError), immediate_polls.reservations() as reservations:
        yield reservations
        raise ZeroDivisionError


async def test_callback_is_confirmed_without_a_claim(tmp_path: Path) -> None:
    """The poll is leased by the commit that stores the callback, runs right after it, and releases its lease."""
    async with polling_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        await polled(loop)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.leased_until) == (Status.COMPLETED, Source.CALLBACK, None)
        assert loop.upstream.polled == ["up1"]
        assert await loop.poller.run_once() == 0


async def test_closed_process_does_not_poll(tmp_path: Path) -> None:
    """In a web process the poll waits for a process that polls."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        assert loop.upstream.polled == []
        assert await loop.poll_due() == 1


async def test_running_poll_is_not_repeated(tmp_path: Path) -> None:
    """However often a callback is repeated, only one poll of its task runs at a time."""
    async with polling_loop(tmp_path) as loop:
        await loop.submitted()
        loop.upstream.set_fact("up1")
        loop.upstream.poll_gate = asyncio.Event()
        await loop.call_back(vtrix_body("completed"))
        await loop.call_back(vtrix_body("completed", progress=1))
        assert await loop.poller.run_once() == 0
        loop.upstream.poll_gate.set()
        await polled(loop)
        assert loop.upstream.polled == ["up1"]


async def test_poll_without_capacity_waits_for_a_claim(tmp_path: Path) -> None:
    """The rate limit also holds for immediate polls, and nothing is leased in vain."""
    async with polling_loop(tmp_path, concurrency=1) as loop:
        tasks = [await loop.submitted() for _ in range(2)]
        for number in (1, 2):
            loop.upstream.set_fact(f"up{number}")
        loop.upstream.poll_gate = asyncio.Event()
        for order in range(2):
            await loop.call_back(vtrix_body("completed", f"up{order + 1}"), request=order)
        assert (await loop.task(tasks[1].id)).leased_until is None
        loop.upstream.poll_gate.set()
        await polled(loop)
        assert loop.upstream.polled == ["up1"]
        assert await loop.poll_due() == 1
        assert loop.upstream.polled == ["up1", "up2"]


async def test_open_transaction_reserves_capacity(tmp_path: Path) -> None:
    """Neither a claim nor another poll gets it; a failed transaction releases it."""
    async with polling_loop(tmp_path, concurrency=1) as loop:
        task = await loop.submitted()
        loop.clock.move(10 * MINUTE)
        due = await loop.task(task.id)
        with failing_transaction(loop.immediate_polls) as reservations:
            assert reservations.lease(due, loop.clock.now()).leased_until
            assert reservations.lease(due, loop.clock.now()) is due
            assert await loop.poller.run_once() == 0
        assert await loop.poller.run_once() == 1
        await polled(loop)


async def test_failed_commit_starts_no_poll(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed commit starts no poll, reserves no capacity and leases nothing."""
    async with polling_loop(tmp_path) as loop:
        task = await loop.submitted()
        with monkeypatch.context() as broken:
            broken.setattr(SqlUnitOfWork, "notify", _refuse)
            with pytest.raises(ZeroDivisionError):
                await loop.call_back(vtrix_body("completed"))
        assert (loop.upstream.polled, loop.immediate_polls.reserved) == ([], 0)
        assert (await loop.task(task.id)).leased_until is None


def _refuse(_self: Any, _topics: Any) -> None:
    raise ZeroDivisionError


async def test_task_with_a_running_submission_is_not_polled(tmp_path: Path) -> None:
    """Its lease is that of the submission."""
    async with polling_loop(tmp_path) as loop:
        task = await loop.accept()
        await loop.recorder.add(TaskUpdate(task_id=task.id, fact=Fact(status=Status.SUBMITTING, guessed=True)))
        await loop.recorder.add(TaskUpdate(task_id=task.id, due_at=loop.clock.now()))
        after = await loop.task(task.id)
        assert (after.leased_until, after.fence) == (None, task.fence)


async def test_nothing_is_polled_once_the_drain_has_begun(tmp_path: Path) -> None:
    """A task that becomes due during the shutdown is free for other processes at once."""
    async with polling_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.poller.drain(0)
        await loop.call_back(vtrix_body("completed"))
        assert loop.upstream.polled == []
        assert (await loop.task(task.id)).leased_until is None
        assert (await loop.store.health.gauges(loop.clock.now())).oldest_due == timedelta(0)


async def test_close_waits_for_open_transactions(tmp_path: Path) -> None:
    """Their polls start, or their transaction fails; every lease is used or released."""
    async with polling_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.clock.move(10 * MINUTE)
        due = await loop.task(task.id)
        with failing_transaction(loop.immediate_polls) as reservations:
            assert reservations.lease(due, loop.clock.now()).leased_until
            closing = asyncio.create_task(loop.immediate_polls.close())
            await asyncio.sleep(0)
            assert not closing.done()
            assert reservations.lease(due, loop.clock.now()) is due
        async with asyncio.timeout(TIMEOUT):
            await closing
