"""Move tasks from created to their end, and say so to those who want callbacks."""

import asyncio

from service.sandbox.callback_sender import CallbackSender
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Provider, State, Task

FAILED = {"vtrix": ("002014001", "video generation failed"), "vidu": ("InternalServiceFailure", "generation failed")}
CANCELED = ("UserCancelled", "canceled by the user")
_CANCELABLE = (State.CREATED, State.QUEUEING)


class TaskRunner:
    """Run each accepted task in one asyncio task of its own."""

    def __init__(self, state: SandboxState, callbacks: CallbackSender) -> None:
        self._state = state
        self._callbacks = callbacks
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._slots: dict[Provider, tuple[int, asyncio.Semaphore]] = {}

    @property
    def running_tasks(self) -> set[asyncio.Task[None]]:
        """Return every run that has not ended."""
        return set(self._runs.values())

    async def close(self) -> None:
        """Stop every run."""
        runs = self.running_tasks
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    def launch(self, task: Task) -> None:
        """Let the task run in the background; where nothing holds it up, it runs at once."""
        slots = self._slots_of(task.provider)
        waits = self._state.within("queue_time", task.number)
        if task.provider == "vtrix" and waits <= 0.0 and slots is None:
            self._start(task)
        run = asyncio.create_task(self._run(task, waits, slots))
        self._runs[task.id] = run
        run.add_done_callback(lambda _: self._runs.pop(task.id, None))

    async def finish(self, task: Task, *, error: tuple[str, str] | None = None) -> None:
        """End the task now, and wait for the first callback about it."""
        task.start(self._state.now(), 0.0)
        told = self._end(task, error)
        if told is not None:
            await asyncio.wait([told])

    def end_at_once(self, task: Task, *, failed: bool) -> None:
        """End the task before its create is answered, and call back in the background."""
        task.start(self._state.now(), 0.0)
        self._end(task, FAILED[task.provider] if failed else None)

    def cancel(self, task: Task) -> bool:
        """Cancel a task that waits; say False when it is too late."""
        if task.state not in _CANCELABLE:
            return False
        run = self._runs.get(task.id)
        if run is not None:
            run.cancel()
        self._end(task, CANCELED)
        return True

    async def _run(self, task: Task, waits: float, slots: asyncio.Semaphore | None) -> None:
        if waits > 0.0:
            task.state = State.QUEUEING
            await asyncio.sleep(waits)
        if slots is None:
            await self._work(task)
            return
        if slots.locked():
            task.state = State.QUEUEING
        async with slots:
            await self._work(task)

    async def _work(self, task: Task) -> None:
        if task.started_at is None:
            self._start(task)
        await asyncio.sleep(task.run_time)
        failed = self._state.hits("fail_tasks", task.number)
        self._end(task, FAILED[task.provider] if failed else None)

    def _start(self, task: Task) -> None:
        task.start(self._state.now(), self._state.within("run_time", task.number))
        self._callbacks.tell(task)

    def _end(self, task: Task, error: tuple[str, str] | None) -> asyncio.Task[None] | None:
        task.end(self._state.now(), error)
        return self._callbacks.tell(task)

    def _slots_of(self, provider: Provider) -> asyncio.Semaphore | None:
        switches = self._state.switches
        limit = switches.vidu_concurrency if provider == "vidu" else switches.vtrix_concurrency
        if limit == 0:
            return None
        if provider not in self._slots or self._slots[provider][0] != limit:
            self._slots[provider] = (limit, asyncio.Semaphore(limit))
        return self._slots[provider][1]
