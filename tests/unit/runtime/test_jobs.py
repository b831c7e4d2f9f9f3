"""The jobs of a worker process: what each of them does, how often, and what wakes it earlier."""

from datetime import timedelta
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from service.callbacks.inbox_worker import InboxWorker
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.runtime.clock_jump import ClockJumpDetector
from service.runtime.scheduler import PeriodicJob
from service.tasks.poller import Poller
from service.tasks.submitter import Submitter
from tests.support.task_loop import open_loop
from tests.support.worker_builder import build_worker

STEPS: list[tuple[str, type, str]] = [
    ("estimates", Poller, "update_estimates"),
    ("inbox", InboxWorker, "run_once"),
    ("sweep", ClockJumpDetector, "check"),
    ("sweep", Submitter, "sweep"),
    ("submit", Submitter, "run_once"),
    ("reconcile", Poller, "run_once"),
    ("dispatch", Dispatcher, "run_once"),
    ("missing_handlers", MissingHandlerMonitor, "check"),
    ("prune", Poller, "prune"),
]
WOKEN_BY = {"inbox": "inbox", "submit": "submit", "reconcile": "reconcile", "dispatch": "dispatch"}
AT_LEAST_EVERY = {
    "estimates": timedelta(minutes=1),
    "inbox": timedelta(seconds=1),
    "sweep": timedelta(seconds=10),
    "submit": timedelta(seconds=1),
    "reconcile": timedelta(seconds=1),
    "dispatch": timedelta(seconds=1),
    "missing_handlers": timedelta(minutes=1),
    "prune": timedelta(hours=1),
}


async def worker_jobs(directory: Path) -> dict[str, PeriodicJob]:
    """Return the jobs of a worker process by name; their store is closed."""
    async with open_loop(directory) as loop:
        return {job.name: job for job in build_worker(loop, []).jobs()}


@pytest.mark.parametrize(("name", "owner", "step"), STEPS)
async def test_every_step_has_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, owner: type, step: str
) -> None:
    """A worker process does each of these steps by itself, again and again."""
    done = AsyncMock(return_value=0)
    monkeypatch.setattr(owner, step, done)
    async with open_loop(tmp_path) as loop:
        [job] = [job for job in build_worker(loop, []).jobs() if job.name == name]
        await job.run()
    done.assert_awaited()


async def test_jobs_are_woken_by_their_topics(tmp_path: Path) -> None:
    """What another process or an update announces is done at once, and not on the next interval."""
    found = {name: job.topic for name, job in (await worker_jobs(tmp_path)).items()}
    assert found.items() >= WOKEN_BY.items()


async def test_jobs_run_without_any_notification(tmp_path: Path) -> None:
    """A notification may be lost with its process: every job runs often enough without one."""
    found = {name: job.every for name, job in (await worker_jobs(tmp_path)).items()}
    assert {name: every for name, every in found.items() if every > AT_LEAST_EVERY.get(name, every)} == {}
    assert found.keys() >= AT_LEAST_EVERY.keys()
