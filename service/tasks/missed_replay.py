"""Replay of what an endpoint has missed since a time: dead letters, and events without any delivery."""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from service.domain.endpoint import Endpoint, EndpointMatch
from service.domain.errors import Conflict
from service.domain.ports.endpoints import Endpoints, MissedEvent
from service.domain.ports.replays import Replayer, ReplayFilter
from service.domain.ports.signals import Clock
from service.domain.ports.unit_of_work import DeliveryRow
from service.tasks.bulk_replay import INTERVAL, MAX_AHEAD, MAX_DIGITS, SAMPLE, TIME_LIMIT

MAX_NUMBER_DIGITS = 18
"""Digits of the number of an event."""

READ = 500
"""Events that are read, and whose deliveries are written, at once."""


@dataclass(frozen=True, kw_only=True)
class MissedCursor:
    """Where a replay continues: after the event with the number `after`, whose successor is due at `due_at`."""

    after: int
    due_at: datetime


@dataclass(kw_only=True)
class MissedReport:
    """What a call has replayed, or with a dry run would replay; `cursor` is None at the end.

    `created` counts events without a delivery before, `replayed` dead letters.
    """

    dry_run: bool
    matched: int = 0
    created: int = 0
    replayed: int = 0
    by_kind: Counter[str] = field(default_factory=Counter)
    sample: list[str] = field(default_factory=list)
    last_due_at: datetime | None = None
    cursor: MissedCursor | None = None


@dataclass(kw_only=True, slots=True)
class MissedReplay:
    """Replays what an endpoint has missed; `new_id` makes ids that sort by time."""

    endpoints: Endpoints
    replays: Replayer
    clock: Clock
    new_id: Callable[[], str]
    time_limit: float = TIME_LIMIT

    async def run(
        self, endpoint: Endpoint, *, since: datetime, until: datetime | None, cursor: MissedCursor | None, dry_run: bool
    ) -> MissedReport:
        """Replay, or count, the events of [since, until) that `endpoint` wants and has not got, oldest first.

        Without `until` they are all that are stored, also those of a process whose clock is ahead of this one's. 50 a
        second are due. Raises Conflict for a disabled endpoint: its deliveries would only die.
        """
        if endpoint.disabled_at and not dry_run:
            raise Conflict('the endpoint is disabled: enable it first, with PATCH {"disabled": false}')
        report = MissedReport(dry_run=dry_run)
        ends = time.monotonic() + self.time_limit
        after = cursor.after if cursor else None
        due_at = max(self.clock.now(), cursor.due_at) if cursor else self.clock.now()
        while True:
            found, after = await self.endpoints.missed(endpoint, since=since, until=until, after=after, limit=READ)
            report.matched += len(found)
            report.by_kind.update("dead" if each.dead_id else "without_delivery" for each in found)
            report.sample += [each.id for each in found[: SAMPLE - len(report.sample)]]
            if found and not dry_run:
                due_at = await self._replay(endpoint, found, due_at, report)
            if after is None:
                return report
            if time.monotonic() >= ends:
                report.cursor = MissedCursor(after=after, due_at=due_at)
                return report

    async def _replay(
        self, endpoint: Endpoint, found: Sequence[MissedEvent], due_at: datetime, report: MissedReport
    ) -> datetime:
        """Make deliveries of `found` due from `due_at` on; return the time for the next one."""
        now = self.clock.now()
        due: dict[str, datetime] = {}
        for each in found:
            due[each.id] = due_at
            due_at = min(due_at + INTERVAL, now + MAX_AHEAD)
        rows = [self._row(endpoint, each, due[each.id]) for each in found if each.dead_id is None]
        report.created += await self.endpoints.add_missed(rows) if rows else 0
        dead = {each.dead_id: due[each.id] for each in found if each.dead_id}
        if dead:
            outcomes = await self.replays.replay_at(dead, ReplayFilter(statuses=frozenset({"dead"})), now=now)
            report.replayed += sum(outcome == "replayed" for outcome in outcomes.values())
        report.last_due_at = max(due.values())
        return due_at

    def _row(self, endpoint: Endpoint, missed: MissedEvent, due_at: datetime) -> DeliveryRow:
        match = EndpointMatch(id=endpoint.id, client=endpoint.client, url=endpoint.url, paused=endpoint.paused)
        to, delivery_id = match.route(), self.new_id()
        return DeliveryRow(
            id=delivery_id,
            event_id=missed.id,
            task_id=missed.task_id,
            client=endpoint.client,
            handler=to.handler,
            lane=f"{missed.task_id}/{to.lane_key}",
            target=to.target,
            message_id=f"msg_{delivery_id}",
            due_at=None if to.held else due_at,
            destination=f"{missed.task_id}/{to.host_key}" if to.host_key else None,
            endpoint_id=to.endpoint_id,
        )


def missed_cursor_text(cursor: MissedCursor) -> str:
    """Return a cursor as text: the milliseconds of its time, and the number of the event."""
    return f"{int(cursor.due_at.timestamp() * 1000)}-{cursor.after}"


def read_missed_cursor(text: str, now: datetime) -> MissedCursor | None:
    """Return the cursor that `text` spells, None if it spells none; its time is at most MAX_AHEAD after `now`."""
    milliseconds, _, after = text.partition("-")
    if not (text.isascii() and milliseconds.isdigit() and after.isdigit()):
        return None
    if len(milliseconds) > MAX_DIGITS or len(after) > MAX_NUMBER_DIGITS:
        return None
    due_at = datetime.fromtimestamp(int(milliseconds) / 1000, UTC)
    return MissedCursor(after=int(after), due_at=min(due_at, now + MAX_AHEAD))
