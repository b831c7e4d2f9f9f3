"""Faults of machines (stalls, clock jumps, full disks), and the state that the processes of a run share."""

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
    """An interval in which a process runs no statement: its machine or its disk is suspended."""

    process: int
    at: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Jump:
    """A jump of a process's clock by `seconds`, forward or, if negative, back."""

    process: int
    at: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class FullDisk:
    """An interval in which the database rejects writes."""

    at: float
    seconds: float


@dataclass(kw_only=True)
class SharedState:
    """What the processes share: loop, network, seeded faults, history and settings."""

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
    renewed_until: float
    on_commit: Callable[[int], None] = lambda _rows: None
    on_crash: Callable[[], None] = lambda: None

    @property
    def disk_is_full(self) -> bool:
        """Return whether the database rejects writes now."""
        now = self.loop.time()
        return any(full.at <= now < full.at + full.seconds for full in self.full_disks)
