"""The observed history of a run: the checks compare it with the database."""

import hashlib
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class HandlerRun:
    """One run of a handler: process, delivery, start and end (seconds), outcome."""

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
        """Return the key of its order: task, handler and target."""
        return f"{self.task}/{self.handler}/{self.target}"


@dataclass(frozen=True, kw_only=True)
class ReceivedCallback:
    """One callback that reached the service: token, body and response status."""

    at: float
    token: str
    body: bytes = field(repr=False)
    status: int
    forged: bool


@dataclass(frozen=True, kw_only=True)
class Disturbance:
    """An interval of a fault, in seconds; `about` is the provider's id, or "" for everything."""

    kind: str
    began: float
    ended: float
    about: str = ""


@dataclass(kw_only=True)
class History:
    """Everything observed outside of the service in one run."""

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
        """Record one line of the log."""
        self.lines.append((at, kind, text))
        self.digest.update(f"{at:.6f} {kind} {text}\n".encode())

    def note_disturbance(self, kind: str, began: float, ended: float, about: str = "") -> None:
        """Record an interval that explains a delay of the service."""
        self.disturbances.append(Disturbance(kind=kind, began=began, ended=ended, about=about))

    def add_violation(self, text: str) -> None:
        """Record a violation seen during the run."""
        if text not in self.violations:
            self.violations.append(text)

    def log(self, limit: int = 120) -> str:
        """Return the last `limit` lines as text."""
        left_out = max(0, len(self.lines) - limit)
        head = [f"  ... {left_out} lines before"] if left_out else []
        return "\n".join([*head, *(f"  {at:10.3f}  {kind:<12} {text}" for at, kind, text in self.lines[-limit:])])
