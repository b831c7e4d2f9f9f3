"""Clients that ask for much at once: large lists, many waits."""

from pathlib import Path
from unittest.mock import patch

import anyio

from service.domain.task import Task, TaskId
from service.storage.queries import SqlTaskQueries
from tests.security.catalogue import attempt, require
from tests.security.environment import ALICE, TIMEOUT, ServiceUnderTest, service_under_test
from tests.security.raw import exchange, request

MB = 1024 * 1024
ROWS, WAITS, SECONDS = 200, 400, 5


async def _fill(g: ServiceUnderTest) -> list[str]:
    """Create ROWS tasks with nearly 64 KiB of metadata each; return their ids."""
    body = g.task_body() | {"metadata": {"a": "x" * 65_000}}
    return [(await g.http.post("/v1/tasks", json=body)).json()["id"] for _ in range(ROWS)]


@attempt("lists", "200 tasks with 64 KiB of metadata in one page")
async def large_pages(home: Path) -> str:
    """List large tasks: a page stays below 1 MiB, with and without metadata, and the cursors reach every task."""
    async with service_under_test(home) as g:
        wanted, sizes = set(await _fill(g)), []
        for include in ("", "&include=metadata"):
            seen: set[str] = set()
            cursor: str | None = ""
            while cursor is not None:
                response = await g.http.get("/v1/tasks?limit=200" + include + (f"&cursor={cursor}" if cursor else ""))
                sizes.append(len(response.content))
                require(sizes[-1] < 1.1 * MB, f"a page of {sizes[-1] / MB:.1f} MB")
                seen |= {row["id"] for row in response.json()["data"]}
                cursor = response.json()["next_cursor"]
            require(seen == wanted, f"{len(seen)} of {len(wanted)} tasks were listed")
        return f"{len(sizes)} pages of at most {max(sizes) // 1024} KB"


@attempt("waits", "400 clients that wait while nothing happens")
async def many_waits(home: Path) -> str:
    """Wait for a task with many requests: none of them reads the database again while nothing happens."""
    reads = 0
    read = SqlTaskQueries.task

    async def counted(self: SqlTaskQueries, task_id: TaskId) -> Task | None:
        nonlocal reads
        reads += 1
        return await read(self, task_id)

    async with service_under_test(home) as g, anyio.create_task_group() as group:
        task = await g.submit()
        with patch.object(SqlTaskQueries, "task", counted):
            raw = request("GET", f"/v1/tasks/{task['id']}?wait=60", f"Authorization: Bearer {ALICE}")
            for _ in range(WAITS):
                group.start_soon(lambda: exchange(g.port, raw, seconds=TIMEOUT))
            while reads < WAITS:  # noqa: ASYNC110 - the service has no event to wait for
                await anyio.sleep(0.05)
            await anyio.sleep(SECONDS)
        group.cancel_scope.cancel()
    # one read for each request, and one for the notification that may precede its wait
    require(reads <= 2 * WAITS + 10, f"{reads} reads for {WAITS} waits in {SECONDS} s")
    return f"{reads} reads for {WAITS} waits in {SECONDS} s"
