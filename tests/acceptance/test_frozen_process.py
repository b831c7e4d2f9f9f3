"""A serverless process that is stopped whenever no request is open, in real processes."""

from functools import partial

import anyio
import psycopg
import pytest

from tests.acceptance.bookkeeping import read_records
from tests.acceptance.environment import sqlite
from tests.acceptance.frozen_process import HANDLERS, FrozenService, frozen_service, run, scenarios
from tests.acceptance.processes import Workspace, command, until

SQLITE_FIRST = pytest.mark.parametrize(
    "database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True
)
"""PostgreSQL in the long form; `test_a_stopped_process_holds_no_transaction` always runs over it."""

SCENARIOS = [
    pytest.param(number, id=scenario.name.replace(" ", "-"), marks=[] if number == 1 else [pytest.mark.slow])
    for number, scenario in enumerate(scenarios(4)[:3])
]

OTHERS = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
END_ALL = f"SELECT pg_terminate_backend(pid) {OTHERS}"
STATES = f"SELECT state {OTHERS}"


@SQLITE_FIRST
@pytest.mark.parametrize("number", SCENARIOS)
async def test_tasks_settle_though_the_process_is_stopped(workspace: Workspace, database_url: str, number: int) -> None:
    """Every task is billed once, settles, is archived and reported, with a cron job or without."""
    done = await run(workspace, scenarios(4)[number], database_url)
    assert done.faults == []
    assert done.stops > 0
    assert done.ticks > 0 or not done.scenario.cron


@SQLITE_FIRST
async def test_a_client_that_goes_away_cancels_nothing(workspace: Workspace, database_url: str) -> None:
    """A process that is stopped in the middle of a submission goes on with it later, and bills it once."""
    faults = {"slow-create": "1", "create-delay": "1s"}
    async with frozen_service(workspace, database_url, faults) as at:
        await at.submit(gone_after=0.5)
        await until(lambda: at.all_done(1), what="the end of the task", pause=0.5)
        at.proxy.release()
        [task] = await at.direct.tasks()
        bills = (await at.sandbox.ledger())["bills"]
    assert (task["status"], len(bills)) == ("completed", 1)


async def test_a_reply_that_arrives_while_the_process_is_stopped_is_read(workspace: Workspace) -> None:
    """The provider's answer waits in the socket, and the next request finds it: nothing is in doubt."""
    faults = {"slow-create": "1", "create-delay": "2s", "no-callbacks": ""}
    async with frozen_service(workspace, sqlite(workspace), faults) as at:
        await _leave_once_sent(at)
        await anyio.sleep(3)
        (await at.through.post("/v1/reconcile")).raise_for_status()
        at.proxy.release()
        [task] = await at.direct.tasks()
        events = [row.get("type") for row in await at.direct.history(task["id"])]
    assert task["upstream_id"]
    assert "task.in_doubt" not in events


@SQLITE_FIRST
async def test_another_instance_does_not_submit_what_a_stopped_one_has_sent(
    workspace: Workspace, database_url: str
) -> None:
    """Its lease expires, the other one finds it in doubt, and the reply that the first one reads later settles that."""
    faults = {"slow-create": "1", "create-delay": "2s", "no-callbacks": ""}
    async with frozen_service(workspace, database_url, faults, LEASE="2s", ON_IN_DOUBT="resubmit") as at:
        await _leave_once_sent(at)
        await anyio.sleep(3)
        code, _, err = await command(workspace, "reconcile", "--once", env=at.env)
        assert code == 0, err
        await until(lambda: at.tick_until(1), what="the end of the task", pause=0.3)
        at.proxy.release()
        [task] = await at.direct.tasks()
        events = [row.get("type") for row in await at.direct.history(task["id"])]
        bills = (await at.sandbox.ledger())["bills"]
    assert "task.in_doubt" in events
    assert (task["status"], len(bills)) == ("completed", 1)


@SQLITE_FIRST
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


@SQLITE_FIRST
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


async def test_lost_database_connections_are_replaced_within_the_request(
    workspace: Workspace, empty_postgres: str
) -> None:
    """After a stop in which the database has closed every connection, submission, callback and cron job succeed."""
    async with frozen_service(workspace, empty_postgres) as at:
        await at.submit()
        async with await psycopg.AsyncConnection.connect(empty_postgres, autocommit=True) as admin:
            for _ in range(3):
                ended = await admin.execute(END_ALL)
                assert ended.rowcount > 0
                await at.submit()
            await admin.execute(END_ALL)
        await at.receiver.received("artifact.stored")
        (await at.through.post("/v1/reconcile")).raise_for_status()
        await until(lambda: at.all_done(4), what="the end of all work")


async def test_a_stopped_process_holds_no_transaction(workspace: Workspace, empty_postgres: str) -> None:
    """Between the requests no session of the service is inside a transaction, whose locks others would wait for."""
    async with frozen_service(workspace, empty_postgres) as at:
        async with await psycopg.AsyncConnection.connect(empty_postgres, autocommit=True) as admin:
            for _ in range(5):
                await at.submit()
                await anyio.sleep(0.1)
                states = await (await admin.execute(STATES)).fetchall()
                assert at.proxy.stopped is False or {state for (state,) in states} == {"idle"}
        await until(lambda: at.all_done(5), what="the end of all work")


async def test_a_callback_that_is_repeated_while_it_is_held_settles_once(workspace: Workspace) -> None:
    """A provider that calls again before it is answered gets one bill, one end and one report of each event."""
    async with frozen_service(workspace, sqlite(workspace), {"callback-timeout": "500ms"}) as at:
        at.receiver.pause = 1.5
        await at.submit()
        await at.receiver.received("artifact.stored")
        await until(lambda: at.all_done(1), what="the end of all work")
        at.proxy.release()
        records = await read_records(at.direct, at.sandbox, at.receiver, HANDLERS)
        abandoned = at.proxy.abandoned
        log = at.direct.child.output()
    assert records.faults(count=1) == []
    assert "event loop blocked" not in log
    assert abandoned > 0
    assert len(at.receiver.hooks) == len(at.receiver.ids)


async def _leave_once_sent(at: FrozenService) -> None:
    """Submit a task, and go away when the provider has its request, but before it replies.

    What else the process does at that moment gets time to end: one that is stopped as it writes locks SQLite's file.
    """

    async def sent() -> bool:
        return bool((await at.sandbox.ledger())["requests"]["create"])

    async with anyio.create_task_group() as group:
        group.start_soon(partial(at.through.post, "/v1/tasks", json=_body()))
        await until(sent, what="the request to the provider")
        await anyio.sleep(0.3)
        group.cancel_scope.cancel()


def _body() -> dict[str, object]:
    return {"model": "viduq2_pro_reference", "params": {"prompt": "a cat", "images": ["https://example.org/cat.png"]}}
