"""One full round by itself, as `boomerang reconcile --once` makes it, and how it is stopped."""

import asyncio
from pathlib import Path

import pytest

from service.domain.errors import StoreUnavailable
from service.domain.task import Status
from service.runtime import process as main
from tests.support.task_loop import TIMEOUT, open_loop
from tests.support.worker_builder import rounds_of


async def test_a_stop_lets_what_was_begun_end(tmp_path: Path) -> None:
    """The reply to a submission that has left is waited for, and kept; nothing more is begun."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        rounds, stop = rounds_of(loop, []), asyncio.Event()
        loop.upstream.reply_gate = asyncio.Event()
        first, second = await loop.accept(), await loop.accept()
        running = asyncio.create_task(main._one_round(rounds, stop))
        async with asyncio.timeout(TIMEOUT):
            await loop.upstream.arrived.wait()
            stop.set()
            await asyncio.sleep(0)
            loop.upstream.reply_gate.set()
            assert (await running)["submitted"] == 1
        assert (await loop.task(first.id)).upstream_id == "up1"
        assert (await loop.task(second.id)).status is Status.QUEUED


async def test_a_round_that_breaks_off_ends_what_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in hand is given its time before the error ends the process."""
    async with open_loop(tmp_path) as loop:
        rounds, drained = rounds_of(loop, []), []

        async def gone() -> None:
            raise StoreUnavailable("the database is away")

        async def drain(seconds: float) -> None:
            drained.append(seconds)

        monkeypatch.setattr(rounds.poller, "update_estimates", gone)
        monkeypatch.setattr(rounds.poller, "drain", drain)
        with pytest.raises(StoreUnavailable):
            await main._one_round(rounds, asyncio.Event())
        assert len(drained) == 1
