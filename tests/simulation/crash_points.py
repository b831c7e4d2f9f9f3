"""The points at which a process may die, and how the one where it does is chosen.

A crash names a kind of point and counts. Plainly, it strikes when a point of its kind is passed for the `count`-th time
in a life. `by_position`, it counts places: each line of the service counts when it is passed for the 1st, 2nd, 4th, 8th time
and so on, so that an await that comes once in a life is struck as often as one that comes a thousand times. The kinds:

- `await`: a task of the process pauses, at whatever await of the service's own code: every one of them is a point;
- `statement`: the store is about to run a statement;
- `before commit`, `after commit`: a transaction that changes something is about to be committed, or is durable and
  nobody has heard of it;
- `create arrives`, `create served`: a submission has reached the upstream, or was taken by it, and its reply is away;
- `callback answered`: the answer to a callback is on its way;
- `lap`: the event loop, whoever it works for, has gone round once.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from tests.simulation.code_positions import paused_at, running_at

POINTS = (
    "await",
    "statement",
    "before commit",
    "after commit",
    "create arrives",
    "create served",
    "callback answered",
    "lap",
)
BY_POSITION = ("await", "statement", "before commit", "after commit")
"""Those at which a process is in the service's own code."""


@dataclass(frozen=True, kw_only=True)
class Crash:
    """Where a process dies: at the `count`-th pass of `point` in its life, and for how many seconds it is gone."""

    process: int
    point: str
    count: int
    down: float
    by_position: bool = False


class CrashPoints:
    """The points of one process. `crash` is called when it is to die; `seen` keeps every place that was counted."""

    def __init__(
        self, crashes: Iterable[Crash], crash: Callable[[Crash, str], None], seen: set[tuple[str, str]]
    ) -> None:
        self._crashes = list(crashes)
        self._crash = crash
        self._seen = seen
        self.begin()

    def begin(self) -> None:
        """Begin a life: nothing has been passed."""
        self._passes: Counter[str] = Counter()
        self._visits: Counter[tuple[str, str]] = Counter()
        self._counted: Counter[str] = Counter()
        self._arm()

    def _arm(self) -> None:
        self._armed = frozenset(crash.point for crash in self._crashes)

    def awaits(self, name: str) -> bool:
        """Whether the process may still be meant to die at such a point."""
        return name in self._armed

    def passed(self, name: str, work: Any = None) -> None:
        """Pass a point; `work` is the coroutine that pauses there."""
        if name not in self._armed:
            return
        self._passes[name] += 1
        position = self._position(name, work)
        for crash in self._crashes:
            if crash.point == name and crash.count == (self._counted if crash.by_position else self._passes)[name]:
                if crash.by_position and position is None:
                    continue
                self._crashes.remove(crash)
                self._arm()
                self._crash(crash, position or "")
                return

    def _position(self, name: str, work: Any) -> str | None:
        """Return where this is, None where it is no place of its own or was passed too often to count."""
        position = paused_at(work) if work is not None else running_at() if name in BY_POSITION else None
        if position is None:
            return None
        self._seen.add((name, position))
        self._visits[name, position] += 1
        visits = self._visits[name, position]
        if visits & (visits - 1):
            return None
        self._counted[name] += 1
        return position
