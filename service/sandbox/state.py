"""Share one sandbox's switches, clock, dice, ledger and tasks among its parts."""

import random
from collections.abc import Callable, Mapping
from datetime import datetime

from service.sandbox.billing import Bill, BillingLog, callback_hash
from service.sandbox.seeded_faults import SeededFaults
from service.sandbox.switches import Switches
from service.sandbox.tasks import Provider, Task, TaskSpec, vidu_id, vtrix_id


class SandboxState:
    """Know everything that is so in one sandbox; its parts read and change it, and hold nothing of their own."""

    def __init__(self, switches: Switches, *, now: Callable[[], datetime], source: random.Random) -> None:
        self.switches = switches
        self.now = now
        self.faults = SeededFaults(source)
        self.billing = BillingLog()
        self.tasks: dict[str, Task] = {}
        self._sandbox_id = source.getrandbits(40)

    def turn(self, changes: Mapping[str, object]) -> None:
        """Change switches; raise `SwitchError`, and change none, when a name or value is wrong."""
        self.switches = self.switches.with_changes(changes)
        for name in changes:
            self.faults.forget(name)

    def hits(self, fault: str, occasion: object) -> bool:
        """Say whether the fault of that switch strikes on this occasion."""
        return self.faults.hits(self.switches, fault, str(occasion))

    def within(self, span: str, occasion: object) -> float:
        """Return seconds from the span of that switch."""
        return self.faults.within(getattr(self.switches, span), span, str(occasion))

    def trace(self, occasion: object) -> str:
        """Return a hexadecimal id for a request, a nonce or the like."""
        return f"{int(self.faults.draw('trace', str(occasion)) * 2**64):016x}"

    def find(self, task_id: str, provider: Provider) -> Task | None:
        """Return the provider's task of that id once the upstream knows it."""
        task = self.tasks.get(task_id)
        if task is None or task.provider != provider:
            return None
        age = (self.now() - task.created_at).total_seconds()
        return None if age < self.switches.unknown_after_create else task

    def accept(self, provider: Provider, *, model: str, spec: TaskSpec, key: str, base_url: str) -> Task:
        """Make a task of a create and bill it."""
        at, number = self.now(), len(self.billing.bills) + 1
        native = vidu_id(self._sandbox_id, number, at)
        task = Task(
            number=number,
            id=native if provider == "vidu" else vtrix_id(self._sandbox_id, number, at),
            native_id=native,
            provider=provider,
            model=model,
            spec=spec,
            key=key,
            base_url=self.switches.public_url.rstrip("/") or base_url,
            created_at=at,
        )
        self.tasks[task.id] = task
        self._bill(task)
        return task

    def _bill(self, task: Task) -> None:
        self.billing.bills.append(
            Bill(
                number=task.number,
                upstream_id=task.id,
                payload=task.spec.payload,
                callback_hash=callback_hash(task.spec.callback_url),
                cost=task.cost,
                at=task.created_at,
            )
        )
