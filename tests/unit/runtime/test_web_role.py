"""A process that only serves HTTP: it records the callbacks that it stored and that no worker records."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.callbacks.limits import BurstDetector
from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task import TaskId
from service.runtime.config.settings import load_settings
from service.runtime.process import running
from service.runtime.worker import INBOX_GRACE
from service.storage import Store, open_store
from service.storage.key_rejections import rejected_since
from tests.acceptance.processes import until
from tests.support.database_copies import database
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import SECOND, Loop, open_loop
from tests.support.worker_builder import build_worker


async def recorded(store: Store) -> bool:
    """Return whether every stored callback is recorded."""
    return await store.inbox.unread_since() is None


async def _run_web_jobs(loop: Loop) -> None:
    for job in build_worker(loop, []).web_jobs():
        await job.run()


async def test_web_process_records_callbacks_that_no_worker_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stored callback is left to a worker for a while; then the web process records it."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: True)
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("processing"))
        loop.clock.move(INBOX_GRACE - SECOND)
        await _run_web_jobs(loop)
        assert await loop.callbacks() == {"unread": 1}
        loop.clock.move(SECOND)
        await _run_web_jobs(loop)
        assert await loop.callbacks() == {"accepted": 1}


async def test_web_process_reports_a_rejected_key(tmp_path: Path) -> None:
    """It asks the provider itself, to cancel a task: the front page shows the rejection although no worker asks."""
    async with open_loop(tmp_path) as loop:
        worker = build_worker(loop, [])
        worker.operator_events.key.answers.reject()
        for job in worker.web_jobs():
            await job.run()
        async with loop.store._database.reading() as connection:
            assert await rejected_since(connection) == loop.clock.now()


async def test_web_role_runs_the_jobs_of_a_web_process(tmp_path: Path) -> None:
    """`serve --role web` alone records an old stored callback, and submits nothing."""
    url = await database(tmp_path)
    settings = load_settings(
        {"BOOMERANG_DATABASE_URL": url, "BOOMERANG_UPSTREAM_KEY": "key", "BOOMERANG_SECRET_KEYS": "k" * 32}
    )
    async with open_store(url) as store:
        row = InboxEntry(
            task_id=TaskId("of-another-database"),
            submission=1,
            digest="d1",
            body=b'{"id": "up1", "status": "processing"}',
            received_at=datetime.now(UTC) - timedelta(minutes=1),
            verdict="unread",
        )
        await store.inbox.store_unread([row])
        async with running(settings, host="127.0.0.1", port=None, role="web"):
            await until(lambda: recorded(store), what="the record of the callback", seconds=20)
        assert (await store.health.gauges(datetime.now(UTC))).callbacks == {"quarantined": 1}
