"""A serverless process that is stopped whenever no request is open, in real processes."""

import asyncio
import os
import signal

import anyio
import httpx
import pytest

from service.runtime.open_request import CLOSE_SECONDS, WORK_SECONDS
from tests.acceptance.environment import SECRET, service, settings
from tests.acceptance.frozen_process import FrozenService, frozen_service, run, scenarios
from tests.acceptance.processes import TIMEOUT, Workspace, until


@pytest.mark.parametrize("number", range(3), ids=[scenario.name.replace(" ", "-") for scenario in scenarios(4)])
async def test_tasks_settle_though_the_process_is_stopped(workspace: Workspace, database_url: str, number: int) -> None:
    """Every task is billed once, settles, is archived and reported, with a cron job or without."""
    done = await run(workspace, scenarios(4)[number], database_url)
    assert done.faults == []
    assert done.stops > 0
    assert done.ticks > 0 or not done.scenario.cron


async def test_a_client_that_goes_away_cancels_nothing(workspace: Workspace, database_url: str) -> None:
    """A process that is stopped in the middle of a submission goes on with it later, and bills it once."""
    faults = {"slow-create": "1", "create-delay": "1s"}
    async with frozen_service(workspace, database_url, faults) as at:
        await at.submit(patience=0.5)
        await until(lambda: at.all_done(1), what="the end of the task", pause=0.5)
        at.proxy.release()
        [task] = await at.direct.tasks()
        bills = (await at.sandbox.ledger())["bills"]
    assert (task["status"], len(bills)) == ("completed", 1)


async def test_a_reply_that_arrives_while_the_process_is_stopped_is_read(workspace: Workspace) -> None:
    """The provider's answer waits in the socket, and the next request finds it: nothing is in doubt."""
    faults = {"slow-create": "1", "create-delay": "1s", "callbacks": "no"}
    async with frozen_service(workspace, "sqlite:///" + str(workspace.home / "b.db"), faults) as at:
        with pytest.raises(httpx.TimeoutException):
            await at.through.post("/v1/tasks", json=_body(), timeout=0.5)
        await anyio.sleep(2)
        (await at.through.post("/v1/reconcile")).raise_for_status()
        at.proxy.release()
        [task] = await at.direct.tasks()
        events = [row.get("type") for row in await at.direct.history(task["id"])]
    assert task["upstream_id"]
    assert "task.in_doubt" not in events


def _body() -> dict[str, object]:
    return {"model": "viduq2_pro_reference", "params": {"prompt": "a cat", "images": ["https://example.org/cat.png"]}}
