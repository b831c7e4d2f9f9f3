"""The statements of the hot path on tables that grew while the statements were prepared: none reads a whole table.

Nothing was analysed since, as right after a burst. The rows that PostgreSQL counts are those of the plans that ran;
SQLite's plans do not depend on the number of rows.
"""

from dataclasses import replace
from itertools import count

import pytest
from sqlalchemy import text

from service.domain.ports.unit_of_work import RunTime
from service.domain.task import Status, TaskId, UpstreamId
from service.storage import Store
from service.storage.destination_locks import without_busy
from service.storage.destination_rates import WITH_ITS_HEAD
from tests.storage.builders import (
    HOUR,
    LEASE,
    NOW,
    a_delivery,
    a_task,
    add_tasks,
    an_attempt,
    an_entry,
    an_event,
    claim_deliveries,
    claim_polls,
    claim_submissions,
    in_progress,
    stored,
)
from tests.storage.emitted import Statement, emitted
from tests.storage.test_query_plans import _scans
from tests.support.grown_tables import add_backlog, add_waiting, grow

USES_UNTIL_GENERIC = 12
"""Uses of a statement after which the driver has prepared it and the server may use one plan for all values."""

BACKLOG = 2000
TASKS = 4
_numbers = count(1)

READ_ROWS = """
SELECT relname, seq_tup_read FROM pg_stat_user_tables
UNION ALL SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes
"""


async def hot_path(store: Store) -> None:
    """Accept tasks, receive and record their callbacks, deliver the events, and claim what is due."""
    ids = [TaskId(f"w{next(_numbers)}") for _ in range(TASKS)]
    await add_tasks(store, *(in_progress(one, due_at=NOW + HOUR) for one in ids), a_task(f"queued-{ids[0]}"))
    entries = [an_entry(f"d-{one}", task_id=one, verdict="unread") for one in ids]
    await store.inbox.usage(ids)
    await store.inbox.store_unread(entries)
    await store.inbox.unread_since()
    events = [an_event(f"e-{one}", task_id=one) for one in ids]
    async with store.units_of_work.transaction() as transaction:
        unread = await transaction.unread(64)
        found = await transaction.lock(ids)
        await transaction.holders([UpstreamId(one) for one in ids])
        await transaction.with_unread_callbacks(ids)
        await transaction.save([replace(found[one], status=Status.COMPLETED, due_at=None) for one in ids])
        leased = [a_delivery(event, leased_until=NOW + LEASE if event is events[0] else None) for event in events]
        new_claims = await transaction.append(events, leased)
        await transaction.add_run_times([RunTime(bucket="short", seconds=1.0, called_back=True, at=NOW)])
        await transaction.read([replace(one, verdict="accepted") for one in unread])
    claims = await claim_deliveries(store)
    assert (len(new_claims()), len(claims)) == (1, TASKS - 1)
    await store.deliveries.renew({claim.id: claim.fence for claim in claims}, until=NOW + LEASE)
    await store.deliveries.release({claims[0].id: claims[0].fence})
    await store.deliveries.finish([an_attempt(claim) for claim in [*claims[1:], *await claim_deliveries(store)]])
    await claim_submissions(store)
    await claim_polls(store)
    await store.tasks.sweep(now=NOW)


@pytest.mark.parametrize("rows", [10_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
async def test_hot_path_reads_no_whole_table_after_growth(store: Store, rows: int) -> None:
    """Whether the tables were empty or full when a statement was first used, it reads only the rows that it needs."""
    for _ in range(USES_UNTIL_GENERIC):
        await hot_path(store)
    await grow(store, rows)
    await add_waiting(store, rows)
    before = await _read_rows(store)
    with emitted(store) as statements:
        for _ in range(3):
            await hot_path(store)
    after = await _read_rows(store)
    assert {name: read - before[name] for name, read in after.items() if read - before[name] >= rows} == {}
    if not store._database.address.postgres:
        for statement in statements:
            await _assert_no_scan(store, statement)


async def _claim_submission(store: Store, one: str) -> None:
    await add_tasks(store, a_task(one))
    claimed = await claim_submissions(store, limit=2)
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([task.id for task in claimed])
        await transaction.save([replace(task, status=Status.IN_PROGRESS, due_at=NOW + HOUR) for task in claimed])


async def _with_unread_callbacks(store: Store, one: str) -> None:
    async with store.units_of_work.transaction() as transaction:
        assert await transaction.with_unread_callbacks([TaskId(one)]) == set()


async def _erase(store: Store, one: str) -> None:
    await add_tasks(store, a_task(one, status=Status.COMPLETED, due_at=None))
    await store.eraser.require_idle(await stored(store, one), now=NOW)
    await store.eraser.erase(await stored(store, one), now=NOW)


async def _without_busy(store: Store, one: str) -> None:
    async with store._database.writing() as write:
        rows = [{"destination": one}]
        assert await without_busy(write.connection, rows, NOW) == rows


async def _postpone_lane(store: Store, one: str) -> None:
    async with store._database.writing() as write:
        await write.connection.execute(WITH_ITS_HEAD, [{"this_lane": one, "now": NOW}])


LOOKUPS = {
    "claim a submission": _claim_submission,
    "unread callbacks of tasks": _with_unread_callbacks,
    "erase": _erase,
    "busy destinations": _without_busy,
    "postpone a lane": _postpone_lane,
}
"""Statements that look for rows of one task, lane or destination."""


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("name", LOOKUPS)
async def test_lookup_reads_no_backlog(store: Store, name: str) -> None:
    """What waits meanwhile, of other tasks, is not read: a plan that was made before would read all of it."""
    for _ in range(USES_UNTIL_GENERIC):
        await LOOKUPS[name](store, f"w{next(_numbers)}")
    await add_backlog(store, BACKLOG)
    before = await _read_rows(store)
    for _ in range(3):
        await LOOKUPS[name](store, f"w{next(_numbers)}")
    after = await _read_rows(store)
    assert {one: read - before[one] for one, read in after.items() if read - before[one] >= BACKLOG} == {}


async def _read_rows(store: Store) -> dict[str, int]:
    """Return the rows that were read of each table without an index, and of each index; nothing on SQLite."""
    if not store._database.address.postgres:
        return {}
    async with store._database.writing() as write:
        await write.connection.execute(text("SELECT pg_stat_force_next_flush()"))
    async with store._database.reading() as connection:
        return {row[0]: int(row[1]) for row in await connection.execute(text(READ_ROWS))}


async def _assert_no_scan(store: Store, statement: Statement) -> None:
    if statement.sql.startswith("INSERT"):
        return
    async with store._database.writing() as write:
        sql = f"EXPLAIN QUERY PLAN {statement.sql}"
        rows = await write.connection.exec_driver_sql(sql, statement.parameters)
        details = "\n".join(row["detail"] for row in rows.mappings())
    assert not _scans(details), f"{statement.sql}\n{details}"
