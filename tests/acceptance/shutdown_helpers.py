"""What the tests of stops share: a handler that takes its time, and what a stopped service has left."""

from time import monotonic
from typing import Any

from sqlalchemy import create_engine, text

from tests.acceptance.processes import Child, Workspace

SHUTDOWN_LIMIT = 9.5
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


def rows(database_url: str, query: str, **values: str) -> list[tuple[Any, ...]]:
    """Return what a query finds in the database that a stopped service has left."""
    engine = create_engine(database_url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query), values)]
    finally:
        engine.dispose()


async def terminate_and_wait(child: Child) -> None:
    """Send SIGTERM and see the process end well and in time."""
    asked = monotonic()
    child.terminate()
    assert await child.ended(seconds=SHUTDOWN_LIMIT + 20) == 0
    assert monotonic() - asked < SHUTDOWN_LIMIT


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


def install_handler(workspace: Workspace, code: str) -> None:
    """Put a handler where the service finds it."""
    folder = workspace.home / "handlers"
    folder.mkdir()
    (folder / "slow.py").write_text(code)


def install_slow_handler(workspace: Workspace) -> None:
    """Put the slow handler where the service finds it, and let it wait."""
    install_handler(workspace, SLOW_HANDLER)
    (workspace.home / "slow.wait").touch()
