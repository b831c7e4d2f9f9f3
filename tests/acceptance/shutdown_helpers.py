"""Helpers of the shutdown tests: a slow handler, and queries on the database of a stopped service."""

from time import monotonic
from typing import Any

from sqlalchemy import create_engine, text

from tests.acceptance.processes import Child, Workspace

SHUTDOWN_LIMIT = 9.5
"""Maximum shutdown time in seconds: the process exits after nine, and platforms kill it after ten."""

SLOW_HANDLER = '''
"""A handler that runs while a file exists."""

import asyncio
from pathlib import Path

from service import Event, Handlers, Tools

handlers = Handlers()


@handlers.on("task.submitted", name="slow", timeout=120)
async def slow(event: Event, tools: Tools) -> None:
    """Wait while the file exists."""
    Path("slow.began").touch()
    while Path("slow.wait").exists():
        await asyncio.sleep(0.05)
'''


def rows(database_url: str, query: str, **values: str) -> list[tuple[Any, ...]]:
    """Return the rows of a query on the database of a stopped service."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]
    finally:
        engine.dispose()


async def terminate_and_wait(child: Child) -> None:
    """Send SIGTERM and check that the process exits with 0 in time."""
    started = monotonic()
    child.terminate()
    assert await child.ended(seconds=SHUTDOWN_LIMIT + 20) == 0
    assert monotonic() - started < SHUTDOWN_LIMIT


def leases(database_url: str) -> list[tuple[Any, ...]]:
    """Return the rows with a lease."""
    return rows(
        database_url,
        "SELECT id, status FROM tasks WHERE leased_until IS NOT NULL"
        " UNION ALL SELECT id, status FROM deliveries WHERE leased_until IS NOT NULL",
    )


def status_of(database_url: str, task_id: str) -> str:
    """Return the stored status of a task."""
    ((status,),) = rows(database_url, "SELECT status FROM tasks WHERE id = :id", id=task_id)
    return str(status)


def install_handler(workspace: Workspace, code: str) -> None:
    """Write a handler where the service finds it."""
    folder = workspace.home / "handlers"
    folder.mkdir()
    (folder / "slow.py").write_text(code)


def install_slow_handler(workspace: Workspace) -> None:
    """Install the slow handler and make it wait."""
    install_handler(workspace, SLOW_HANDLER)
    (workspace.home / "slow.wait").touch()
