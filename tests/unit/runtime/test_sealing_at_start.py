"""A process that serves requests before it has registered its keys seals nothing with a key that others may lack."""

from pathlib import Path

import pytest

from service.domain.errors import StoreUnavailable
from service.domain.task import Task
from service.runtime.application import Application
from service.runtime.bootstrap import build_application
from service.runtime.config.settings import load_settings
from tests.support.database_copies import database
from tests.support.task_loop import task_request

NEW, OLD = "n" * 32, "o" * 32
ENTRY = {"handler": "webhook", "url": "https://example.org/hook", "secret": "whsec_" + "c2VjcmV0" * 4}


async def _accept(application: Application) -> Task:
    task, _ = await application.task_service.accept(task_request(notify=[ENTRY], admin=True))
    return task


async def test_task_with_a_secret_waits_for_the_registration(tmp_path: Path) -> None:
    """While another process knows the old key only, no secret is sealed with the new one: it could not be opened."""
    given = {
        "BOOMERANG_DATABASE_URL": await database(tmp_path),
        "BOOMERANG_UPSTREAM_URL": "http://127.0.0.1:9",
        "BOOMERANG_UPSTREAM_KEY": "upstream-key-of-this-test",
        "BOOMERANG_HANDLERS": "webhook",
    }
    older, newer = (load_settings(given | {"BOOMERANG_SECRET_KEYS": keys}) for keys in (OLD, f"{NEW},{OLD}"))
    async with build_application(older) as other, build_application(newer) as application:
        await other.keys.renew()
        with pytest.raises(StoreUnavailable):
            await _accept(application)
        await application.keys.renew()
        task = await _accept(application)
        opener = other.worker.dispatcher.sealer
        assert opener is not None
        assert await opener.open(task.notify[0]) == ENTRY
