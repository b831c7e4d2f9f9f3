"""SIGTERM: what is in hand ends or is given back within ten seconds, and the next process finishes the rest."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from sqlalchemy import create_engine, text

from tests.acceptance.processes import HOST, Child, Json, Town, command, free_port, until
from tests.acceptance.scene import Service, Upstream, serve, service, settings, sqlite, upstream

WITHIN = 9.5
"""Seconds that a stop may take here: it is over after nine, by force if need be, and platforms kill after ten."""

SLOW_HANDLER = '''
"""A handler that takes as long as a file says."""

import asyncio
from pathlib import Path

from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on("task.submitted", name="slow", timeout=120)
async def slow(event: Event, tools: Tools) -> None:
    """Wait while the file is there."""
    Path("slow.began").touch()
    while Path("slow.wait").exists():
        await asyncio.sleep(0.05)
'''
DEAF_HANDLER = SLOW_HANDLER.replace(
    "await asyncio.sleep(0.05)",
    """
        try:
            await asyncio.sleep(0.05)
        except asyncio.CancelledError:
            continue
""",
).replace('Path("slow.wait").exists()', "True")
BLOCKED_THREAD = (
    SLOW_HANDLER.replace("await asyncio.sleep(0.05)", "await asyncio.to_thread(time.sleep, 3600)")
    .replace("import asyncio", "import asyncio\nimport time")
    .replace('Path("slow.wait").exists()', "True")
)
BLOCKS_AT_ITS_END = DEAF_HANDLER.replace("continue", "time.sleep(3600)").replace(
    "import asyncio", "import asyncio\nimport time"
)


def rows(database_url: str, query: str, **values: str) -> list[tuple[Any, ...]]:
    """Return what a query finds in the database that a stopped service has left."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]
    finally:
        engine.dispose()


async def stopped(child: Child) -> None:
    """Send SIGTERM and see the process end well and in time."""
    asked = monotonic()
    child.ask_to_stop()
    assert await child.ended(seconds=WITHIN + 20) == 0
    assert monotonic() - asked < WITHIN


def leases(database_url: str) -> list[tuple[Any, ...]]:
    """Return the rows that are still leased."""
    return rows(
        database_url,
        "SELECT id, status FROM tasks WHERE leased_until IS NOT NULL"
        " UNION ALL SELECT id, status FROM deliveries WHERE leased_until IS NOT NULL",
    )


def status_of(database_url: str, task_id: str) -> str:
    """Return the status that a stopped service has left a task in."""
    ((status,),) = rows(database_url, "SELECT status FROM tasks WHERE id = :id", id=task_id)
    return str(status)


def with_handler(town: Town, code: str) -> None:
    """Put a handler where the service finds it."""
    folder = town.home / "handlers"
    folder.mkdir()
    (folder / "slow.py").write_text(code)


def with_slow_handler(town: Town) -> None:
    """Put the slow handler where the service finds it, and let it wait."""
    with_handler(town, SLOW_HANDLER)
    (town.home / "slow.wait").touch()


async def test_a_stop_gives_back_what_it_cannot_finish(town: Town, database_url: str) -> None:
    """A slow submission, a slow poll and a slow handler are cut off; the next process completes all, billed once."""
    with_slow_handler(town)
    async with upstream(town, "--tiny-videos", "--run-time", "1s", "--no-callbacks") as sandbox:
        env = settings(
            sandbox.url, f"http://{HOST}:{free_port()}", database_url, HANDLERS="log,slow", IN_DOUBT_FOR="12s"
        )
        await command(town, "migrate", env=env)
        child = await serve(town, env)
        async with service(child) as at:
            polled = (await at.submit())["id"]
            await running(at, polled)
            await sandbox.turn(slow_poll=1.0, poll_delay=60.0, slow_create=1.0, create_delay=60.0)
            sent = (await at.submit())["id"]
            await until((town.home / "slow.began").exists, what="the slow handler")
            await asked(sandbox, create=2, fetch=1)
        await stopped(child)
        assert leases(database_url) == []
        assert status_of(database_url, sent) == "in_doubt"
        (town.home / "slow.wait").unlink()
        await sandbox.turn(slow_poll=0.0, slow_create=0.0, callbacks=True)
        async with service(await serve(town, env, name="serve-again")) as again:
            await again.idle()
            assert (await again.task(polled))["status"] == "completed"
            doubted = await again.task(sent)
            assert (doubted["status"], doubted["error"]["code"]) == ("failed", "submission_unknown")
            done = [
                row for row in await again.history(polled) if row["kind"] == "delivery" and row["handler"] == "slow"
            ]
            assert [row["status"] for row in done] == ["delivered"]
        assert len((await sandbox.ledger())["bills"]) == 2


async def test_a_stop_lets_what_is_nearly_done_finish(town: Town, database_url: str) -> None:
    """A submission that is answered within the time that a stop gives is not in doubt afterwards."""
    async with upstream(town, "--tiny-videos", "--run-time", "1s") as sandbox:
        await sandbox.turn(slow_create=1.0, create_delay=3.0)
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", database_url, HANDLERS="log")
        await command(town, "migrate", env=env)
        child = await serve(town, env)
        async with service(child) as at:
            sent = (await at.submit())["id"]
            await asked(sandbox, create=1)
        await stopped(child)
        assert leases(database_url) == []
        assert status_of(database_url, sent) == "in_progress"
        async with service(await serve(town, env, name="serve-again")) as again:
            assert (await again.settled(sent))["status"] == "completed"
            await again.idle()
        assert len((await sandbox.ledger())["bills"]) == 1


