"""A serverless process that is stopped whenever no request is open, in real processes."""

import anyio
import httpx
import pytest

from tests.acceptance.environment import sqlite
from tests.acceptance.frozen_process import frozen_service, run, scenarios
from tests.acceptance.processes import Workspace, until


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
    faults = {"slow-create": "1", "create-delay": "1s", "no-callbacks": ""}
    async with frozen_service(workspace, sqlite(workspace), faults) as at:
        with pytest.raises(httpx.TimeoutException):
            await at.through.post("/v1/tasks", json=_body(), timeout=0.5)
        await anyio.sleep(2)
        (await at.through.post("/v1/reconcile")).raise_for_status()
        at.proxy.release()
        [task] = await at.direct.tasks()
        events = [row.get("type") for row in await at.direct.history(task["id"])]
    assert task["upstream_id"]
    assert "task.in_doubt" not in events


async def test_a_stopped_process_ends_in_order(workspace: Workspace, database_url: str) -> None:
    """SIGTERM during the stop, followed by some time to run, ends it like any other, and leaves no lease."""
    async with frozen_service(workspace, database_url) as at:
        await at.submit()
        child = at.direct.child
        child.terminate()
        await anyio.sleep(0.5)
        assert child.alive
        at.proxy.release()
        assert await child.ended(seconds=9) == 0


async def test_probes_of_a_stopped_process_do_no_work(workspace: Workspace, database_url: str) -> None:
    """A health check wakes the process and asks the provider nothing; a forged callback is refused as such."""
    async with frozen_service(workspace, database_url, {"no-callbacks": ""}) as at:
        await at.submit()
        before = (await at.sandbox.ledger())["requests"]
        await anyio.sleep(2)
        for path in ("/healthz", "/readyz", "/metrics", "/v1/tasks"):
            assert (await at.through.get(path)).status_code == 200
        assert (await at.through.post("/callbacks/forged", json={})).status_code == 403
        assert (await at.sandbox.ledger())["requests"] == before


def _body() -> dict[str, object]:
    return {"model": "viduq2_pro_reference", "params": {"prompt": "a cat", "images": ["https://example.org/cat.png"]}}
