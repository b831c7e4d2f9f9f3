"""Long polling: delay a response until a task is settled, the time is up, or the client disconnects."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import anyio
from starlette.requests import Request
from starlette.types import Receive

from service.api.connections import MAX_CONNECTIONS
from service.api.request_work import BACKGROUND, RequestWork
from service.domain.errors import StoreUnavailable
from service.domain.ports.signals import Signals
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Status, Task, TaskId

WAIT_MAX = 25
"""Longest wait in seconds: the routers of many platforms end a request after 30 seconds."""

MAX_WAITS = MAX_CONNECTIONS // 2
"""Waits at once of all clients: each keeps a connection, and connections are left for callbacks and other requests."""


CHECK_INTERVAL = 2.0
"""Seconds between two reads of the tasks that are waited for; signals are hints, and one may be lost."""


Watching = Callable[[TaskId], AbstractContextManager[None]]
"""Returns a block in which somebody watches the progress of a task."""


def not_watched(_task_id: TaskId) -> AbstractContextManager[None]:
    """Return a block without effect."""
    return nullcontext()


@dataclass(frozen=True, kw_only=True)
class LongPoll:
    """Waits for tasks; `stopping` returns whether the process shuts down, which ends every wait.

    A wait costs nothing until its task is notified. One query for all of them, every CHECK_INTERVAL, finds the tasks
    whose notification was lost or was sent in another process that shares an SQLite file.

    No wait is longer than `max_seconds`. There are at most `max_waits`, and a client may begin one only while it has
    fewer than are free (as in `domain/fair_share.py`). A wait too many ends at once. Who waits for a task watches it:
    see `watching`.
    """

    queries: TaskQueries
    signals: Signals
    stopping: Callable[[], bool]
    watching: Watching = not_watched
    max_waits: int = MAX_WAITS
    max_seconds: int = WAIT_MAX
    work: RequestWork = BACKGROUND
    _clients: Counter[str] = field(default_factory=Counter)
    _waiting: Counter[TaskId] = field(default_factory=Counter)
    _checks: list[asyncio.Task[None]] = field(default_factory=list)

    async def until_settled(self, task: Task, seconds: float, request: Request) -> Task:
        """Return `task` once it is settled or expired, after `seconds`, or when the client has disconnected."""
        seconds = min(seconds, self.max_seconds)
        client = _client_of(request)
        if seconds <= 0 or _ended(task) or self._clients[client] >= self.max_waits - self._clients.total():
            return task
        newest = [task]
        try:
            with self._counted(client), self._checked(task.id), self.watching(task.id):
                async with self.work.driving(task.id, seconds), anyio.create_task_group() as group:
                    group.start_soon(_cancel_on_disconnect, request.receive, group.cancel_scope)
                    await self._wait(newest, anyio.current_time() + seconds)
                    group.cancel_scope.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None  # a group has no status of its own, and would be a 500
        return newest[0]

    async def _wait(self, newest: list[Task], until: float) -> None:
        while not (_ended(newest[0]) or self.stopping()):
            remaining = until - anyio.current_time()
            if remaining <= 0:
                return
            await self.signals.wait(_topic(newest[0].id), remaining)
            newest[0] = await self.queries.task(newest[0].id) or newest[0]

    @contextmanager
    def _counted(self, client: str) -> Iterator[None]:
        """Count one more wait of `client` inside the block."""
        self._clients[client] += 1
        try:
            yield
        finally:
            self._clients[client] -= 1
            if not self._clients[client]:
                del self._clients[client]

    @contextmanager
    def _checked(self, task_id: TaskId) -> Iterator[None]:
        """Check the task every CHECK_INTERVAL inside the block, together with those of all other waits."""
        self._waiting[task_id] += 1
        if not self._checks:
            self._checks.append(asyncio.create_task(self._check(), name="long polls"))
        try:
            yield
        finally:
            self._waiting[task_id] -= 1
            if not self._waiting[task_id]:
                del self._waiting[task_id]
            if not self._waiting:
                self._checks.pop().cancel()

    async def _check(self) -> None:
        while True:
            await asyncio.sleep(CHECK_INTERVAL)
            with suppress(StoreUnavailable):
                ended = self._waiting if self.stopping() else await self.queries.ended(list(self._waiting))
                self.signals.notify(*map(_topic, ended))


def _client_of(request: Request) -> str:
    caller = request.scope.get("state", {}).get("caller")
    return caller.name if caller else ""


def _topic(task_id: TaskId) -> str:
    return f"task:{task_id}"


def _ended(task: Task) -> bool:
    return task.settled or task.status is Status.EXPIRED


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
