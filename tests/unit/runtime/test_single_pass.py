"""A single pass processes everything that is due once, and returns when that has ended."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import pytest

from service.deliveries import dispatcher as dispatch
from service.domain.errors import StoreUnavailable, Throttled
from service.domain.task import Status
from service.runtime.worker import Worker
from service.tasks.poller import Poller
from service.tasks.submitter import Submitter
from tests.support.delivery_builders import handler
from tests.support.sample_handlers import a_deaf_one
from tests.support.scripted_provider import DONE
from tests.support.task_loop import MINUTE, PATIENCE, a_loop
from tests.support.wait_until_idle import ended
from tests.support.worker_builder import build_worker

T = TypeVar("T")


async def _in_time(work: Awaitable[T]) -> T:
    async with asyncio.timeout(PATIENCE):
        return await work


async def _once(worker: Worker) -> dict[str, int]:
    return await _in_time(worker.reconcile_once())


async def test_pass_processes_everything_that_is_due(tmp_path: Path) -> None:
    """Queued tasks are submitted, due tasks are polled and the resulting deliveries are dispatched."""
    async with a_loop(tmp_path) as loop:
        seen: list[str] = []
        worker = build_worker(loop, seen)
        task = await loop.submitted()
        loop.upstream.tell("up1")
        loop.clock.move(MINUTE)
        await loop.accept()
        done = await _once(worker)
        assert done == {"swept": 0, "submitted": 1, "polled": 1, "dispatched": 3}
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert sorted(seen) == ["task.completed", "task.submitted", "task.submitted"]
        assert sum((await _once(worker)).values()) == 0
        await worker.drain(0)


async def test_pass_stops_while_the_provider_pauses(tmp_path: Path) -> None:
    """A pause of an hour ends the pass and is reported; submissions that were not sent are queued again, unbilled."""
    async with a_loop(tmp_path, rate=1000) as loop:
        seen: list[str] = []
        worker = build_worker(loop, seen)
        loop.upstream.creates.append(DONE)
        await loop.submitted()
        loop.upstream.creates.append(Throttled("slow down", retry_after=timedelta(hours=1)))
        tasks = [await loop.accept() for _ in range(3)]
        done = await _once(worker)
        assert 3590 <= done.pop("upstream_pause_seconds") <= 3600
        assert done["dispatched"] == 2
        await _in_time(ended(loop.submitter))
        assert [(await loop.task(task.id)).status for task in tasks] == [Status.QUEUED] * 3
        assert sum(loop.upstream.bills.values()) == 1


async def test_pass_waits_for_earlier_work_and_processes_what_it_makes_due(tmp_path: Path) -> None:
    """Another job of the process may have started the work first; the pass does not return before it has ended."""
    async with a_loop(tmp_path) as loop:
        seen: list[str] = []
        worker, gate, running = build_worker(loop, seen), asyncio.Event(), loop.submitter.running
        loop.upstream.gate = gate
        await loop.accept()
        assert await loop.submitter.run_once() == 1

        def open_gate() -> set[asyncio.Task[None]]:
            gate.set()
            return running()

        with patch.object(Submitter, "running", lambda _: open_gate()):
            done = await _once(worker)
        assert (done["submitted"], done["dispatched"], seen) == (0, 1, ["task.submitted"])


async def test_pass_ends_while_other_work_starts(tmp_path: Path) -> None:
    """Work that another job starts meanwhile does not delay the result, however long it takes."""
    async with a_loop(tmp_path) as loop:
        worker, first, later = build_worker(loop, []), asyncio.Event(), asyncio.Event()
        loop.upstream.gate = first
        await loop.accept()
        running_pass = asyncio.create_task(worker.reconcile_once())
        await _in_time(loop.upstream.arrived.wait())
        loop.upstream.gate = later
        await loop.accept()
        assert await loop.submitter.run_once() == 1
        first.set()
        assert (await _in_time(running_pass))["submitted"] == 1
        later.set()


async def test_pass_does_not_wait_for_an_unresponsive_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that ignored its cancellation delays neither this pass nor later ones."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    async with a_loop(tmp_path) as loop:
        with a_deaf_one() as unresponsive:
            worker = build_worker(loop, [], handler("log", unresponsive, timeout=0.001))
            await loop.submitted()
            assert (await _once(worker))["dispatched"] == 1
            assert worker.dispatcher.in_flight == 1
            assert (await _once(worker))["dispatched"] == 0
        await worker.drain(PATIENCE)


async def test_second_caller_gets_the_result_of_the_running_pass(tmp_path: Path) -> None:
    """Concurrent callers get the same result; a cancelled caller does not affect the others."""
    async with a_loop(tmp_path) as loop:
        worker, gate = build_worker(loop, []), asyncio.Event()
        loop.upstream.gate = gate
        await loop.accept()
        first, second, third = (asyncio.create_task(worker.reconcile_once()) for _ in range(3))
        await _in_time(loop.upstream.arrived.wait())
        first.cancel()
        gate.set()
        assert await _in_time(second) == await _in_time(third)
        assert (await second)["submitted"] == 1
        assert (await _once(worker))["submitted"] == 0


async def test_pass_starts_nothing_after_its_time_limit(tmp_path: Path) -> None:
    """The caller gets a result in time; the rest stays due for the next pass."""
    async with a_loop(tmp_path) as loop:
        worker = build_worker(loop, [])
        await loop.accept()
        assert (await _in_time(worker.reconcile_once(start_within=timedelta())))["submitted"] == 0
        assert (await _once(worker))["submitted"] == 1


async def test_pass_starts_nothing_after_a_stop(tmp_path: Path) -> None:
    """A stop ends the pass early with what was done, and later passes do nothing."""
    async with a_loop(tmp_path, concurrency=1) as loop:
        worker, gate = build_worker(loop, []), asyncio.Event()
        loop.upstream.line = gate
        for _ in range(3):
            await loop.accept()
        running_pass = asyncio.create_task(worker.reconcile_once())
        await _in_time(loop.upstream.arrived.wait())
        stopping = asyncio.create_task(worker.drain(PATIENCE))
        assert (await _in_time(running_pass))["submitted"] == 1
        gate.set()
        await _in_time(stopping)
        assert (await _once(worker))["submitted"] == 0
        assert sum(loop.upstream.bills.values()) == 1


async def test_failed_pass_raises_its_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets the error, and the next pass runs normally."""
    async with a_loop(tmp_path) as loop:
        worker = build_worker(loop, [])

        async def gone(_: Poller) -> None:
            raise StoreUnavailable("the database is away")

        with monkeypatch.context() as patched:
            patched.setattr(Poller, "update_estimates", gone)
            with pytest.raises(StoreUnavailable):
                await _once(worker)
        assert (await _once(worker))["submitted"] == 0
