"""An event loop whose clock jumps, and which knows for every task the simulated process that it belongs to."""

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

from tests.unit.sandboxes import MovedLoop

START = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)


class Owner(Protocol):
    """A simulated process: it owns the tasks that are made in its context."""

    dead: bool

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Take a task as its own."""


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)
"""The simulated process that the running code belongs to; None for the world around it."""


MOST_LAPS = 30_000
"""Laps that a run may make at one moment: after them it is busy for ever."""


class BusyForEver(RuntimeError):
    """Nothing moves on, and yet nothing rests."""


class SimLoop(MovedLoop):
    """A MovedLoop that calls `on_lap` once for every lap and hands each new task to its owner."""

    def __init__(self) -> None:
        super().__init__()
        self.on_lap: Callable[[], None] | None = None
        self.faults: list[str] = []
        self._moment = 0.0
        self._laps = 0
        self.set_task_factory(_make_task)  # type: ignore[arg-type] # the stubs know no context
        self.set_exception_handler(_note_fault)

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc] # asyncio's own, not in its stubs
        if self.on_lap:
            self.on_lap()
            self._look_at_the_clock()

    def _look_at_the_clock(self) -> None:
        self._laps = self._laps + 1 if self.time() == self._moment else 0
        self._moment = self.time()
        if self._laps > MOST_LAPS:
            raise BusyForEver(f"{MOST_LAPS} laps at {self._moment:.3f}")

    def now(self) -> datetime:
        """Return the virtual time."""
        return START + timedelta(seconds=self.time())


def _make_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None
) -> "asyncio.Task[Any]":
    task = asyncio.Task(work, loop=loop, context=context)
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.adopt(task)
    return task


def _note_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Keep what the loop would have logged; what a dead process leaves behind is no fault."""
    owner = OWNER.get()
    if isinstance(loop, SimLoop) and (owner is None or not owner.dead):
        loop.faults.append(f"{context.get('message')}: {context.get('exception')!r}")