async def test_a_waiting_client_is_answered_at_a_stop(town: Town) -> None:
    """A request that waits for a task gets the task as it stands, and the process ends in time."""
    async with upstream(town, "--tiny-videos", "--run-time", "60s") as sandbox:
        child = await serve(town, settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(town)))
        async with service(child) as at, anyio.create_task_group() as group:
            sent = (await at.submit())["id"]
            await running(at, sent)
            answers: list[Json] = []
            under_way = anyio.Event()

            async def trace(step: str, _info: Any) -> None:
                if step == "http11.send_request_body.complete":
                    under_way.set()

            async def wait() -> None:
                url = f"/v1/tasks/{sent}"
                answers.append((await at.http.get(url, params={"wait": 60}, extensions={"trace": trace})).json())

            group.start_soon(wait)
            await under_way.wait()
            await at.task(sent)  # answered after the service has read what came before
            await stopped(child)
        assert answers[0]["status"] == "in_progress"


async def test_a_stuck_client_lengthens_no_stop(town: Town) -> None:
    """While an upload hangs, nothing more is submitted, and the process ends in time all the same."""
    async with upstream(town, "--tiny-videos", "--run-time", "60s") as sandbox:
        await sandbox.turn(slow_create=1.0, create_delay=1.0)
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(town), UPSTREAM_CONCURRENCY="1")
        child = await serve(town, env)
        async with service(child) as at, an_upload_that_hangs(child):
            sent = [(await at.submit())["id"] for _ in range(3)]
            await asked(sandbox, create=1)
            await stopped(child)
        assert sorted(status_of(sqlite(town), one) for one in sent) == ["in_progress", "queued", "queued"]
        assert (await sandbox.ledger())["requests"]["create"] == 1


@pytest.mark.parametrize("handler", [DEAF_HANDLER, BLOCKED_THREAD], ids=["deaf", "blocked thread"])
async def test_a_handler_that_will_not_end_holds_no_process(town: Town, handler: str) -> None:
    """What swallows its cancellation, or waits in a thread, is named; its delivery is given back, the process ends."""
    with_handler(town, handler)
    async with with_the_handler_in_hand(town) as child:
        await ended_by_force(child)
        assert leases(sqlite(town)) == []


async def test_a_handler_that_holds_up_the_whole_stop_holds_no_process(town: Town) -> None:
    """What blocks the event loop while it is cut off costs the others their goodbye, and not a kill by the platform."""
    with_handler(town, BLOCKS_AT_ITS_END)
    async with with_the_handler_in_hand(town) as child:
        await ended_by_force(child)


async def test_a_second_interrupt_ends_the_process_at_once(town: Town) -> None:
    """Ctrl-C asks to stop, and a second one does not wait; SIGTERM twice is once."""
    with_slow_handler(town)
    async with with_the_handler_in_hand(town) as child:

        def ended_when_pressed_again() -> bool:
            child.process.send_signal(signal.SIGINT)
            return not child.alive

        for number in (signal.SIGTERM, signal.SIGTERM):
            child.process.send_signal(number)
            await until(lambda: '"stopping"' in child.said(), what="the stop")
        await until(ended_when_pressed_again, what="the end", seconds=3)
        assert child.process.returncode == 130


@asynccontextmanager
async def with_the_handler_in_hand(town: Town) -> AsyncIterator[Child]:
    """Run a service whose only handler has begun."""
    async with upstream(town, "--tiny-videos", "--run-time", "60s") as sandbox:
        child = await serve(town, settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(town), HANDLERS="slow"))
        async with service(child) as at:
            await at.submit()
            await until((town.home / "slow.began").exists, what="the handler")
            yield child


async def ended_by_force(child: Child) -> None:
    """Send SIGTERM, and see the process end in time though something in it does not, and say so."""
    asked = monotonic()
    child.ask_to_stop()
    assert await child.ended(seconds=WITHIN + 20) == 1
    assert monotonic() - asked < WITHIN
    assert "ended by force" in child.said()


@asynccontextmanager
async def an_upload_that_hangs(child: Child) -> AsyncIterator[None]:
    """Begin a request whose body never comes, and hold its connection open."""
    port = urlsplit(child.url).port or 80
    headers = {"Host": f"{HOST}:{port}", "Content-Type": "application/json", "Content-Length": "99"}
    head = "\r\n".join(["POST /v1/tasks HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", "{"])
    async with await anyio.connect_tcp(HOST, port) as connection:
        await connection.send(head.encode())
        yield


async def running(at: Service, task_id: str) -> None:
    """Wait until the upstream has taken a task."""

    async def taken() -> bool:
        return str((await at.task(task_id))["status"]) == "in_progress"

    await until(taken, what="a running task")


async def asked(sandbox: Upstream, **requests: int) -> None:
    """Wait until the upstream has been asked so often."""

    async def often() -> bool:
        counted = (await sandbox.ledger())["requests"]
        return all(counted[kind] >= count for kind, count in requests.items())

    await until(often, what=f"{requests} at the upstream")
