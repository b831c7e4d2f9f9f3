"""Tasks of the sandbox: the accepted specification and the current state."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, TypeAlias

Provider: TypeAlias = Literal["vtrix", "vidu"]

_BASE32HEX = "0123456789abcdefghijklmnopqrstuv"
_AUTO_DURATION = 5
_PRICES = {"360p": 3, "540p": 4, "720p": 7, "1080p": 15, "2K": 20, "4K": 30}
DISCOUNT = 0.9
FPS = 12
"""Frames a second of every result."""

_SHORT_SIDE = {"360p": 360, "540p": 540, "720p": 720, "1080p": 1080, "2K": 1440, "4K": 2160}
_AUTO_RATIO = "1:1"
_PASSED_ON = ("payload", "meta_data", "callback_url")
_CENTS = 100
_MAX_STEM = 64


class State(StrEnum):
    """State of a task, in Vidu's words."""

    CREATED = "created"
    QUEUEING = "queueing"
    PROCESSING = "processing"
    SUCCESS = "success"
    FAILED = "failed"

    @property
    def final(self) -> bool:
        """Return whether no other state follows."""
        return self in {State.SUCCESS, State.FAILED}


def even(size: float) -> int:
    """Return the nearest even number of pixels, at least 2."""
    return max(2, round(size / 2) * 2)


def frame_size(resolution: str, aspect_ratio: str) -> tuple[int, int]:
    """Return width and height in pixels: the shorter side is the number in `resolution`, both are even."""
    across, down = (int(part) for part in (_AUTO_RATIO if aspect_ratio == "auto" else aspect_ratio).split(":"))
    unit = _SHORT_SIDE[resolution] / min(across, down)
    return even(across * unit), even(down * unit)


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSpec:
    """Parameters of a create request, without its inline media; `kind` is Vidu's endpoint."""

    kind: str = "reference2video"
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
    audio: bool = False
    movement_amplitude: str = "auto"
    seed: int = 0
    style: str = ""
    template: str = ""
    prompt: str = ""
    images: tuple[str, ...] = ()
    picture: bool = False

    @classmethod
    def of(cls, params: Mapping[str, Any], **more: Any) -> "TaskSpec":
        """Return the specification in checked parameters; a duration of 0 becomes 5 seconds.

        `more` has further fields, and takes precedence.
        """
        names = set(cls.__slots__) - {"seconds", "kind", "prompt", "images", "picture"}
        fields: dict[str, Any] = {name: params[name] for name in names if params.get(name) is not None}
        return cls(**{"seconds": params.get("duration") or _AUTO_DURATION, **fields, **more})

    @classmethod
    def of_unknown(cls, params: Mapping[str, Any]) -> "TaskSpec":
        """Return the specification of a model that is not known: of its parameters only the common ones count."""
        return cls(**{name: params[name] for name in _PASSED_ON if isinstance(params.get(name), str)})

    @property
    def frame(self) -> tuple[int, int]:
        """Return width and height of the result in pixels."""
        return frame_size(self.resolution, self.aspect_ratio)

    @property
    def cents(self) -> int:
        """Return the price in US cents."""
        return _PRICES[self.resolution] * (1 if self.picture else self.seconds)


@dataclass(kw_only=True, slots=True)
class Task:
    """One accepted create; `id` is the id at its provider, `native_id` the id at Vidu."""

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
        """Start to run at an aware time, for `run_time` seconds."""
        self.state, self.started_at, self.run_time = State.PROCESSING, now, run_time

    def end(self, now: datetime, error: tuple[str, str] | None) -> None:
        """End at an aware time, with an error's code and message or with success; later ends change nothing."""
        if self.state.final:
            return
        self.state, self.ended_at, self.error = (State.FAILED if error else State.SUCCESS), now, error

    def progress(self, now: datetime) -> float:
        """Return the finished fraction from 0.0 to 1.0; it stays below 1.0 until the task ends."""
        if self.state is State.SUCCESS:
            return 1.0
        if self.started_at is None or self.run_time <= 0.0:
            return 0.0
        return round(min(0.99, max(0.0, (now - self.started_at).total_seconds() / self.run_time)), 2)

    @property
    def file_stem(self) -> str:
        """Return the name of the result's files without their ending; an id may be long or contain a slash."""
        return self.id if self.id.isalnum() and len(self.id) <= _MAX_STEM else f"task-{self.number}"

    @property
    def cost(self) -> str:
        """Return the price in US dollars, as a decimal string."""
        return f"{self.spec.cents / _CENTS:.2f}"


def vtrix_id(sandbox_id: int, number: int, at: datetime) -> str:
    """Return 20 characters that encode time, sandbox and task number, sortable like the gateway's ids."""
    packed = int(at.timestamp()).to_bytes(4) + (sandbox_id % 2**40).to_bytes(5) + (number % 2**24).to_bytes(3)
    bits = int.from_bytes(packed) << 4
    return "".join(_BASE32HEX[(bits >> shift) & 31] for shift in range(95, -1, -5))


def vidu_id(sandbox_id: int, number: int, at: datetime) -> str:
    """Return a numeric string that encodes time, sandbox and task number."""
    return str((int(at.timestamp()) << 31) | (sandbox_id % 2**7) << 24 | number % 2**24)


def other_id(task_id: str, manner: float) -> str:
    """Return an id of another kind: a number, 190 characters, or one with `:` and `/`; `manner` is 0 up to 1."""
    if manner < 1 / 3:
        return str(int.from_bytes(task_id.encode()[-6:]))
    return task_id.ljust(190, "x") if manner < 2 / 3 else f"task:{task_id}/1"
