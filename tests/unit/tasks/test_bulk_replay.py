"""Bulk replays: due one after the other, in short transactions, and continued after the time limit."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from service.domain.ports.replays import Matches, Replayable, ReplayFilter, ReplayOutcome
from service.tasks import bulk_replay
from service.tasks.bulk_replay import INTERVAL, BulkReplay, cursor_text, read_cursor
from tests.support.delivery_builders import ManualClock

WANTED = ReplayFilter(statuses=frozenset({"dead"}))


@dataclass
class Dead:
    """`count` dead letters."""

    count: int
    outcome: ReplayOutcome = "replayed"
    transactions: list[dict[str, datetime]] = field(default_factory=list)

    async def replay(self, delivery_ids: Sequence[str], *, now: datetime) -> dict[str, ReplayOutcome]:
        """Not used."""
        raise NotImplementedError

    async def matching(self, wanted: ReplayFilter, *, after: str | None, limit: int) -> Matches:
        """Return the next ones."""
        assert wanted is WANTED
        begin = int(after or -1) + 1
        end = min(begin + limit, self.count)
        found = [Replayable(id=str(n), handler=f"h{n % 2}", status="dead") for n in range(begin, end)]
        return Matches(found=found, last=str(end - 1) if end - begin == limit else None)

    async def replay_at(
        self, due: Mapping[str, datetime], wanted: ReplayFilter, *, now: datetime
    ) -> dict[str, ReplayOutcome]:
        """Note the times."""
        assert wanted is WANTED
        assert min(due.values()) >= now
        self.transactions.append(dict(due))
        return dict.fromkeys(due, self.outcome)


async def test_deliveries_are_due_one_after_the_other() -> None:
    """Each is due INTERVAL after the one before, over all transactions, none of which is long."""
    clock = ManualClock()
    dead = Dead(12_345)
    report = await BulkReplay(replays=dead, clock=clock).run(WANTED, cursor=None, dry_run=False)
    due = {name: at for transaction in dead.transactions for name, at in transaction.items()}
    assert due == {str(n): clock.now() + n * INTERVAL for n in range(dead.count)}
    assert max(map(len, dead.transactions)) == bulk_replay.WRITTEN
    assert (report.matched, report.outcomes["replayed"], report.cursor) == (dead.count, dead.count, None)
    assert report.by_handler == {"h0": 6173, "h1": 6172}
    assert report.last_due_at == clock.now() + (dead.count - 1) * INTERVAL
    assert len(report.sample) == bulk_replay.SAMPLE


async def test_call_past_its_time_limit_continues_at_its_cursor() -> None:
    """The next call begins after the last delivery, and keeps the interval."""
    clock, dead = ManualClock(), Dead(11_000)
    bulk = BulkReplay(replays=dead, clock=clock, time_limit=0.0)
    cursor, calls = None, 0
    while calls == 0 or cursor is not None:
        report = await bulk.run(WANTED, cursor=cursor, dry_run=False)
        cursor = report.cursor and read_cursor(cursor_text(report.cursor), clock.now())
        calls += 1
    due = [at for transaction in dead.transactions for at in transaction.values()]
    assert (calls, len(due), len(set(due))) == (-(-dead.count // bulk_replay.READ), dead.count, dead.count)
    assert due == sorted(due)


async def test_dry_run_writes_nothing() -> None:
    """Everything is counted."""
    dead = Dead(7)
    report = await BulkReplay(replays=dead, clock=ManualClock()).run(WANTED, cursor=None, dry_run=True)
    assert (report.matched, dict(report.by_status), report.outcomes.total()) == (7, {"dead": 7}, 0)
    assert dead.transactions == []


async def test_last_delivery_is_due_within_a_day() -> None:
    """More than four million deliveries share the last time: a cursor cannot put a delivery off for ever."""
    clock = ManualClock()
    far = read_cursor("9999999999999-0", clock.now())
    assert far is not None
    assert far.due_at == clock.now() + timedelta(days=1)
    dead = Dead(3)
    await BulkReplay(replays=dead, clock=clock).run(WANTED, cursor=far, dry_run=False)
    assert max(dead.transactions[0].values()) == clock.now() + timedelta(days=1)


def test_text_that_is_no_cursor_is_refused() -> None:
    """A cursor is a time in milliseconds and an id."""
    now = ManualClock().now()
    assert [read_cursor(text, now) for text in ("", "d1", "x-d1", "1-", "12345678901234-d1", "²-d1")] == [None] * 6


async def test_calls_of_one_client_do_not_hold_up_another_one() -> None:
    """A client runs one call at a time; an admin does not wait for all of a client's."""
    dead, running, may_end = Dead(1), list[str](), asyncio.Event()
    matching = dead.matching

    async def slow(wanted: ReplayFilter, *, after: str | None, limit: int) -> Matches:
        running.append("call")
        await may_end.wait()
        return await matching(wanted, after=after, limit=limit)

    dead.matching = slow  # type: ignore[method-assign]
    bulk = BulkReplay(replays=dead, clock=ManualClock())
    calls = [
        asyncio.create_task(bulk.run(WANTED, cursor=None, dry_run=True, caller=name)) for name in ("ann", "ann", "root")
    ]
    for _ in range(5):
        await asyncio.sleep(0)
    assert len(running) == 2
    may_end.set()
    assert [(await call).matched for call in calls] == [1, 1, 1]
