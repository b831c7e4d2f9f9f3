"""The processes of a service, each with a place of its own that a killed one's successor takes at once."""

import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.acceptance.processes import BIN, HOST, TIMEOUT, Child, Workspace, free_port, until, wait_for_response

BOOMERANG = (str(BIN / "boomerang"),)
CLOCKED = (sys.executable, "-P", str(Path(__file__).with_name("shifted_clock.py")))
"""`boomerang` with a clock that can be put on and back."""


@dataclass(kw_only=True)
class Place:
    """One process of the fleet: what it is started with, and who fills it now."""

    name: str
    arguments: tuple[str, ...]
    url: str
    child: Child | None = None


@dataclass(kw_only=True)
class Fleet:
    """The places of a service, and what it is started with. `struck` counts what was done to its processes."""

    workspace: Workspace
    env: Mapping[str, str]
    places: list[Place]
    command: Sequence[str] = BOOMERANG
    struck: Counter[str] = field(default_factory=Counter)

    def start(self, place: Place) -> Child:
        """Start a process in its place, and wait for nothing."""
        command = [*self.command, *place.arguments]
        place.child = self.workspace.run(place.name, command, env=self.env, url=place.url)
        return place.child

    def kill(self, place: Place) -> None:
        """End the process in this place with SIGKILL, and start its successor at once."""
        if place.child:
            if not place.child.alive:
                raise AssertionError(f"{place.name} had ended by itself: {place.child.output()[-2000:]}")
            place.child.crash()
            place.child.log.unlink()  # hundreds of them fill a disk
            self.workspace.children.remove(place.child)
            self.struck["kills"] += 1
        self.start(place)

    async def ready(self) -> None:
        """Wait until every process is ready."""
        for place in self.places:
            await wait_for_response(self.child(place))

    async def started(self) -> None:
        """Start every process, and wait until all are ready."""
        for place in self.places:
            self.start(place)
        await self.ready()

    def child(self, place: Place) -> Child:
        """Return the process in this place."""
        if place.child is None:
            raise AssertionError(f"{place.name} was never started")
        return place.child

    @property
    def fallen(self) -> list[str]:
        """Return a sentence for each process that ended without being told to."""
        ended = [place for place in self.places if place.child and not place.child.alive]
        return [f"{place.name} ended by itself: {self.child(place).output()[-500:]}" for place in ended]

    async def stopped(self) -> None:
        """Ask every process to stop, and wait until all have."""
        children = [place.child for place in self.places if place.child]
        for child in children:
            child.terminate()
        await until(lambda: not any(child.alive for child in children), what="the end of the fleet", seconds=TIMEOUT)


def place(name: str, *, role: str = "all") -> Place:
    """Return a place on a free port; a worker serves its probes there."""
    port = free_port()
    first = ("worker",) if role == "worker" else ("serve", "--role", role)
    return Place(name=name, arguments=(*first, "--port", str(port)), url=f"http://{HOST}:{port}")
