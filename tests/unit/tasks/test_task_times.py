"""Histograms of the times of tasks: observed once, after the commit."""

from pathlib import Path
from typing import Any

import pytest

from service.domain.duration_histogram import DurationHistogram
from service.domain.errors import StoreUnavailable
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import MINUTE, SECOND, open_loop


def _seen(histogram: DurationHistogram) -> tuple[int, float]:
    return sum(histogram.counts), histogram.total


async def test_times_count_from_the_creation(tmp_path: Path) -> None:
    """The wait ends with the submission, the whole time with the end; each is counted once."""
    async with open_loop(tmp_path, confirm=False) as loop:
        task = await loop.accept()
        loop.clock.move(7 * SECOND)
        await loop.submit_due()
        loop.clock.move(MINUTE)
        for _ in range(2):
            await loop.call_back(vtrix_body("completed"))
        times = loop.recorder.task_times
        assert (await loop.task(task.id)).settled
        assert _seen(times.started) == (1, 7.0)
        assert {status: _seen(one) for status, one in times.settled.items()} == {
            "completed": (1, 67.0),
            "failed": (0, 0.0),
            "canceled": (0, 0.0),
        }


async def test_what_is_not_committed_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rolled-back end is counted when it is recorded."""
    async with open_loop(tmp_path, confirm=False) as loop:
        await loop.submitted()
        times = loop.recorder.task_times

        async def fail(*_: Any) -> None:
            raise StoreUnavailable("disk full")

        monkeypatch.setattr("service.tasks.update_batch.UpdateBatch.flush", fail)
        with pytest.raises(StoreUnavailable):
            await loop.call_back(vtrix_body("completed"))
        assert _seen(times.settled["completed"])[0] == 0
