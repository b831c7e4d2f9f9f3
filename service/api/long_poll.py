"""Long polling: delay a response until a task is settled, the time is up, or the client disconnects."""

from collections.abc import Callable
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.types import Receive

from service.domain.ports.signals import Signals
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Status, Task

MAX_WAIT = 60  # seconds


CHECK_INTERVAL = 1.0
"""Seconds between two reads of the task; signals are hints, and a lost one delays the response by no more than this."""


@dataclass(frozen=True, kw_only=True)
class LongPoll:
    """Waits for tasks; `stopping` returns whether the process shuts down, which ends every wait."""

    queries: TaskQueries
    signals: Signals
    stopping: Callable[[], bool]

    async def until_settled(self, task: Task, seconds: float, request: Request) -> Task:
        """Return `task` once it is settled or expired, after `seconds`, or when the client has disconnected."""
        if seconds <= 0 or _ended(task):
            return task
        newest = [task]
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_on_disconnect, request.receive, group.cancel_scope)
            await self._wait(newest, anyio.current_time() + seconds)
            group.cancel_scope.cancel()
        return newest[0]

    async def _wait(self, newest: list[Task], until: float) -> None:
        while not (_ended(newest[0]) or self.stopping()):
            remaining = until - anyio.current_time()
            if remaining <= 0:
                return
            await self.signals.wait(f"task:{newest[0].id}", min(remaining, CHECK_INTERVAL))
            newest[0] = await self.queries.task(newest[0].id) or newest[0]


def _ended(task: Task) -> bool:
    return task.settled or task.status is Status.EXPIRED


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
