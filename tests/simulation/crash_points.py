"""The points at which a process may crash, and the choice of one of them.

A crash names a kind of point and a count. By default it happens when a point of its kind is passed for the `count`-th
time after a start. With `by_position`, it counts code positions: each line of the service counts when it is passed for
the 1st, 2nd, 4th, 8th time and so on, so that an await that runs once is chosen as often as one that runs a thousand
times. The kinds:

- `await`: a task of the process pauses, at any await of the service's own code;
- `statement`: the store is about to run a statement;
- `before commit`, `after commit`: a transaction with changes is about to be committed, or is durable before its caller
  continues;
- `create arrives`, `create served`: a submission has reached the provider, or is accepted and its reply is under way;
- `callback answered`: the response to a callback is under way;
- `iteration`: one iteration of the event loop has ended.
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
    "iteration",
)
BY_POSITION = ("await", "statement", "before commit", "after commit")
"""The kinds that have a position in the service's code."""


@dataclass(frozen=True, kw_only=True)
class Crash:
    """A crash of a process at the `count`-th pass of `point` after a start; it is down for `down` seconds."""

    process: int
    point: str
    count: int
    down: float
    by_position: bool = False


class CrashPoints:
    """The points of one process. `crash` is called at the chosen one; `seen` collects every counted position."""

    def __init__(
        self, crashes: Iterable[Crash], crash: Callable[[Crash, str], None], seen: set[tuple[str, str]]
    ) -> None:
        self._crashes = list(crashes)
        self._crash = crash
        self._seen = seen
        self.begin()

    def begin(self) -> None:
        """Reset all counts for a new start."""
        self._passes: Counter[str] = Counter()
        self._visits: Counter[tuple[str, str]] = Counter()
        self._counted: Counter[str] = Counter()
        self._arm()

    def _arm(self) -> None:
        self._armed = frozenset(crash.point for crash in self._crashes)

    def awaits(self, name: str) -> bool:
        """Return whether a crash at this kind of point is still to come."""
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
        """Return the code position; None outside the service's code, or if this pass does not count."""
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
