"""What the processes of a run share, and what is done to their machines: stalls, clocks that are wrong, full disks."""

from collections.abc import Callable
from dataclasses import dataclass

from service.deliveries.handler_api import Handler
from service.runtime.config.settings import Settings
from tests.simulation.history import History
from tests.simulation.loop import SimLoop
from tests.simulation.network import Network
from tests.simulation.scheduler import DueTimes
from tests.simulation.seeded_faults import SeededFaults


@dataclass(frozen=True, kw_only=True)
class Stall:
    """A time in which a process comes to no statement: its machine sleeps, or its disk does."""

    process: int
    at: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A moment at which a process's clock is put on by so many seconds, or back by a negative number."""

    process: int
    at: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FullDisk:
    """A time in which the database takes no write."""

    at: float
    seconds: float


@dataclass(kw_only=True)
class SharedState:
    """What processes share: the virtual time, the network, the chance, and the history."""

    loop: SimLoop
    network: Network
    seeded_faults: SeededFaults
    history: History
    due_times: DueTimes
    settings: Settings
    handlers: Callable[[], dict[str, Handler]]
    commit_delay: float
    faithful: bool
    burst_share: float
    runs_jobs: bool
    full_disks: tuple[FullDisk, ...]
    on_commit: Callable[[int], None] = lambda _rows: None
    on_death: Callable[[], None] = lambda: None

    @property
    def disk_is_full(self) -> bool:
        """Whether the database takes no write now."""
        now = self.loop.time()
        return any(full.at <= now < full.at + full.seconds for full in self.full_disks)
