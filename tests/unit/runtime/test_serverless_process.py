"""A process with BOOMERANG_SERVERLESS: which roles work during requests, and that nothing runs beside them."""

import asyncio
from pathlib import Path
from typing import Any, get_args

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from service.runtime import serverless
from service.runtime.bootstrap import build_application
from service.runtime.config.settings import Settings, load_settings
from service.runtime.process import running
from service.runtime.serverless import serverless_work
from service.runtime.web import Role
from service.runtime.worker import Worker
from service.storage import Store
from tests.support.database_copies import database


async def settings(directory: Path, **more: str) -> Settings:
    """Return the settings of a process with its own database."""
    given = {"UPSTREAM_KEY": "key", "SECRET_KEYS": "k" * 32, "PUBLIC_URL": "http://127.0.0.1:1", **more}
    url = await database(directory)
    return load_settings({f"BOOMERANG_{name}": text for name, text in {**given, "DATABASE_URL": url}.items() if text})


@pytest.mark.parametrize(("word", "roles"), [("off", set()), ("on", {"all", "web"})])
async def test_roles_that_work_during_requests(tmp_path: Path, word: str, roles: set[str]) -> None:
    """A worker always runs, and works as ever; without the setting every role does."""
    async with build_application(await settings(tmp_path, SERVERLESS=word)) as application:
        assert {role for role in get_args(Role) if serverless_work(application, role)} == roles


async def test_tasks_without_callbacks_need_a_cron_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a public address the log says what polls the tasks."""
    async with build_application(await settings(tmp_path, SERVERLESS="on", PUBLIC_URL="")) as application:
        with capture_logs() as lines:
            monkeypatch.setattr(serverless, "log", structlog.get_logger())
            serverless_work(application, "all")
    assert ["POST /v1/reconcile" in line["hint"] for line in lines] == [True]


async def test_a_serverless_process_starts_no_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It listens for no notifications and has no job in the background; it is ready, and answers a cron job."""

    def refuse(*_: Any) -> Any:
        raise AssertionError("a serverless process does not do this")

    for owner, name in ((Worker, "jobs"), (Worker, "web_jobs"), (Store, "listening")):
        monkeypatch.setattr(owner, name, refuse)
    async with running(await settings(tmp_path, SERVERLESS="on"), host="127.0.0.1", port=0) as address:
        names = {task.get_name() for task in asyncio.all_tasks()}
        assert not [name for name in names if name.startswith(("job-", "topic-"))]
        async with httpx.AsyncClient(base_url=address, trust_env=False) as client:
            assert (await client.get("/readyz")).status_code == 200
            done = (await client.post("/v1/reconcile")).json()
    assert done == {"swept": 0, "submitted": 0, "polled": 0, "dispatched": 0}
