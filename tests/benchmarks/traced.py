"""The command `boomerang` in a process that records its calls: `python -m tests.benchmarks.traced FILE COMMAND ...`.

FILE receives a JSON list of calls in the order of time when the process ends. A call is the first entry into a
function; an entry that resumes a coroutine or a generator is not a call. The list holds the functions under `service/`
and the few that `MARKS` names. Code that Python generates at run time, such as the `__init__` of
a dataclass, has no file and is left out.
"""

import asyncio
import dis
import json
import sys
import threading
import time
from contextlib import suppress
from contextvars import ContextVar
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import NamedTuple

import service
from service.cli import main

ROOT = Path(service.__file__).parents[1]

MARKS = {
    ("uvicorn/protocols/http/httptools_impl.py", "RequestResponseCycle.run_asgi"): "request",
    ("uvicorn/protocols/http/httptools_impl.py", "RequestResponseCycle.send"): "reply",
    ("service/api/whole_request.py", "WholeRequest.send_no_content"): "reply",
    ("httpx/_client.py", "AsyncClient.send"): "upstream request",
    ("asyncio/tasks.py", "create_task"): "new task",
}
"""Functions by the end of their path and their qualified name, and the mark that a call of each sets."""


class Call(NamedTuple):
    """One call.

    `at` is in nanoseconds of the monotonic clock, which all processes share. `module` is a dotted name or a mark.
    `tasks` numbers the running asyncio task and the tasks that created it, oldest first; None in a thread without an
    event loop. `in_task` is False in a callback of the event loop. `depth` is the number of frames on the stack;
    None in a greenlet of SQLAlchemy and in another thread, whose stacks begin elsewhere.
    """

    at: int
    module: str
    name: str
    tasks: tuple[int, ...] | None
    in_task: bool
    depth: int | None


class CallRecorder:
    """Records the calls of every thread.

    A context variable carries the numbers of the tasks: a new asyncio task inherits the context of its creator.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._numbers = count(1)
        self._owner: ContextVar[tuple[tuple[int, ...], object]] = ContextVar("owner", default=((), None))
        self._known: dict[CodeType, tuple[str, int] | None] = {}
        self._bottom = _stack(sys._getframe())[-1]

    def start(self) -> None:
        """Record from now on, also in threads that start later."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code not in self._known:
            self._known[code] = _module_and_entry(code)
        known = self._known[code]
        if known is None or frame.f_lasti != known[1]:
            return
        tasks, in_task = self._running_tasks()
        stack = _stack(frame)
        depth = len(stack) if stack[-1] is self._bottom else None
        self.calls.append(Call(time.monotonic_ns(), known[0], code.co_qualname, tasks, in_task, depth))

    def _running_tasks(self) -> tuple[tuple[int, ...] | None, bool]:
        try:
            running = asyncio.current_task()
        except RuntimeError:  # this thread has no event loop
            return None, False
        numbers, owner = self._owner.get()
        if running is not None and owner is not running:
            numbers = (*numbers, next(self._numbers))
            self._owner.set((numbers, running))
        return numbers, running is not None


def _module_and_entry(code: CodeType) -> tuple[str, int] | None:
    """Return the module or mark of a function, and the offset at which a call enters it; None if it is not recorded.

    A call enters at `RESUME 0`. What resumes a coroutine or generator enters at `RESUME 1`, `2` or `3`.
    """
    if code.co_name == "<module>":
        return None
    steps = dis.get_instructions(code)
    entry = next((step.offset for step in steps if step.opname == "RESUME" and step.arg == 0), 0)
    for (file, name), mark in MARKS.items():
        if code.co_qualname == name and code.co_filename.endswith(file):
            return mark, entry
    path = Path(code.co_filename)
    if not path.is_relative_to(ROOT / "service"):
        return None
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), entry


def _stack(frame: FrameType) -> list[FrameType]:
    """Return the frame and those below it."""
    stack = [frame]
    while below := stack[-1].f_back:
        stack.append(below)
    return stack


def run() -> None:
    """Run the command with all arguments but the first."""
    file = Path(sys.argv.pop(1))
    sys.argv[0] = "boomerang"
    recorder = CallRecorder()
    recorder.start()
    with suppress(SystemExit):
        main()
    sys.setprofile(None)
    file.write_text(json.dumps(recorder.calls))


if __name__ == "__main__":
    run()
