"""Nothing of a run outlives it: what the garbage collector found later would disturb the test that is on then."""

import asyncio
import gc
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from types import CoroutineType
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.simulation.crash_points import Crash
from tests.simulation.loop import OWNER
from tests.simulation.process import Process
from tests.simulation.runner import result_of
from tests.simulation.scenario import base_scenario_of

IN_A_TRANSACTION = Crash(process=0, point="statement", count=40, down=5.0)


class Leftovers:
    """What is left of a run, and what the garbage collector has said of it."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self._log = log
        self._warned: list[str] = []
        self._older = list(_unfinished())

    def record(self, unraisable: Any) -> None:
        """Keep what cannot be raised, for nobody called."""
        self._warned.append(repr(unraisable.exc_value))

    def found(self) -> list[str]:
        """Return everything, as text."""
        gc.collect()
        alive = [str(one) for one in _unfinished() if not any(one is other for other in self._older)]
        return alive + self._warned + self._log.messages


def _unfinished() -> Iterator[Any]:
    """Yield every task and coroutine that was begun and has not ended."""
    for one in gc.get_objects():
        if (type(one) is asyncio.Task and not one.done()) or (type(one) is CoroutineType and one.cr_frame is not None):
            yield one


@pytest.fixture
def leftovers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Leftovers]:
    """Yield what is left; the collector is set so that what is garbage in a run is too old to be found in it."""
    found = Leftovers(caplog)
    monkeypatch.setattr(sys, "unraisablehook", found.record)
    before = gc.get_threshold()
    gc.set_threshold(20, 1, 1_000_000)
    yield found
    gc.set_threshold(*before)


def test_connections_of_dead_processes_are_let_go(leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a process held when it died is taken back when it is buried, and not by the garbage collector."""
    close_connection, kept = AsyncConnection.close, 0

    async def close(connection: AsyncConnection) -> None:
        nonlocal kept
        owner = OWNER.get()
        if owner is None or not owner.dead:
            await close_connection(connection)
        kept += owner is not None and owner.dead

    monkeypatch.setattr(AsyncConnection, "close", close)
    result = result_of(replace(base_scenario_of(1), faithful=True, crashes=(IN_A_TRANSACTION,)))
    assert result.broken == ()
    assert kept > 0
    assert leftovers.found() == []


def test_run_that_breaks_off_leaves_nothing(leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is busy for ever is broken off, and its processes let go what they hold."""

    async def spin(_self: Process, _sql: str) -> None:
        for _ in count():
            await asyncio.sleep(0)

    monkeypatch.setattr(Process, "statement", spin)
    result = result_of(replace(base_scenario_of(1), faithful=True))
    assert "BusyForEver" in result.broken[0]
    assert leftovers.found() == []
