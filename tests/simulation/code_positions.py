"""Code positions of the service: where a task pauses, or where a statement is run."""

import sys
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import service

ROOT = str(Path(service.__file__).parents[1])
SOURCE_ROOTS = (f"{ROOT}/service/", f"{ROOT}/handlers/")
EXCLUDED = (f"{ROOT}/service/storage/database.py", f"{ROOT}/service/sandbox/")
"""Excluded: code around every statement identifies no position, and the sandbox is not the service."""


def paused_at(work: Any) -> str | None:
    """Return the innermost line of the service at which a task pauses; None outside the service's code."""
    found = None
    while work is not None:
        frame = getattr(work, "cr_frame", None) or getattr(work, "gi_frame", None) or getattr(work, "ag_frame", None)
        if frame is not None and _is_source(frame.f_code):
            found = _named(frame)
        work = getattr(work, "cr_await", None) or getattr(work, "gi_yieldfrom", None) or getattr(work, "ag_await", None)
    return found


def running_at() -> str | None:
    """Return the innermost line of the service among the callers."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if _is_source(frame.f_code):
            return _named(frame)
        frame = frame.f_back
    return None


def _is_source(code: CodeType) -> bool:
    return code.co_filename.startswith(SOURCE_ROOTS) and not code.co_filename.startswith(EXCLUDED)


def _named(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename.removeprefix(ROOT + '/')}:{frame.f_lineno} {frame.f_code.co_qualname}"


async def watched(work: Coroutine[Any, Any, Any], paused: Callable[[Any], None]) -> Any:
    """Run `work` and call `paused` with it at each of its pauses."""
    return await _Watched(work, paused)


class _Watched:
    def __init__(self, work: Coroutine[Any, Any, Any], paused: Callable[[Any], None]) -> None:
        self._work = work
        self._paused = paused

    def __await__(self) -> Generator[Any, Any, Any]:
        steps = self._work.__await__()
        step: Callable[[Any], Any] = steps.send
        sent: Any = None
        while True:
            try:
                awaited = step(sent)
            except StopIteration as end:
                return end.value
            self._paused(self._work)
            try:
                sent = yield awaited
                step = steps.send
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException as error:  # noqa: BLE001 - each exception thrown into the task is passed on to its work
                sent, step = error, steps.throw
