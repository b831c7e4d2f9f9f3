"""State of one sandbox, which its components share: switches, clock, faults, billing and tasks."""

import random
from collections.abc import Callable, Mapping
from datetime import datetime

from service.sandbox.billing import Bill, BillingLog, callback_hash
from service.sandbox.seeded_faults import SeededFaults
from service.sandbox.switches import Switches
from service.sandbox.tasks import Provider, Task, TaskSpec, other_id, vidu_id, vtrix_id


class SandboxState:
    """Hold the whole state of one sandbox. The components read and change it."""

    def __init__(self, switches: Switches, *, now: Callable[[], datetime], source: random.Random) -> None:
        self.switches = switches
        self.now = now
        self.faults = SeededFaults(source)
        self.billing = BillingLog()
        self.tasks: dict[str, Task] = {}
        self._sandbox_id = source.getrandbits(40)

    def change_switches(self, changes: Mapping[str, object]) -> None:
        """Change switches; raise `SwitchError` and change none if a name or a value is invalid."""
        self.switches = self.switches.with_changes(changes)
        for name in changes:
            self.faults.reset(name)

    def hits(self, fault: str, occasion: object) -> bool:
        """Return whether the fault of that switch occurs on this occasion."""
        return self.faults.hits(self.switches, fault, str(occasion))

    def within(self, span: str, occasion: object) -> float:
        """Return a number of seconds from the span of that switch."""
        return self.faults.within(getattr(self.switches, span), span, str(occasion))

    def trace(self, occasion: object) -> str:
        """Return a hexadecimal id for a request, a nonce or a secret."""
        return f"{int(self.faults.draw('trace', str(occasion)) * 2**64):016x}"

    @property
    def next_task(self) -> str:
        """Return the number of the next task."""
        return str(len(self.billing.bills) + 1)

    def find(self, task_id: str, provider: Provider) -> Task | None:
        """Return the provider's task with that id; None during `unknown_after_create`."""
        task = self.tasks.get(task_id)
        if task is None or task.provider != provider:
            return None
        age = (self.now() - task.created_at).total_seconds()
        return None if age < self.switches.unknown_after_create else task

    def of_files(self, stem: str) -> Task | None:
        """Return the task whose files have that name without its ending."""
        return self.tasks.get(stem) or next((task for task in self.tasks.values() if task.file_stem == stem), None)

    def accept(self, provider: Provider, *, model: str, spec: TaskSpec, key: str, base_url: str) -> Task:
        """Make a task from a create request and bill it."""
        at, number = self.now(), len(self.billing.bills) + 1
        native = vidu_id(self._sandbox_id, number, at)
        task_id = native if provider == "vidu" else vtrix_id(self._sandbox_id, number, at)
        if self.hits("odd_ids", number):
            task_id = other_id(task_id, self.faults.draw("id shape", str(number)))
        task = Task(
            number=number,
            id=task_id,
            native_id=task_id if provider == "vidu" else native,
            provider=provider,
            model=model,
            spec=spec,
            key=key,
            base_url=self.switches.public_url.rstrip("/") or base_url,
            created_at=at,
        )
        self.tasks[task.id] = task
        bill = Bill(
            number=number,
            upstream_id=task.id,
            payload=spec.payload,
            callback_hash=callback_hash(spec.callback_url),
            cost=task.cost,
            at=at,
        )
        self.billing.bills.append(bill)
        return task
