"""A single pass: process everything that is due, once, for processes that run only at times."""

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
from tests.support.sample_handlers import unresponsive_handler
from tests.support.scripted_provider import DONE
from tests.support.task_loop import MINUTE, TIMEOUT, open_loop
from tests.support.wait_until_idle import ended
from tests.support.worker_builder import build_worker

T = TypeVar("T")


async def _in_time(work: Awaitable[T]) -> T:
    async with asyncio.timeout(TIMEOUT):
        return await work


async def _once(worker: Worker) -> dict[str, int]:
    return await _in_time(worker.reconcile_once())


async def test_single_pass_processes_everything_that_is_due(tmp_path: Path) -> None:
    """Queued tasks are submitted, due ones polled, and their events are dispatched, in one pass."""
    async with open_loop(tmp_path) as loop:
        seen: list[str] = []
        worker = build_worker(loop, seen)
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        loop.clock.move(MINUTE)
        await loop.accept()
        done = await _once(worker)
        assert done == {"swept": 0, "submitted": 1, "polled": 1, "dispatched": 3}
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert sorted(seen) == ["task.completed", "task.submitted", "task.submitted"]
        assert sum((await _once(worker)).values()) == 0
        await worker.drain(0)


async def test_single_pass_ends_while_the_provider_pauses(tmp_path: Path) -> None:
    """A pause of an hour ends the pass at once and is returned; tasks that were not sent are queued again, unbilled."""
    async with open_loop(tmp_path, rate=1000) as loop:
        seen: list[str] = []
        worker = build_worker(loop, seen)
        loop.upstream.creates.append(DONE)
        await loop.submitted()
        loop.upstream.creates.append(Throttled("too many requests", retry_after=timedelta(hours=1)))
        tasks = [await loop.accept() for _ in range(3)]
        done = await _once(worker)
        assert 3590 <= done.pop("upstream_pause_seconds") <= 3600
        assert done["dispatched"] == 2
        await _in_time(ended(loop.submitter))
        assert [(await loop.task(task.id)).status for task in tasks] == [Status.QUEUED] * 3
        assert sum(loop.upstream.charges.values()) == 1


async def test_single_pass_waits_for_running_work_and_its_results(tmp_path: Path) -> None:
    """Work that was running before the pass ends within it, even if the process sleeps after the response."""
    async with open_loop(tmp_path) as loop:
        seen: list[str] = []
        worker, gate, running = build_worker(loop, seen), asyncio.Event(), loop.submitter.running
        loop.upstream.send_gate = gate
        await loop.accept()
        assert await loop.submitter.run_once() == 1

        def running_with_gate_open() -> set[asyncio.Task[None]]:
            gate.set()
            return running()

        with patch.object(Submitter, "running", lambda _: running_with_gate_open()):
            done = await _once(worker)
        assert (done["submitted"], done["dispatched"], seen) == (0, 1, ["task.submitted"])


async def test_single_pass_ends_while_new_work_arrives(tmp_path: Path) -> None:
    """Work that another job of the process starts meanwhile does not delay the result."""
    async with open_loop(tmp_path) as loop:
        worker, first, later = build_worker(loop, []), asyncio.Event(), asyncio.Event()
        loop.upstream.send_gate = first
        await loop.accept()
        first_pass = asyncio.create_task(worker.reconcile_once())
        await _in_time(loop.upstream.arrived.wait())
        loop.upstream.send_gate = later
        await loop.accept()
        assert await loop.submitter.run_once() == 1
        first.set()
        assert (await _in_time(first_pass))["submitted"] == 1
        later.set()


async def test_single_pass_does_not_wait_for_an_unresponsive_handler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A handler that ignores its timeout delays neither this result nor the next ones."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    async with open_loop(tmp_path) as loop:
        with unresponsive_handler() as unresponsive:
            worker = build_worker(loop, [], handler("log", unresponsive, timeout=0.001))
            await loop.submitted()
            assert (await _once(worker))["dispatched"] == 1
            assert worker.dispatcher.in_flight == 1
            assert (await _once(worker))["dispatched"] == 0
        await worker.drain(TIMEOUT)


async def test_concurrent_callers_get_the_result_of_the_running_pass(tmp_path: Path) -> None:
    """Concurrent callers get the same result; a caller that is cancelled does not affect the others."""
    async with open_loop(tmp_path) as loop:
        worker, gate = build_worker(loop, []), asyncio.Event()
        loop.upstream.send_gate = gate
        await loop.accept()
        first, second, third = (asyncio.create_task(worker.reconcile_once()) for _ in range(3))
        await _in_time(loop.upstream.arrived.wait())
        first.cancel()
        gate.set()
        assert await _in_time(second) == await _in_time(third)
        assert (await second)["submitted"] == 1
        assert (await _once(worker))["submitted"] == 0


async def test_single_pass_starts_nothing_after_its_time(tmp_path: Path) -> None:
    """The caller gets a result in time; the rest is for the next pass."""
    async with open_loop(tmp_path) as loop:
        worker = build_worker(loop, [])
        await loop.accept()
        assert (await _in_time(worker.reconcile_once(start_within=timedelta())))["submitted"] == 0
        assert (await _once(worker))["submitted"] == 1


async def test_single_pass_starts_nothing_during_the_shutdown(tmp_path: Path) -> None:
    """A shutdown ends the pass early; it returns the finished work, and later passes do nothing."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        worker, gate = build_worker(loop, []), asyncio.Event()
        loop.upstream.reply_gate = gate
        for _ in range(3):
            await loop.accept()
        first_pass = asyncio.create_task(worker.reconcile_once())
        await _in_time(loop.upstream.arrived.wait())
        stopping = asyncio.create_task(worker.drain(TIMEOUT))
        assert (await _in_time(first_pass))["submitted"] == 1
        gate.set()
        await _in_time(stopping)
        assert (await _once(worker))["submitted"] == 0
        assert sum(loop.upstream.charges.values()) == 1


async def test_error_of_a_single_pass_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller gets the error; the next pass succeeds."""
    async with open_loop(tmp_path) as loop:
        worker = build_worker(loop, [])

        async def unavailable(_: Poller) -> None:
            raise StoreUnavailable("the database is unavailable")

        with monkeypatch.context() as patched:
            patched.setattr(Poller, "update_estimates", unavailable)
            with pytest.raises(StoreUnavailable):
                await _once(worker)
        assert (await _once(worker))["submitted"] == 0
