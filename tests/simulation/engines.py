"""The database engines of a run: the quick ones, and SQLAlchemy's own on a driver without a thread."""

from contextlib import suppress
from contextvars import copy_context
from typing import Any, cast
from unittest.mock import patch

from sqlalchemy import URL, PoolProxiedConnection, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from service.storage import sqlite_driver
from tests.simulation.loop import OWNER, Owner
from tests.simulation.quick import QuickEngine
from tests.simulation.sqlite import FAST_PRAGMAS, Host, SimConnection


async def _connected(*args: Any, **_kwargs: Any) -> SimConnection:
    host: Any = OWNER.get()
    return SimConnection(str(args[0]), host)


def _remember_pooled(_connection: object, _recorder: object, pooled: PoolProxiedConnection) -> None:
    """Remember the pooled connection, so that the end of its process returns it, not the garbage collector."""
    sim_connection: Any = pooled.driver_connection
    sim_connection.pooled = pooled


class _NullHost:
    """The host of a connection outside every run; its statements do not pause."""

    dead = False

    def __init__(self) -> None:
        self.connections: list[SimConnection] = []

    async def statement(self, _sql: str) -> None:
        """Return without a pause."""


def _warm_up(engine: AsyncEngine) -> None:
    """Let a new engine query the features of SQLite, once: else its first run would differ from all others."""

    def connect_once() -> None:
        engine.sync_engine.connect().close()
        engine.sync_engine.dispose()

    def without_pauses() -> None:
        OWNER.set(cast("Owner", _NullHost()))
        with suppress(StopIteration):
            greenlet_spawn(connect_once).send(None)  # with a null host it never pauses

    copy_context().run(without_pauses)


class Engines:
    """Engines by process and kind, shared by all seeds, so that SQLAlchemy compiles each statement once."""

    def __init__(self) -> None:
        self._engines: dict[tuple[str, bool], AsyncEngine] = {}
        self._make = sqlite_driver.sqlite_engine

    def engine(self, url: URL, *, writes: bool) -> Any:
        """Return an engine for the running process."""
        host: Any = OWNER.get()
        return (
            QuickEngine(url.database or "", host, writes=writes)
            if host.fast
            else self._full_engine(host, url, writes=writes)
        )

    def _full_engine(self, host: Host, url: URL, *, writes: bool) -> AsyncEngine:
        """Return the engine of the process from an earlier run, or a new one."""
        key = (host.name, writes)
        if key not in self._engines:
            self._engines[key] = self._create_engine(url, writes=writes)
        engine = self._engines[key]
        engine.sync_engine.dispose(close=False)  # connections of the earlier run are closed, and belong to another loop
        return engine

    def _create_engine(self, url: URL, *, writes: bool) -> AsyncEngine:
        with patch.multiple(sqlite_driver, SQLITE_PRAGMAS=FAST_PRAGMAS, connect=_connected):
            engine = self._make(url, writes=writes)
        event.listen(engine.sync_engine, "checkout", _remember_pooled)
        _warm_up(engine)
        return engine
