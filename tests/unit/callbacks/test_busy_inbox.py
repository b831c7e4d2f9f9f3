"""While many callbacks wait for an answer, the inbox is read later and in small batches."""

from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path

import pytest

from service.callbacks.inbox_worker import BUSY_BATCH, BUSY_DELAY, BUSY_FOR, BUSY_FROM, InboxWorker
from service.callbacks.limits import BurstDetector
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import open_loop


@pytest.fixture(autouse=True)
def burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every callback as part of a burst."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: True)


async def test_busy_process_reads_the_inbox_later_and_in_small_batches(tmp_path: Path) -> None:
    """While many callbacks wait for an answer, reading is delayed by some seconds and uses small batches."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        for number in range(BUSY_BATCH + 1):
            await loop.call_back(vtrix_body("completed") | {"progress": number / 100})
        loop.inbox_worker.waiting, loop.inbox_worker.pause = BUSY_FROM, _no_pause
        assert await loop.inbox_worker.run_once() == 0
        loop.clock.move(BUSY_DELAY)
        assert await loop.inbox_worker.run_once() == BUSY_BATCH
        loop.inbox_worker.waiting = BUSY_FROM - 1
        assert await loop.inbox_worker.run_once() == 1


async def test_process_stays_busy_for_a_moment(tmp_path: Path) -> None:
    """Between two groups of callbacks none waits for an answer; reading waits for the next group, if one comes."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        worker, paused = loop.inbox_worker, list[float]()

        async def arrive(seconds: float) -> None:
            paused.append(seconds)
            loop.clock.move(timedelta(seconds=seconds))
            if len(paused) == 1:
                _answer_many(worker)

        worker.pause = arrive
        _answer_many(worker)
        assert (worker.waiting, await worker.run_once()) == (0, 0)
        assert (await worker.run_once(), paused) == (1, [BUSY_FOR.total_seconds()] * 2)
        assert (await worker.run_once(), len(paused)) == (0, 2)


async def test_end_of_a_burst_is_noticed_at_once(tmp_path: Path) -> None:
    """The last callbacks of a burst are read when they are answered, without a wait for the next tick of the job."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        worker = loop.inbox_worker

        async def answer(seconds: float) -> None:
            loop.clock.move(timedelta(seconds=seconds))
            worker.waiting = 0

        worker.waiting, worker.pause = BUSY_FROM, answer
        assert await worker.run_once() == 1


async def _no_pause(_: float) -> None:
    """End at once."""


def _answer_many(worker: InboxWorker) -> None:
    with ExitStack() as answers:
        for _ in range(BUSY_FROM):
            answers.enter_context(worker.answering())
