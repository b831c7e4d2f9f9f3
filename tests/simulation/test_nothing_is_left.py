"""A run leaves nothing behind: leftovers found by the garbage collector would disturb a later test."""

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
    """The leftovers of a run, and the warnings of the garbage collector about them."""

    def __init__(self, log: pytest.LogCaptureFixture) -> None:
        self._log = log
        self._warned: list[str] = []
        self._older = list(_unfinished())

    def record(self, unraisable: Any) -> None:
        """Record an exception that cannot be raised."""
        self._warned.append(repr(unraisable.exc_value))

    def found(self) -> list[str]:
        """Return every leftover and warning, as text."""
        gc.collect()
        alive = [str(one) for one in _unfinished() if not any(one is other for other in self._older)]
        return alive + self._warned + self._log.messages


def _unfinished() -> Iterator[Any]:
    """Yield every task and coroutine that has started and not ended."""
    for one in gc.get_objects():
        if (type(one) is asyncio.Task and not one.done()) or (type(one) is CoroutineType and one.cr_frame is not None):
            yield one


@pytest.fixture
def leftovers(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Leftovers]:
    """Yield the leftovers; the collector's thresholds keep it from collecting garbage during the run."""
    found = Leftovers(caplog)
    monkeypatch.setattr(sys, "unraisablehook", found.record)
    before = gc.get_threshold()
    gc.set_threshold(20, 1, 1_000_000)
    yield found
    gc.set_threshold(*before)


def test_connections_of_dead_processes_are_released(leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connections of a crashed process are released when it is closed, not by the garbage collector."""
    close_connection, unclosed = AsyncConnection.close, 0

    async def close(connection: AsyncConnection) -> None:
        nonlocal unclosed
        owner = OWNER.get()
        if owner is None or not owner.dead:
            await close_connection(connection)
        unclosed += owner is not None and owner.dead

    monkeypatch.setattr(AsyncConnection, "close", close)
    result = result_of(replace(base_scenario_of(1), faithful=True, crashes=(IN_A_TRANSACTION,)))
    assert result.broken == ()
    assert unclosed > 0
    assert leftovers.found() == []


def test_failed_run_leaves_nothing(leftovers: Leftovers, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run in a livelock fails, and its processes release what they hold."""

    async def spin(_self: Process, _sql: str) -> None:
        for _ in count():
            await asyncio.sleep(0)

    monkeypatch.setattr(Process, "statement", spin)
    result = result_of(replace(base_scenario_of(1), faithful=True))
    assert "Livelock" in result.broken[0]
    assert leftovers.found() == []
