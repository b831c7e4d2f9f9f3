"""What happened in a run, as the outside saw it: the checker compares it with what the database says."""

import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class HandlerRun:
    """One run of a handler: in which process, for what, from when to when (seconds), and how it ended."""

    process: str
    handler: str
    task: str
    target: str
    event_id: str
    event_type: str
    message_id: str
    attempt: int
    began: float
    ended: float | None = None
    outcome: str = "running"
    requested_pause: float | None = None

    @property
    def lane(self) -> str:
        """Return what orders it: task, handler and target."""
        return f"{self.task}/{self.handler}/{self.target}"


@dataclass(frozen=True, kw_only=True)
class ReceivedCallback:
    """One callback that reached the service: its token, body, and the status that it was answered with."""

    at: float
    token: str
    body: bytes = field(repr=False)
    status: int
    forged: bool


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """A time in which something was amiss, in seconds; `about` names the upstream id, "" for everything."""

    kind: str
    began: float
    ended: float
    about: str = ""


@dataclass(kw_only=True)
class History:
    """Everything that the outside of the service saw in one run."""

    lines: list[tuple[float, str, str]] = field(default_factory=list)
    runs: list[HandlerRun] = field(default_factory=list)
    callbacks: list[ReceivedCallback] = field(default_factory=list)
    disturbances: list[Disturbance] = field(default_factory=list)
    accepted: dict[int, str] = field(default_factory=dict)
    replayed: dict[str, float] = field(default_factory=dict)
    replied: dict[str, float] = field(default_factory=dict)
    confirmed: set[str] = field(default_factory=set)
    violations: list[str] = field(default_factory=list)
    crashed_at: list[tuple[str, str]] = field(default_factory=list)
    positions: set[tuple[str, str]] = field(default_factory=set)
    digest: Any = field(default_factory=hashlib.sha256)

    def note(self, at: float, kind: str, text: str = "") -> None:
        """Keep one line of the story."""
        self.lines.append((at, kind, text))
        self.digest.update(f"{at:.6f} {kind} {text}\n".encode())

    def note_disturbance(self, kind: str, began: float, ended: float, about: str = "") -> None:
        """Keep a time that excuses the service for being late."""
        self.disturbances.append(Disturbance(kind=kind, began=began, ended=ended, about=about))

    def add_violation(self, text: str) -> None:
        """Keep a broken promise that showed while the run was on."""
        if text not in self.violations:
            self.violations.append(text)

    def log(self, limit: int = 120) -> str:
        """Return the last lines, one a moment."""
        left_out = max(0, len(self.lines) - limit)
        head = [f"  ... {left_out} lines before"] if left_out else []
        return "\n".join([*head, *(f"  {at:10.3f}  {kind:<12} {text}" for at, kind, text in self.lines[-limit:])])
