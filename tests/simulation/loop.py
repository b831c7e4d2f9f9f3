"""An event loop on a virtual clock that assigns every task to its simulated process."""

import asyncio
import gc
import inspect
import selectors
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context, ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

START = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)


class Owner(Protocol):
    """A simulated process: it owns the tasks created in its context."""

    dead: bool

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Add a task of the process."""

    def watched(self, work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """Return `work` as its task runs it."""


OWNER: ContextVar[Owner | None] = ContextVar("owner", default=None)
"""The simulated process that the running code belongs to; None for code outside of all."""


MAX_ITERATIONS = 30_000
"""Maximum iterations of the loop at one virtual time."""


class Livelock(RuntimeError):
    """The loop iterates without end at one virtual time."""


class Deadlock(RuntimeError):
    """Every task waits, and no timer is set."""


class _VirtualSelector(selectors.DefaultSelector):
    """Moves the virtual time to the next timer when no callback is ready; waits for no real event."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds = 0.0
        self.iterations = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Advance the virtual time by `timeout` seconds."""
        if timeout is None:
            raise Deadlock(f"no timer is set after {self.seconds:.3f}")
        if timeout > 0:
            self.seconds += timeout
            self.iterations = 0
        else:
            self.iterations += 1
            if self.iterations > MAX_ITERATIONS:
                raise Livelock(f"{MAX_ITERATIONS} iterations at {self.seconds:.3f}")
        return []


class SimLoop(asyncio.SelectorEventLoop):
    """A loop on a virtual clock; it calls `on_iteration`, if set, after each iteration."""

    def __init__(self) -> None:
        self._virtual_selector = _VirtualSelector()
        super().__init__(self._virtual_selector)
        self.on_iteration: Callable[[], None] | None = None
        self.faults: list[str] = []
        self.set_task_factory(_make_task)  # type: ignore[arg-type] # the stubs know no context
        self.set_exception_handler(_note_fault)

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc] # asyncio's own, not in its stubs
        if self.on_iteration:
            self.on_iteration()

    def reset_iterations(self) -> None:
        """Set the count of iterations at this time to zero."""
        self._virtual_selector.iterations = 0

    def time(self) -> float:
        """Return the virtual seconds since the start."""
        return self._virtual_selector.seconds

    def now(self) -> datetime:
        """Return the virtual time."""
        return START + timedelta(seconds=self._virtual_selector.seconds)


def _make_task(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, Any], context: Context | None = None
) -> "asyncio.Task[Any]":
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is None:
        return asyncio.Task(work, loop=loop, context=context)
    watched = owner.watched(work)
    task = asyncio.Task(watched, loop=loop, context=context)
    if watched is not work:
        task.add_done_callback(lambda _: work.close())  # for a task canceled before its first step
    _close_wrapped(task, work)
    owner.adopt(task)
    return task


def _close_wrapped(task: "asyncio.Task[Any]", work: Coroutine[Any, Any, Any]) -> None:
    """Let the coroutine that a task group of anyio wraps be closed if its task is cancelled before its first step."""
    frame = getattr(work, "cr_frame", None)
    if frame is None or frame.f_code.co_name != "_run_coro":
        return
    wrapped: Any = frame.f_locals["self"]._coro
    task.add_done_callback(
        lambda _: wrapped.close() if inspect.getcoroutinestate(wrapped) == inspect.CORO_CREATED else None
    )


def _note_fault(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Record what the loop would log; exceptions of a dead process are no fault."""
    owner = OWNER.get()
    if isinstance(loop, SimLoop) and (owner is None or not owner.dead):
        loop.faults.append(f"{context.get('message')}: {context.get('exception')!r}")


@contextmanager
def own_loop() -> Iterator[SimLoop]:
    """Yield a new loop for one run, and close it with all its tasks."""
    loop = SimLoop()
    asyncio.set_event_loop(loop)
    try:
        yield loop
    finally:
        loop.on_iteration = None
        _close(loop)


def _close(loop: SimLoop) -> None:
    OWNER.set(None)
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    if left:
        loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
    loop.run_until_complete(loop.shutdown_asyncgens())
    asyncio.set_event_loop(None)
    loop.close()
    gc.collect(0)
