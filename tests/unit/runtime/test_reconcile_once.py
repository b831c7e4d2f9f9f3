"""A single pass of `boomerang reconcile --once`, and its shutdown."""

import asyncio
from pathlib import Path

import pytest

from service.domain.errors import StoreUnavailable
from service.domain.task import Status
from service.runtime import process
from service.tasks.poller import Poller
from tests.support.task_loop import TIMEOUT, open_loop
from tests.support.worker_builder import build_worker


async def test_stop_waits_for_started_work(tmp_path: Path) -> None:
    """The reply to a sent submission is awaited and recorded; nothing more starts."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        worker, stop = build_worker(loop, []), asyncio.Event()
        loop.upstream.reply_gate = asyncio.Event()
        first, second = await loop.accept(), await loop.accept()
        running = asyncio.create_task(process._run_single_pass(worker, stop))
        async with asyncio.timeout(TIMEOUT):
            await loop.upstream.arrived.wait()
            stop.set()
            await asyncio.sleep(0)
            loop.upstream.reply_gate.set()
            assert (await running)["submitted"] == 1
        assert (await loop.task(first.id)).upstream_id == "up1"
        assert (await loop.task(second.id)).status is Status.QUEUED


async def test_failed_pass_drains_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Running work is drained before the error ends the process."""
    async with open_loop(tmp_path) as loop:
        worker, drained = build_worker(loop, []), []

        async def gone(_: Poller) -> None:
            raise StoreUnavailable("the database is away")

        async def drain(_: Poller, seconds: float) -> None:
            drained.append(seconds)

        monkeypatch.setattr(Poller, "update_estimates", gone)
        monkeypatch.setattr(Poller, "drain", drain)
        with pytest.raises(StoreUnavailable):
            await process._run_single_pass(worker, asyncio.Event())
        assert len(drained) == 1
