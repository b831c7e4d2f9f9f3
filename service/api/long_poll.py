"""Holding an answer back until a task is settled, the time is up, or nobody waits any more."""

from collections.abc import Callable
from dataclasses import dataclass

import anyio
from starlette.requests import Request
from starlette.types import Receive

from service.domain.ports.signals import Signals
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Status, Task

CHECK_INTERVAL = 1.0  # seconds; signals are hints, so that a lost one costs no more than this


@dataclass(frozen=True, kw_only=True)
class LongPoll:
    """Waits for tasks; `stopping` says that the process is about to end, which ends every wait."""

    queries: TaskQueries
    signals: Signals
    stopping: Callable[[], bool]

    async def until_settled(self, task: Task, seconds: float, request: Request) -> Task:
        """Return `task` once it is settled or expired, or as it is after `seconds` or when the client has left."""
        if seconds <= 0 or _ended(task):
            return task
        newest = [task]
        async with anyio.create_task_group() as group:
            group.start_soon(_cancel_when_left, request.receive, group.cancel_scope)
            await self._look(newest, anyio.current_time() + seconds)
            group.cancel_scope.cancel()
        return newest[0]

    async def _look(self, newest: list[Task], until: float) -> None:
        while not (_ended(newest[0]) or self.stopping()):
            left = until - anyio.current_time()
            if left <= 0:
                return
            await self.signals.wait(f"task:{newest[0].id}", min(left, CHECK_INTERVAL))
            newest[0] = await self.queries.task(newest[0].id) or newest[0]


def _ended(task: Task) -> bool:
    return task.settled or task.status is Status.EXPIRED


async def _cancel_when_left(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
