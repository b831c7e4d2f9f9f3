"""SIGTERM: running work finishes or is released within ten seconds, and the next process completes the rest."""

import json
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest
from anyio.abc import ByteStream

from tests.acceptance.environment import (
    IMAGE,
    MODEL,
    Service,
    Upstream,
    prepare,
    serve,
    service,
    settings,
    sqlite,
    upstream,
)
from tests.acceptance.processes import (
    BIN,
    HOST,
    Child,
    Json,
    Workspace,
    until,
    wait_for_response,
)
from tests.acceptance.shutdown_helpers import (
    SHUTDOWN_LIMIT,
    install_slow_handler,
    leases,
    rows,
    status_of,
    terminate_and_wait,
)
from tests.support.ports import free_port

TASK_BODY = json.dumps({"model": MODEL, "params": {"prompt": "a cat", "images": [IMAGE]}}).encode()


@pytest.mark.parametrize("database_url", ["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)], indirect=True)
async def test_shutdown_releases_unfinished_work(workspace: Workspace, database_url: str) -> None:
    """A slow submission, poll and handler are canceled; the next process completes them, and each is billed once."""
    install_slow_handler(workspace)
    async with upstream(workspace, "--tiny-videos", "--run-time", "1s", "--no-callbacks") as sandbox:
        env = settings(
            sandbox.url, f"http://{HOST}:{free_port()}", database_url, HANDLERS="log,slow", IN_DOUBT_FOR="2s"
        )
        await prepare(database_url)
        child = await serve(workspace, env)
        async with service(child) as at:
            polled = (await at.submit())["id"]
            await wait_until_running(at, polled)
            await sandbox.set_switches(slow_poll=1.0, poll_delay=60.0, slow_create=1.0, create_delay=60.0)
            sent = (await at.submit())["id"]
            await until((workspace.home / "slow.began").exists, what="the slow handler")
            await wait_for_requests(sandbox, create=2, fetch=1)
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


async def test_shutdown_waits_for_work_that_finishes_in_time(workspace: Workspace, database_url: str) -> None:
    """A submission whose reply arrives within the grace period is not in doubt."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "1s") as sandbox:
        await sandbox.set_switches(slow_create=1.0, create_delay=3.0)
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", database_url, HANDLERS="log")
        await prepare(database_url)
        child = await serve(workspace, env)
        async with service(child) as at:
            sent = (await at.submit())["id"]
            await wait_for_requests(sandbox, create=1)
        await terminate_and_wait(child)
        assert leases(database_url) == []
        assert status_of(database_url, sent) == "in_progress"
        async with service(await serve(workspace, env, name="serve-again")) as again:
            assert (await again.wait_until_settled(sent))["status"] == "completed"
            await again.wait_until_idle()
        assert len((await sandbox.ledger())["bills"]) == 1


async def test_long_poll_is_answered_at_shutdown(workspace: Workspace) -> None:
    """A long poll returns the current task, and the process exits in time."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "60s") as sandbox:
        child = await serve(workspace, settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace)))
        async with service(child) as at, anyio.create_task_group() as group:
            sent = (await at.submit())["id"]
            await wait_until_running(at, sent)
            answers: list[Json] = []
            request_sent = anyio.Event()

            async def trace(step: str, _info: Any) -> None:
                if step == "http11.send_request_body.complete":
                    request_sent.set()

            async def wait() -> None:
                url = f"/v1/tasks/{sent}"
                answers.append((await at.http.get(url, params={"wait": 60}, extensions={"trace": trace})).json())

            group.start_soon(wait)
            await request_sent.wait()
            await at.task(sent)  # its response shows that the service has read the earlier request
            await terminate_and_wait(child)
        assert answers[0]["status"] == "in_progress"


async def test_stalled_upload_does_not_delay_shutdown(workspace: Workspace) -> None:
    """During a stalled upload nothing more is submitted, and the process exits in time."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "60s") as sandbox:
        await sandbox.set_switches(slow_create=1.0, create_delay=1.0)
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace), UPSTREAM_CONCURRENCY="1")
        child = await serve(workspace, env)
        async with service(child) as at, stalled_upload(child):
            sent = [(await at.submit())["id"] for _ in range(3)]
            await wait_for_requests(sandbox, create=1)
            await terminate_and_wait(child)
        assert sorted(status_of(sqlite(workspace), one) for one in sent) == ["in_progress", "queued", "queued"]
        assert (await sandbox.ledger())["requests"]["create"] == 1


async def test_request_in_flight_at_shutdown_is_stored_and_answered(workspace: Workspace) -> None:
    """A request that completes in time is durable before its response and is not submitted any more."""
    async with upstream(workspace, "--tiny-videos", "--run-time", "60s") as sandbox:
        child = await serve(workspace, settings(sandbox.url, f"http://{HOST}:{free_port()}", sqlite(workspace)))
        async with stalled_upload(child) as connection:
            child.terminate()
            await until(lambda: '"stopping"' in child.output(), what="the stop")
            await connection.send(TASK_BODY[1:])
            answer = await connection.receive()
            assert answer.startswith(b"HTTP/1.1 202")
            assert await child.ended(seconds=SHUTDOWN_LIMIT) == 0
        assert rows(sqlite(workspace), "SELECT status FROM tasks") == [("queued",)]
        assert (await sandbox.ledger())["requests"]["create"] == 0


@pytest.mark.parametrize("ignored", [False, True])
async def test_closed_terminal_stops_in_order_unless_it_is_ignored(workspace: Workspace, ignored: bool) -> None:
    """SIGHUP is a stop like SIGTERM; a process that was started to survive its terminal works on."""
    env = settings(f"http://{HOST}:9", None, sqlite(workspace))
    port = free_port()
    action = "SIG_IGN" if ignored else "SIG_DFL"  # the tests may run under nohup
    start = (
        f"import os, signal, sys; signal.signal(signal.SIGHUP, signal.{action}); os.execv(sys.argv[1], sys.argv[1:])"
    )
    command = [sys.executable, "-c", start, str(BIN / "boomerang"), "serve", "--port", str(port)]
    child = workspace.run("serve", command, env=env, url=f"http://{HOST}:{port}")
    await wait_for_response(child)
    child.process.send_signal(signal.SIGHUP)
    if ignored:
        await wait_for_response(child)
        await terminate_and_wait(child)
    else:
        assert await child.ended(seconds=SHUTDOWN_LIMIT) == 0
    assert '"stopped"' in child.output()


@asynccontextmanager
async def stalled_upload(child: Child) -> AsyncIterator[ByteStream]:
    """Send the head and the first body byte of a request, and keep the connection open."""
    port = urlsplit(child.url).port or 80
    headers = {"Host": f"{HOST}:{port}", "Content-Type": "application/json", "Content-Length": f"{len(TASK_BODY)}"}
    head = "\r\n".join(["POST /v1/tasks HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""])
    async with await anyio.connect_tcp(HOST, port) as connection:
        await connection.send(head.encode() + TASK_BODY[:1])
        yield connection


async def wait_until_running(at: Service, task_id: str) -> None:
    """Wait until the provider has accepted a task."""

    async def accepted() -> bool:
        return str((await at.task(task_id))["status"]) == "in_progress"

    await until(accepted, what="a running task")


async def wait_for_requests(sandbox: Upstream, **requests: int) -> None:
    """Wait until the provider has received this many requests of each kind."""

    async def received() -> bool:
        counted = (await sandbox.ledger())["requests"]
        return all(counted[kind] >= count for kind, count in requests.items())

    await until(received, what=f"{requests} at the provider")
