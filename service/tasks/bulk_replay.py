"""Replays of many deliveries: in short transactions, and due one after the other."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from service.domain.ports.replays import Replayable, Replayer, ReplayFilter, ReplayOutcome
from service.domain.ports.signals import Clock

INTERVAL = timedelta(milliseconds=20)
"""Time between two replayed deliveries: 50 a second do not hold up new ones, and no receiver gets all at once."""

MAX_AHEAD = timedelta(days=1)
"""Longest time until the last replayed delivery is due: later ones share that time."""

READ = 2_000
"""Deliveries that are chosen with one read."""

WRITTEN = 250
"""Deliveries that are made due in one transaction."""

SAMPLE = 10
"""Ids in a report."""

MAX_DIGITS = 13
"""Digits of a time in milliseconds, until the year 2286."""

TIME_LIMIT = 15.0
"""Seconds after which a call ends and reports where to continue."""


@dataclass(frozen=True, kw_only=True)
class ReplayCursor:
    """Where a replay continues: after the delivery `after`, whose successor is due at `due_at` or later."""

    after: str
    due_at: datetime


@dataclass(kw_only=True)
class ReplayReport:
    """What a call has replayed, or with a dry run would replay; `cursor` is None at the end."""

    dry_run: bool
    matched: int = 0
    outcomes: Counter[ReplayOutcome] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)
    by_handler: Counter[str] = field(default_factory=Counter)
    sample: list[str] = field(default_factory=list)
    last_due_at: datetime | None = None
    cursor: ReplayCursor | None = None

    def add(self, found: Sequence[Replayable]) -> None:
        """Count deliveries that match."""
        self.matched += len(found)
        self.by_status.update(one.status for one in found)
        self.by_handler.update(one.handler for one in found)
        self.sample += [one.id for one in found[: SAMPLE - len(self.sample)]]


@dataclass(kw_only=True)
class BulkReplay:
    """Replays all deliveries of a filter."""

    replays: Replayer
    clock: Clock
    time_limit: float = TIME_LIMIT
    _locks: WeakValueDictionary[str, asyncio.Lock] = field(init=False, default_factory=WeakValueDictionary)

    async def run(
        self, wanted: ReplayFilter, *, cursor: ReplayCursor | None, dry_run: bool, caller: str = ""
    ) -> ReplayReport:
        """Replay what matches, the oldest event first, or only count it; stop after the time limit.

        Of the calls of one `caller` one runs at a time.

        Deliveries that a call has replayed and that fail again meanwhile are not replayed by it once more, since a
        call only goes forward in the time of the events.
        """
        report = ReplayReport(dry_run=dry_run)
        async with self._locks.setdefault(caller, asyncio.Lock()):
            until = time.monotonic() + self.time_limit
            after = cursor.after if cursor else None
            due_at = max(self.clock.now(), cursor.due_at) if cursor else self.clock.now()
            while True:
                matches = await self.replays.matching(wanted, after=after, limit=READ)
                report.add(matches.found)
                if not dry_run:
                    due_at = await self._replay(matches.found, wanted, due_at, report)
                after = matches.last
                if after is None:
                    return report
                if time.monotonic() >= until:
                    report.cursor = ReplayCursor(after=after, due_at=due_at)
                    return report

    async def _replay(
        self, found: Sequence[Replayable], wanted: ReplayFilter, due_at: datetime, report: ReplayReport
    ) -> datetime:
        """Make `found` due from `due_at` on, with pauses for other writers; return the time for the next one."""
        for begin in range(0, len(found), WRITTEN):
            now, due = self.clock.now(), dict[str, datetime]()
            for one in found[begin : begin + WRITTEN]:
                due[one.id] = due_at
                due_at = min(due_at + INTERVAL, now + MAX_AHEAD)
            outcomes = await self.replays.replay_at(due, wanted, now=now)
            report.outcomes.update(outcomes.values())
            report.last_due_at = max(
                [due[one] for one, outcome in outcomes.items() if outcome == "replayed"], default=report.last_due_at
            )
            await asyncio.sleep(0)
        return due_at


def cursor_text(cursor: ReplayCursor) -> str:
    """Return a cursor as text: the milliseconds of its time, and the id."""
    return f"{int(cursor.due_at.timestamp() * 1000)}-{cursor.after}"


def read_cursor(text: str, now: datetime) -> ReplayCursor | None:
    """Return the cursor that `text` spells, None if it spells none; its time is at most MAX_AHEAD after `now`."""
    milliseconds, _, after = text.partition("-")
    if not (milliseconds.isascii() and milliseconds.isdigit() and len(milliseconds) <= MAX_DIGITS and after):
        return None
    due_at = datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    return ReplayCursor(after=after, due_at=min(due_at, now + MAX_AHEAD))
