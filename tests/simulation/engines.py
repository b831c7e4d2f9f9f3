"""The engines of a run: the quick ones, and SQLAlchemy's own on a driver without a thread."""

from contextlib import suppress
from contextvars import copy_context
from typing import Any, cast
from unittest.mock import patch

from sqlalchemy import PoolProxiedConnection, event
from sqlalchemy.ext.asyncio import AsyncEngine
from sqlalchemy.util import greenlet_spawn

from service.storage import dialects as dialect
from service.storage import sqlite_thread as one_trip
from tests.simulation.loop import OWNER, Owner
from tests.simulation.quick import QuickEngine
from tests.simulation.sqlite import FAST_PRAGMAS, Host, Wire


async def _connected(*args: Any, **_kwargs: Any) -> Wire:
    host: Any = OWNER.get()
    return Wire(str(args[0]), host)


def _lent(_connection: object, _recorder: object, lent: PoolProxiedConnection) -> None:
    """Keep what was taken from a pool with its wire: the end of its process takes it back, and not the collector."""
    wire: Any = lent.driver_connection
    wire.lent = lent


class _Nobody:
    """The host of a connection outside every run, whose statements are waited for by nobody."""

    dead = False

    def __init__(self) -> None:
        self.wires: list[Wire] = []

    async def statement(self, _sql: str) -> None:
        """Go on at once."""


def _acquaint(engine: AsyncEngine) -> None:
    """Let a new engine learn what SQLite can, which it asks once: else its first run would differ from all others."""

    def meet() -> None:
        engine.sync_engine.connect().close()
        engine.sync_engine.dispose()

    def at_once() -> None:
        OWNER.set(cast("Owner", _Nobody()))
        with suppress(StopIteration):
            greenlet_spawn(meet).send(None)  # with nobody it never pauses

    copy_context().run(at_once)


class Engines:
    """Engines by process and kind, kept over seeds: what SQLAlchemy compiled once serves every run."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, bool], AsyncEngine] = {}
        self._make = dialect.sqlite_engine

    def engine(self, at: dialect.Address, *, writes: bool) -> Any:
        """Return an engine for the running process."""
        host: Any = OWNER.get()
        return QuickEngine(str(at.path), host, writes=writes) if host.hurries else self._whole(host, at, writes=writes)

    def _whole(self, host: Host, at: dialect.Address, *, writes: bool) -> AsyncEngine:
        """Return the engine that the process had in an earlier run, instead of a new one."""
        key = (host.name, writes)
        if key not in self._kept:
            self._kept[key] = self._made(at, writes=writes)
        engine = self._kept[key]
        engine.sync_engine.dispose(close=False)  # those of the process before are closed, and of another loop
        return engine

    def _made(self, at: dialect.Address, *, writes: bool) -> AsyncEngine:
        with patch.object(dialect, "SQLITE_PRAGMAS", FAST_PRAGMAS), patch.object(one_trip, "connect", _connected):
            engine = self._make(at, writes=writes)
        event.listen(engine.sync_engine, "checkout", _lent)
        _acquaint(engine)
        return engine
