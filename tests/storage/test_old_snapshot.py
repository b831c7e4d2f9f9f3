"""A snapshot that stays open for long, as that of `pg_dump`: PostgreSQL removes no entry of an index meanwhile."""

from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import count

import psycopg
import pytest

from service.domain.task import Status, TaskId
from service.storage import Store
from service.storage.scan_starts import FOUND_FOR, MARGIN
from tests.storage.builders import (
    HOUR,
    LEASE,
    NOW,
    a_delivery,
    add_tasks,
    an_attempt,
    an_entry,
    an_event,
    claim_deliveries,
    claim_polls,
    in_progress,
)
from tests.storage.conftest import EmptyDatabase
from tests.storage.test_grown_tables import read_rows

STEPS = 41  # odd: the oldest row is looked for in every second one
EACH = timedelta(seconds=5)
ROWS = 5
"""Rows that wait and end in each step."""

_numbers = count(1)

Step = Callable[[Store, datetime], Awaitable[None]]


async def _deliver(store: Store, now: datetime) -> None:
    events = [an_event(f"e-{next(_numbers)}", at=now) for _ in range(ROWS)]
    rows = [a_delivery(event, due_at=now, lane=event.id) for event in events]
    async with store.units_of_work.transaction() as transaction:
        await transaction.append(events, rows)
    claims = await claim_deliveries(store, now=now)
    assert len(claims) == ROWS
    await store.deliveries.finish([an_attempt(claim) for claim in claims])


async def _poll(store: Store, now: datetime) -> None:
    ids = [TaskId(f"t-{next(_numbers)}") for _ in range(ROWS)]
    await add_tasks(store, *(in_progress(one, due_at=now) for one in ids))
    claimed = await claim_polls(store, now=now)
    assert len(claimed) == ROWS
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock(ids)
        await transaction.save([replace(task, status=Status.COMPLETED, due_at=None) for task in claimed])


async def _receive(store: Store, now: datetime) -> None:
    numbers = [next(_numbers) for _ in range(ROWS)]
    ids = [TaskId(f"c-{number}") for number in numbers]
    await add_tasks(store, *(in_progress(one, due_at=None) for one in ids))
    entries = [an_entry(f"d-{one}", task_id=one, received_at=now, verdict="unread") for one in ids]
    await store.inbox.store_unread(entries)
    async with store.units_of_work.transaction() as transaction:
        unread = await transaction.unread(2 * ROWS, now=now)
        assert len(unread) == ROWS
        await transaction.read([replace(one, verdict="accepted") for one in unread])


STEP_ON: dict[str, Step] = {"deliveries_due": _deliver, "tasks_polled": _poll, "inbox_unread": _receive}


@pytest.fixture
def snapshot(database: EmptyDatabase) -> Iterator[None]:
    """Hold a snapshot open."""
    with psycopg.connect(database.url) as connection:
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        connection.execute("SELECT count(*) FROM tasks")
        yield
        connection.rollback()


@pytest.mark.usefixtures("snapshot")
@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("index", STEP_ON)
async def test_claim_does_not_read_what_ended_long_ago(store: Store, index: str) -> None:
    """A claim reads the entries of the last seconds, however many rows have ended while the snapshot was open."""
    for number in range(STEPS):
        await STEP_ON[index](store, NOW + number * EACH)
    before = await read_rows(store)
    await STEP_ON[index](store, NOW + STEPS * EACH)
    read = (await read_rows(store))[index] - before[index]
    recent = (FOUND_FOR + MARGIN) // EACH + 1
    assert read <= 4 * ROWS * recent < ROWS * STEPS


@pytest.mark.parametrize("late", [MARGIN - EACH, HOUR], ids=["within the margin", "an hour"])
async def test_row_that_appears_with_an_earlier_time_is_found(store: Store, late: timedelta) -> None:
    """Its process has a clock that is late, or its transaction took long: it is claimed within FOUND_FOR."""
    await _deliver(store, NOW)
    event = an_event("late")
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], [a_delivery(event, due_at=NOW - late)])
    within_margin = await claim_deliveries(store, now=NOW + FOUND_FOR / 2)
    found = within_margin or await claim_deliveries(store, now=NOW + FOUND_FOR)
    assert [claim.event.id for claim in found] == ["late"]
    if late < MARGIN:
        assert within_margin


@pytest.mark.parametrize("before", [timedelta(0), FOUND_FOR, HOUR])
async def test_row_that_waits_long_is_found_again(store: Store, before: timedelta) -> None:
    """What had a lease while the oldest row was looked for is due when the lease has run out, or is released."""
    event = an_event("e1")
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], [a_delivery(event, due_at=NOW - before)])
    (claim,) = await claim_deliveries(store)
    assert await claim_deliveries(store, now=NOW + LEASE / 2) == []
    await store.deliveries.release({claim.id: claim.fence})
    assert [again.id for again in await claim_deliveries(store, now=NOW + LEASE / 2)] == [claim.id]


async def test_clock_that_is_set_back_finds_new_rows(store: Store) -> None:
    """The start of a scan that a wrong clock chose is not used before that moment."""
    await _deliver(store, NOW + HOUR)
    await _deliver(store, NOW)
