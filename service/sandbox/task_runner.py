"""Run tasks from created to their final state, and send the callbacks."""

import asyncio
from dataclasses import dataclass, field

from service.sandbox.callback_sender import CallbackSender
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Provider, State, Task

FAILED = {"vtrix": ("002014001", "video generation failed"), "vidu": ("InternalServiceFailure", "generation failed")}
CANCELED = ("UserCancelled", "canceled by the user")
_CANCELABLE = (State.CREATED, State.QUEUEING)


@dataclass(kw_only=True, slots=True)
class TaskRunner:
    """Run each accepted task in its own asyncio task."""

    state: SandboxState
    callbacks: CallbackSender
    _runs: dict[str, asyncio.Task[None]] = field(init=False, default_factory=dict)
    _slots: dict[Provider, tuple[int, asyncio.Semaphore]] = field(init=False, default_factory=dict)

    @property
    def running_tasks(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks of all unfinished runs."""
        return set(self._runs.values())

    async def close(self) -> None:
        """Cancel every run."""
        runs = self.running_tasks
        for run in runs:
            run.cancel()
        await asyncio.gather(*runs, return_exceptions=True)

    def launch(self, task: Task) -> None:
        """Run the task in the background; a Vtrix task without queue time and limit starts immediately."""
        slots = self._slots_of(task.provider)
        queue_time = self.state.within("queue_time", task.number)
        if task.provider == "vtrix" and queue_time <= 0.0 and slots is None:
            self._start(task)
        run = asyncio.create_task(self._run(task, queue_time, slots))
        self._runs[task.id] = run
        run.add_done_callback(lambda _: self._runs.pop(task.id, None))

    async def finish(self, task: Task, *, error: tuple[str, str] | None = None) -> None:
        """End the task now, and wait until its callback is sent."""
        task.start(self.state.now(), 0.0)
        sending = self._end(task, error)
        if sending is not None:
            await asyncio.wait([sending])

    def end_at_once(self, task: Task, *, failed: bool) -> None:
        """End the task before the create reply, and send its callback in the background."""
        task.start(self.state.now(), 0.0)
        self._end(task, FAILED[task.provider] if failed else None)

    def cancel(self, task: Task) -> bool:
        """Cancel a waiting task; return False for a task in any other state."""
        if task.state not in _CANCELABLE:
            return False
        run = self._runs.get(task.id)
        if run is not None:
            run.cancel()
        self._end(task, CANCELED)
        return True

    async def _run(self, task: Task, queue_time: float, slots: asyncio.Semaphore | None) -> None:
        if queue_time > 0.0:
            task.state = State.QUEUEING
            await asyncio.sleep(queue_time)
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
        failed = self.state.hits("fail_tasks", task.number)
        self._end(task, FAILED[task.provider] if failed else None)

    def _start(self, task: Task) -> None:
        task.start(self.state.now(), self.state.within("run_time", task.number))
        self.callbacks.send(task)

    def _end(self, task: Task, error: tuple[str, str] | None) -> asyncio.Task[None] | None:
        task.end(self.state.now(), error)
        return self.callbacks.send(task)

    def _slots_of(self, provider: Provider) -> asyncio.Semaphore | None:
        """Return the semaphore of the provider's current concurrency limit, None without a limit."""
        switches = self.state.switches
        limit = switches.vidu_concurrency if provider == "vidu" else switches.vtrix_concurrency
        if limit == 0:
            return None
        if provider not in self._slots or self._slots[provider][0] != limit:
            self._slots[provider] = (limit, asyncio.Semaphore(limit))
        return self._slots[provider][1]
