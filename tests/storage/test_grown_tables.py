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
)
from tests.storage.emitted import Statement, emitted
from tests.storage.test_query_plans import _scans
from tests.support.grown_tables import add_waiting, grow

USES_UNTIL_GENERIC = 12
"""Uses of a statement after which the driver has prepared it and the server may use one plan for all values."""

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
