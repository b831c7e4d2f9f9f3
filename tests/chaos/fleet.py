"""The processes of a service, each in a slot that is refilled after a kill."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

from tests.acceptance.processes import BIN, HOST, TIMEOUT, Child, Workspace, until, wait_for_response
from tests.support.ports import free_port

BOOMERANG = (str(BIN / "boomerang"),)
CLOCKED = (sys.executable, "-P", str(Path(__file__).with_name("shifted_clock.py")))
"""`boomerang` with a clock that can be moved."""


@dataclass(kw_only=True)
class ProcessSlot:
    """One process of the fleet: its arguments, settings of its own, its address, and the running child."""

    name: str
    arguments: tuple[str, ...]
    url: str
    env: Mapping[str, str] = field(default_factory=dict)
    child: Child | None = None


@dataclass(kw_only=True)
class Fleet:
    """The slots of a service and its settings. `injected` counts the faults of its processes.

    `stopped_after` is the number of seconds that the stop took.
    """

    workspace: Workspace
    env: Mapping[str, str]
    slots: list[ProcessSlot]
    command: Sequence[str] = BOOMERANG
    injected: Counter[str] = field(default_factory=Counter)
    stopped_after: float = 0.0

    def start(self, process_slot: ProcessSlot) -> Child:
        """Start the process of a slot without waiting for it."""
        command = [*self.command, *process_slot.arguments]
        env = {**self.env, **process_slot.env}
        process_slot.child = self.workspace.run(process_slot.name, command, env=env, url=process_slot.url)
        return process_slot.child

    def kill(self, process_slot: ProcessSlot) -> None:
        """End the process of a slot with SIGKILL, and start its successor."""
        if process_slot.child:
            if not process_slot.child.alive:
                raise AssertionError(f"{process_slot.name} had exited: {process_slot.child.output()[-2000:]}")
            process_slot.child.crash()
            process_slot.child.log.unlink()  # hundreds of them fill a disk
            self.workspace.children.remove(process_slot.child)
            self.injected["kills"] += 1
        self.start(process_slot)

    async def replace(self, process_slot: ProcessSlot, env: Mapping[str, str]) -> None:
        """Stop the process of a slot as a deployment does, and start its successor with settings of its own."""
        child = self.child(process_slot)
        child.terminate()
        if code := await child.ended():
            raise AssertionError(f"{process_slot.name} ended with {code}: {child.output()[-2000:]}")
        process_slot.env = env
        await wait_for_response(self.start(process_slot))
        self.injected["replacements"] += 1

    async def ready(self) -> None:
        """Wait until every process is ready."""
        for process_slot in self.slots:
            await wait_for_response(self.child(process_slot))

    async def started(self) -> None:
        """Start every process, and wait until all are ready."""
        for process_slot in self.slots:
            self.start(process_slot)
        await self.ready()

    def child(self, process_slot: ProcessSlot) -> Child:
        """Return the process of a slot."""
        if process_slot.child is None:
            raise AssertionError(f"{process_slot.name} was never started")
        return process_slot.child

    @property
    def exited(self) -> list[str]:
        """Return a sentence for each process that exited without a request."""
        ended = [process_slot for process_slot in self.slots if process_slot.child and not process_slot.child.alive]
        return [f"{process_slot.name} exited: {self.child(process_slot).output()[-500:]}" for process_slot in ended]

    async def stopped(self) -> None:
        """Stop every process, and wait until all have exited."""
        children = [process_slot.child for process_slot in self.slots if process_slot.child]
        began = monotonic()
        for child in children:
            child.terminate()
        await until(lambda: not any(child.alive for child in children), what="the end of the fleet", seconds=TIMEOUT)
        self.stopped_after = monotonic() - began


def process_slot(name: str, *, role: str = "all") -> ProcessSlot:
    """Return a slot on a free port; a worker serves its probes there."""
    port = free_port()
    first = ("worker",) if role == "worker" else ("serve", "--role", role)
    return ProcessSlot(name=name, arguments=(*first, "--port", str(port)), url=f"http://{HOST}:{port}")
