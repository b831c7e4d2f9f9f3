"""Hold what the sandbox knows of one task: what was ordered, and how far it has come."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias

Provider: TypeAlias = Literal["vtrix", "vidu"]

_BASE32HEX = "0123456789abcdefghijklmnopqrstuv"
_AUTO_DURATION = 5
_PRICES = {"540p": 4, "720p": 7, "1080p": 15}
DISCOUNT = 0.9
_CENTS = 100


class State(StrEnum):
    """Name where a task is, in Vidu's words."""

    CREATED = "created"
    QUEUEING = "queueing"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Say whether nothing comes after this state."""
        return self in {State.SUCCESS, State.FAILED}


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """Keep what a create asked for, without its big inputs."""

    seconds: int = _AUTO_DURATION
    resolution: str = "720p"
    aspect_ratio: str = "16:9"
    bgm: bool = False
    off_peak: bool = False
    watermark: bool = False
    wm_position: int = 3
    payload: str | None = None
    meta_data: str | None = None
    callback_url: str | None = None

    @classmethod
    def of(cls, params: Mapping[str, Any]) -> "TaskSpec":
        """Return the order that checked parameters make; a duration of 0 becomes 5 seconds."""
        names = set(cls.__slots__) - {"seconds"}
        given: dict[str, Any] = {name: params[name] for name in names if params.get(name) is not None}
        return cls(seconds=params.get("duration") or _AUTO_DURATION, **given)

    @property
    def cents(self) -> int:
        """Return the price in US cents."""
        return _PRICES[self.resolution] * self.seconds


@dataclass(kw_only=True, slots=True)
class Task:
    """Follow one accepted create; `id` is what its provider calls it, `native_id` what Vidu calls it."""

    number: int
    id: str
    native_id: str
    provider: Provider
    model: str
    spec: TaskSpec
    key: str = field(repr=False)
    base_url: str
    created_at: datetime
    state: State = State.CREATED
    run_time: float = 0.0
    started_at: datetime | None = None
    ended_at: datetime | None = None
    error: tuple[str, str] | None = None
    polls: int = 0

    def start(self, now: datetime, run_time: float) -> None:
        """Begin to run at an aware time, for so many seconds."""
        self.state, self.started_at, self.run_time = State.PROCESSING, now, run_time

    def end(self, now: datetime, error: tuple[str, str] | None) -> None:
        """End at an aware time, well or with an error's code and words; the first end stays."""
        if self.state.final:
            return
        self.state, self.ended_at, self.error = (State.FAILED if error else State.SUCCESS), now, error

    def progress(self, now: datetime) -> float:
        """Return how much is done, from 0.0 to 1.0, growing while it runs and below 1.0 until it ends."""
        if self.state is State.SUCCESS:
            return 1.0
        if self.started_at is None or self.run_time <= 0.0:
            return 0.0
        return round(min(0.99, max(0.0, (now - self.started_at).total_seconds() / self.run_time)), 2)

    @property
    def cost(self) -> str:
        """Return the price in US dollars, as a decimal string."""
        return f"{self.spec.cents / _CENTS:.2f}"


def vtrix_id(sandbox_id: int, number: int, at: datetime) -> str:
    """Return 20 characters that hold the time, the sandbox and the task's number, as sortable gateway ids do."""
    packed = int(at.timestamp()).to_bytes(4) + (sandbox_id % 2**40).to_bytes(5) + (number % 2**24).to_bytes(3)
    bits = int.from_bytes(packed) << 4
    return "".join(_BASE32HEX[(bits >> shift) & 31] for shift in range(95, -1, -5))


def vidu_id(sandbox_id: int, number: int, at: datetime) -> str:
    """Return a numeric string that holds the time, the sandbox and the task's number."""
    return str((int(at.timestamp()) << 31) | (sandbox_id % 2**7) << 24 | number % 2**24)
