"""Submissions whose worker dies, stops or finds the database away: the real store, and one bill."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from service.domain.errors import NotSent
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Status, UpstreamId
from service.tasks import recorder as record_module
from tests.support.task_loop import LEASE, MINUTE, PATIENCE, SECOND, a_loop, a_world
from tests.support.wait_until_idle import ended


async def test_dead_workers_submission_is_swept_into_doubt_and_its_late_reply_lands(tmp_path: Path) -> None:
    """Past its lease a submission is in doubt, not sent again; a reply that comes after all still counts."""
    async with a_world(tmp_path) as world:
        slow, other = world.process(), world.process()
        world.upstream.line = asyncio.Event()
        task = await slow.accept()
        await slow.submitter.run_once()
        await _arrival(world.upstream.arrived)
        assert await other.submitter.sweep() == 0
        world.clock.move(LEASE + SECOND)
        assert await other.submitter.sweep() == 1
        assert (await other.task(task.id)).status is Status.IN_DOUBT
        assert await other.submit_due() == 0
        world.upstream.line.set()
        await ended(slow.submitter)
        after = await other.task(task.id)
        assert (after.status, after.upstream_id, after.leased_until) == (Status.IN_PROGRESS, "up1", None)
        assert world.upstream.bills == {task.id: 1}


async def test_a_process_that_slept_does_not_doubt_what_it_has_in_hand(tmp_path: Path) -> None:
    """Leases that ran out while the machine slept are renewed before anybody looks for abandoned submissions."""
    async with a_world(tmp_path) as world:
        loop, other = world.process(), world.process()
        world.upstream.gate = asyncio.Event()
        task = await loop.accept()
        await loop.submitter.run_once()
        await _arrival(world.upstream.arrived)
        world.clock.move(LEASE + SECOND)
        assert await loop.submitter.sweep() == 0
        assert await other.submitter.sweep() == 0
        world.upstream.gate.set()
        await ended(loop.submitter)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert await loop.happened(task.id) == ["task.submitted"]


async def test_late_never_left_does_nothing_once_another_took_over(tmp_path: Path) -> None:
    """After another worker has claimed the doubtful task, the first one's conclusions count no more."""
    async with a_world(tmp_path, lists=True) as world:
        slow, other = world.process(), world.process()
        world.upstream.gate = asyncio.Event()
        world.upstream.creates.append(NotSent("refused after a long while"))
        task = await slow.accept()
        await slow.submitter.run_once()
        await _arrival(world.upstream.arrived)
        world.clock.move(LEASE + SECOND)
        await other.submitter.sweep()
        world.clock.move(MINUTE)
        assert await other.poll_due() == 1
        before = await other.task(task.id)
        world.upstream.gate.set()
        await ended(slow.submitter)
        assert await other.task(task.id) == before
        assert before.status is Status.IN_DOUBT


async def test_stop_queues_again_what_had_not_left(tmp_path: Path) -> None:
    """A submission cut off before it left is queued, due at once and free; the next process sends and pays it once."""
    async with a_world(tmp_path) as world:
        first = world.process()
        world.upstream.gate = asyncio.Event()
        task = await first.accept()
        await first.submitter.run_once()
        await _arrival(world.upstream.arrived)
        await first.submitter.drain(0)
        after = await first.task(task.id)
        assert (after.status, after.leased_until, after.due_at) == (Status.QUEUED, None, world.clock.now())
        world.upstream.gate = None
        await world.process().submit_due()
        assert (await first.task(task.id)).status is Status.IN_PROGRESS
        assert world.upstream.bills == {task.id: 1}


async def test_stop_leaves_in_doubt_what_may_have_left(tmp_path: Path) -> None:
    """A submission cut off while it waits for its reply is in doubt, without a lease."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.line = asyncio.Event()
        task = await loop.accept()
        await loop.submitter.run_once()
        await _arrival(loop.upstream.arrived)
        await loop.submitter.drain(0)
        after = await loop.task(task.id)
        assert (after.status, after.leased_until) == (Status.IN_DOUBT, None)


async def test_stop_waits_for_a_reply_that_is_being_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in hand when a stop's time is up may be all that names a bill: it is written down first."""
    async with a_loop(tmp_path) as loop:
        transaction, entered, goes_on = loop.units_of_work.transaction, asyncio.Event(), asyncio.Event()

        @asynccontextmanager
        async def slow() -> AsyncIterator[Any]:
            entered.set()
            await goes_on.wait()
            async with transaction() as inner:
                yield inner

        monkeypatch.setattr(loop.units_of_work, "transaction", slow)
        task = await loop.accept()
        await loop.submitter.run_once()
        await _arrival(entered)
        stop = asyncio.create_task(loop.submitter.drain(0))
        await anyio.wait_all_tasks_blocked()
        goes_on.set()
        await stop
        after = await loop.task(task.id)
        assert (after.status, after.upstream_id) == (Status.IN_PROGRESS, "up1")


async def test_reply_is_kept_until_the_store_takes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that comes while the database is away is recorded once it is back: nothing is in doubt."""
    monkeypatch.setattr(record_module, "RETRY_PAUSE", 0.01)
    async with a_loop(tmp_path) as loop:
        file, away = tmp_path / "loop.db", tmp_path / "away.db"

        async def lose_the_file(_order: ProviderRequest, _id: UpstreamId) -> None:
            file.rename(away)

        loop.upstream.before_reply = lose_the_file
        task = await loop.accept()
        await loop.submitter.run_once()
        await _arrival(loop.units_of_work.number(loop.units_of_work.transactions + 3))
        away.rename(file)
        await ended(loop.submitter)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert await loop.happened(task.id) == ["task.submitted"]


async def _arrival(event: asyncio.Event) -> None:
    async with asyncio.timeout(PATIENCE):
        await event.wait()
