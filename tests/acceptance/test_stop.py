"""SIGTERM: what is in hand ends or is given back within ten seconds, and the next process finishes the rest."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
from anyio.abc import ByteStream

from tests.acceptance.environment import IMAGE, MODEL, Service, Upstream, serve, service, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Child, Json, Workspace, command, free_port, until
from tests.acceptance.shutdown_helpers import (
    SHUTDOWN_LIMIT,
    install_slow_handler,
    leases,
    rows,
    status_of,
    terminate_and_wait,
)

A_TASK = json.dumps({"model": MODEL, "params": {"prompt": "a cat", "images": [IMAGE]}}).encode()


async def test_a_stop_gives_back_what_it_cannot_finish(workspace: Workspace, database_url: str) -> None:
    """A slow submission, a slow poll and a slow handler are cut off; the next process completes all, billed once."""
    install_slow_handler(workspace)
    async with upstream(workspace, "--tiny-videos", "--run-time", "1s", "--no-callbacks") as sandbox:
        env = settings(
            sandbox.url, f"http://{HOST}:{free_port()}", database_url, HANDLERS="log,slow", IN_DOUBT_FOR="12s"
        )
        await command(workspace, "migrate", env=env)
        child = await serve(workspace, env)
        async with service(child) as at:
            polled = (await at.submit())["id"]
            await running(at, polled)
            await sandbox.set_switches(slow_poll=1.0, poll_delay=60.0, slow_create=1.0, create_delay=60.0)
            sent = (await at.submit())["id"]
            await until((workspace.home / "slow.began").exists, what="the slow handler")
            await asked(sandbox, create=2, fetch=1)
        await terminate_and_wait(child)
        assert leases(database_url) == []
        assert status_of(database_url, sent) == "in_doubt"
        (workspace.home / "slow.wait").unlink()
        await sandbox.set_switches(slow_poll=0.0, slow_create=0.0, callbacks=True)
        async with service(await serve(workspace, env, name="serve-again")) as again:
            await again.wait_until_idle()
            assert (await again.task(polled))["status"] == "completed"
            doubted = await again.task(sent)
            assert (doubted["status"], doubted["error"]["code"]) == ("failed", "submission_unknown")
            done = [
                row for row in await again.history(polled) if row["kind"] == "delivery" and row["handler"] == "slow"
            ]
            assert [row["status"] for row in done] == ["delivered"]
        assert len((await sandbox.ledger())["bills"]) == 2


async def test_a_stop_lets_what_is_nearly_done_finish(workspace: Workspace, database_url: str) -> None:
    """A submission that is answered within the time that a stop gives is not in doubt afterwards."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "1s") as sandbox:
        await sandbox.set_switches(slow_create=1.0, create_delay=3.0)
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", database_url, HANDLERS="log")
        await command(workspace, "migrate", env=env)
        child = await serve(workspace, env)
        async with service(child) as at:
            sent = (await at.submit())["id"]
            await asked(sandbox, create=1)
        await terminate_and_wait(child)
        assert leases(database_url) == []
        assert status_of(database_url, sent) == "in_progress"
        async with service(await serve(workspace, env, name="serve-again")) as again:
            assert (await again.wait_until_settled(sent))["status"] == "completed"
            await again.wait_until_idle()
        assert len((await sandbox.ledger())["bills"]) == 1


async def test_a_waiting_client_is_answered_at_a_stop(workspace: Workspace) -> None:
    """A request that waits for a task gets the task as it stands, and the process ends in time."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "60s") as sandbox:
        child = await serve(workspace, settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace)))
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
            await terminate_and_wait(child)
        assert answers[0]["status"] == "in_progress"


async def test_a_stuck_client_lengthens_no_stop(workspace: Workspace) -> None:
    """While an upload hangs, nothing more is submitted, and the process ends in time all the same."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "60s") as sandbox:
        await sandbox.set_switches(slow_create=1.0, create_delay=1.0)
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace), UPSTREAM_CONCURRENCY="1")
        child = await serve(workspace, env)
        async with service(child) as at, an_upload_that_hangs(child):
            sent = [(await at.submit())["id"] for _ in range(3)]
            await asked(sandbox, create=1)
            await terminate_and_wait(child)
        assert sorted(status_of(sqlite(workspace), one) for one in sent) == ["in_progress", "queued", "queued"]
        assert (await sandbox.ledger())["requests"]["create"] == 1


async def test_a_request_that_is_under_way_at_a_stop_is_answered_and_kept(workspace: Workspace) -> None:
    """What a client ends in time is durable before its answer, and begins no submission any more."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "60s") as sandbox:
        child = await serve(workspace, settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace)))
        async with an_upload_that_hangs(child) as connection:
            child.terminate()
            await until(lambda: '"stopping"' in child.output(), what="the stop")
            await connection.send(A_TASK[1:])
            answer = await connection.receive()
            assert answer.startswith(b"HTTP/1.1 202")
            assert await child.ended(seconds=SHUTDOWN_LIMIT) == 0
        assert rows(sqlite(workspace), "SELECT status FROM tasks") == [("queued",)]
        assert (await sandbox.ledger())["requests"]["create"] == 0


@asynccontextmanager
async def an_upload_that_hangs(child: Child) -> AsyncIterator[ByteStream]:
    """Begin a request of which only the first byte of its body comes, and hold its connection open."""
    port = urlsplit(child.url).port or 80
    headers = {"Host": f"{HOST}:{port}", "Content-Type": "application/json", "Content-Length": f"{len(A_TASK)}"}
    head = "\r\n".join(["POST /v1/tasks HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""])
    async with await anyio.connect_tcp(HOST, port) as connection:
        await connection.send(head.encode() + A_TASK[:1])
        yield connection


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
