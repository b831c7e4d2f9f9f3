"""The statements of the hot path on tables that grew while the statements were prepared: none reads a whole table.

Nothing was analysed since, as right after a burst. Before it, the tables were never analysed, or while they were nearly
empty: autovacuum does that at any moment. The rows that PostgreSQL counts are those of the plans that ran;
SQLite's plans do not depend on the number of rows.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from itertools import count

import pytest
from sqlalchemy import text

from service.domain.ports.unit_of_work import DeliveryClaim, RunTime
from service.domain.task import Status, TaskId, UpstreamId
from service.storage import Store, open_store
from service.storage.destination_locks import without_busy
from service.storage.destination_rates import WITH_ITS_HEAD
from tests.storage.builders import (
    HOUR,
    LEASE,
    MINUTE,
    NO_LIMITS,
    NOW,
    SECOND,
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
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.emitted import Statement, emitted, steps
from tests.storage.hot_steps import STEPS, retain
from tests.storage.test_query_plans import _scans
from tests.support.grown_tables import (
    LIKE,
    add_backlog,
    add_delivered,
    add_parked,
    add_postponed,
    add_waiting,
    grow,
)

GENERIC = "?prepare_threshold=1&options=-c%20plan_cache_mode=force_generic_plan"
"""Makes PostgreSQL plan a statement once, for all values: else it does so at the sixth use of a prepared one."""

ANALYSED = [("sqlite", False), ("postgresql", False), ("postgresql", True)]
"""Databases, and whether their tables were analysed while they were nearly empty."""

USES = 3
"""Uses of a statement before the growth. At the second one it is prepared, and planned for all later ones."""

WITH_ANALYSIS = range(USES - 1)
"""Uses at which tables are analysed: not the last one, since that drops each plan."""

WHOLE = frozenset({"tasks_at_provider", "tasks_open", "rate_buckets"})
"""What is read as a whole by intent: limits count the tasks at the provider, the hourly job looks at all buckets."""

WITHOUT_INDEX = frozenset({"circuits", "rate_buckets", "watched_tasks"})
"""Small tables of which all rows are read from time to time."""

BACKLOG = 1000
ENDED = 1000
TASKS = 4
_numbers = count(1)

READ_ROWS = """
SELECT relname, seq_tup_read FROM pg_stat_user_tables
UNION ALL SELECT indexrelname, idx_tup_read FROM pg_stat_user_indexes
"""


Pause = Callable[[], Awaitable[None]]
"""What happens between two steps."""


async def _nothing() -> None:
    """Let the next step follow at once."""


def _analysing(store: Store) -> Pause:
    """Return a pause in which all tables are analysed, as autovacuum does at any moment."""

    async def analyse() -> None:
        async with store._database.writing() as write:
            await write.connection.execute(text("ANALYZE"))

    return analyse


@pytest.fixture
async def store(database: EmptyDatabase) -> AsyncIterator[Store]:
    """Yield a store on an empty database, which plans each statement for all values."""
    options = GENERIC if database.url.startswith("postgresql") else ""
    async with open_store(database.url + options) as opened:
        yield opened


async def hot_path(store: Store, pause: Pause = _nothing) -> None:
    """Accept tasks, receive and record their callbacks, deliver the events, and claim what is due."""
    ids = [TaskId(f"w{next(_numbers)}") for _ in range(TASKS)]
    await add_tasks(store, *(in_progress(one, due_at=NOW + HOUR) for one in ids), a_task(f"queued-{ids[0]}"))
    entries = [an_entry(f"d-{one}", task_id=one, verdict="unread") for one in ids]
    await pause()
    await store.inbox.usage(ids)
    await store.inbox.store_unread(entries)
    await pause()
    await store.inbox.unread_since()
    claims = await _record(store, ids, pause)
    await store.deliveries.renew({claim.id: claim.fence for claim in claims}, until=NOW + LEASE)
    await store.deliveries.release({claims[0].id: claims[0].fence})
    await pause()
    await store.deliveries.finish([an_attempt(claim) for claim in [*claims[1:], *await claim_deliveries(store)]])
    await pause()
    await claim_submissions(store)
    await claim_polls(store)
    await store.tasks.sweep(now=NOW)
    for step in STEPS.values():
        await pause()
        await step(store, f"w{next(_numbers)}")


async def _record(store: Store, ids: list[TaskId], pause: Pause) -> list[DeliveryClaim]:
    """Record the unread callbacks of these tasks; return claims of all deliveries but the first."""
    events = [an_event(f"e-{one}", task_id=one) for one in ids]
    async with store.units_of_work.transaction() as transaction:
        unread = await transaction.unread(64, now=NOW)
        found = await transaction.lock(ids)
        await transaction.holders([UpstreamId(one) for one in ids])
        await transaction.with_unread_callbacks(ids)
        await transaction.save([replace(found[one], status=Status.COMPLETED, due_at=None) for one in ids])
        leased = [a_delivery(event, leased_until=NOW + LEASE if event is events[0] else None) for event in events]
        new_claims = await transaction.append(events, leased)
        await transaction.add_run_times([RunTime(bucket="short", seconds=1.0, called_back=True, at=NOW)])
        await transaction.read([replace(one, verdict="accepted") for one in unread])
    await pause()
    claims = await claim_deliveries(store)
    await pause()
    assert (len(new_claims()), len(claims)) == (1, TASKS - 1)
    return claims


@pytest.mark.parametrize("rows", [10_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
@pytest.mark.parametrize(("database", "analysed"), ANALYSED, indirect=["database"])
async def test_hot_path_reads_no_whole_table_after_growth(
    store: Store, open_another: OpenStore, rows: int, analysed: bool
) -> None:
    """Whether the tables were empty or full when a statement was first used, it reads only the rows that it needs.

    They are full for a new store, before the tables are analysed, and afterwards. While they are empty, each statement
    uses an index, too.
    """
    for use in range(USES):
        await hot_path(store, _analysing(store) if analysed and use in WITH_ANALYSIS else _nothing)
    await _assert_reads_by_index(store)
    await grow(store, rows)
    await add_waiting(store, rows)
    await add_parked(store, rows)
    if not store._database.address.postgres:
        await _assert_reads_by_index(store)
        return
    assert await _read_more_than(rows, store, hot_path(store)) == {}
    assert await _read_more_than(rows, store, hot_path(open_another())) == {}
    await _analysing(store)()
    assert await _read_more_than(rows, store, hot_path(open_another())) == {}


async def _assert_reads_by_index(store: Store) -> None:
    """Fail if a step of the hot path reads a whole table without an index, however few rows it has."""
    before = await _whole_reads(store)
    with emitted(store) as statements:
        await hot_path(store)
    assert await _whole_reads(store) == before
    if not before:
        for statement in statements:
            await _assert_no_scan(store, statement)


async def _read_more_than(rows: int, store: Store, act: Awaitable[None]) -> dict[str, int]:
    """Return the tables and indexes of which `act` reads so many rows or more, without those of WHOLE."""
    before = await read_rows(store)
    await act
    after = await read_rows(store)
    read = {name: after[name] - before[name] for name in sorted(after.keys() - WHOLE)}
    return {name: number for name, number in read.items() if number >= rows}


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
        rows = [{"destination": f"{one}/host"}]
        assert await without_busy(write.connection, rows, NOW) == rows


async def _postpone_lane(store: Store, one: str) -> None:
    async with store._database.writing() as write:
        await write.connection.execute(WITH_ITS_HEAD, [{"this_task": one, "this_lane": f"{one}/handler", "now": NOW}])


async def _record_a_callback(store: Store, one: str) -> None:
    await add_tasks(store, in_progress(TaskId(one), due_at=NOW + HOUR))
    await store.inbox.store_unread([an_entry(f"d-{one}", task_id=TaskId(one), verdict="unread")])
    await store.inbox.unread_since()
    async with store.units_of_work.transaction() as transaction:
        unread = await transaction.unread(1, now=NOW)
        await transaction.lock([each.task_id for each in unread])
        await transaction.read([replace(each, verdict="accepted") for each in unread])
    assert len(unread) == 1


async def _deliver(store: Store, one: str, event_id: str = "") -> None:
    event = an_event(event_id or f"e-{one}", task_id=one)
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], [a_delivery(event, lane=f"{one}/log", destination=f"{one}/host")])
    (claim,) = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(claim)])


async def _poll(store: Store, one: str) -> None:
    await add_tasks(store, in_progress(TaskId(one), due_at=NOW))
    (task,) = await claim_polls(store)
    await store.tasks.renew({task.id: task.fence}, until=NOW + LEASE)
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([task.id])
        await transaction.holders([UpstreamId(f"upstream-{one}")])
        await transaction.save([replace(task, status=Status.COMPLETED, due_at=None)])


async def _names_of_waiting_handlers(store: Store, _one: str) -> None:
    await store.deliveries.pending_handlers()


async def _limit_reached(store: Store, one: str) -> None:
    await _claim_submission(store, one)
    assert await store.tasks.limit_reached(now=NOW, limits=NO_LIMITS) is None


WITH_BACKLOG = ["claim within limits", "handler jobs", "claim past the served", "circuit", "rates", "replay"]
WITH_BACKLOG += ["poll a watched task"]
"""Steps of the hot path that look for rows among those that wait."""

LOOKUPS = {
    "record a callback": _record_a_callback,
    "deliver": _deliver,
    "poll": _poll,
    "handlers with pending deliveries": _names_of_waiting_handlers,
    "claim a submission": _claim_submission,
    "limit reached": _limit_reached,
    "unread callbacks of tasks": _with_unread_callbacks,
    "erase": _erase,
    "busy destinations": _without_busy,
    "postpone a lane": _postpone_lane,
    **{name: STEPS[name] for name in WITH_BACKLOG},
    "retention": retain,
}
"""Statements that look for rows of one task, lane or destination."""

Prepare = Callable[[Store], Awaitable[None]]


async def _empty(_store: Store) -> None:
    """Leave the tables empty."""


async def _history(store: Store) -> None:
    """Fill the tables with settled work, as they mostly are: nothing waits."""
    await grow(store, ENDED)


async def _deleted(store: Store) -> None:
    """Leave tables of many pages without rows, as retention does."""
    await grow(store, ENDED)
    async with store._database.writing() as write:
        for table in ("attempts", "deliveries", "events", "inbox", "tasks"):
            await write.connection.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names


PLANNED = [
    *[(name, _empty, True) for name in LOOKUPS],
    *[(name, _empty, False) for name in LOOKUPS if name not in STEPS],
    *[(name, _history, True) for name in LOOKUPS if name not in STEPS],
    *[(name, _deleted, True) for name in ("record a callback", "deliver", "poll", "erase")],
]
"""Lookups, the tables before them, and whether these were analysed while nothing waited."""


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize(("name", "prepare", "analysed"), PLANNED)
async def test_lookup_reads_no_backlog(
    store: Store, database: EmptyDatabase, name: str, prepare: Prepare, analysed: bool
) -> None:
    """What waits meanwhile, of other tasks, is not read: a plan that was made before would read all of it."""
    await prepare(store)
    for use in range(USES):
        await LOOKUPS[name](store, f"w{next(_numbers)}")
        if analysed and use in WITH_ANALYSIS:
            await _analysing(store)()
    await add_backlog(store, BACKLOG)
    if name in {"record a callback", *WITH_BACKLOG}:
        await add_parked(store, BACKLOG)
    await LOOKUPS[name](store, f"w{next(_numbers)}")  # the first use drops index entries of an earlier test's rows
    assert await _read_more_than(BACKLOG, store, LOOKUPS[name](store, f"w{next(_numbers)}")) == {}
    async with open_store(database.url + GENERIC) as new:
        assert await _read_more_than(BACKLOG, store, LOOKUPS[name](new, f"w{next(_numbers)}")) == {}


DELIVERED = 5000
"""Deliveries of one task: 100 changes of its progress to 50 endpoints."""


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_delivery_reads_no_earlier_ones_of_its_task(store: Store) -> None:
    """However many deliveries of the task have ended, a claim and the end of an attempt read those that wait."""
    await add_delivered(store, DELIVERED)
    for number in range(USES):
        await _deliver(store, LIKE, f"warm-{number}")
    before = await read_rows(store)
    for number in range(3):
        await _deliver(store, LIKE, f"new-{number}")
    after = await read_rows(store)
    assert {one: read - before[one] for one, read in after.items() if read - before[one] >= DELIVERED} == {}


POSTPONED = 10_000
"""Tasks that wait to be submitted again; a claim looks at 200 of a client."""


async def test_claim_reads_no_tasks_that_wait_to_be_submitted_again(store: Store) -> None:
    """However many older tasks of the client wait for a later time, the ones that are due are found without them."""
    for _ in range(USES):
        await _claim_submission(store, f"w{next(_numbers)}")
    await add_postponed(store, POSTPONED)
    due = [a_task(f"due-{number:02}", client="waiting", created_at=NOW + number * SECOND) for number in range(20)]
    await add_tasks(store, *reversed(due))
    before = await read_rows(store)
    with emitted(store) as statements:
        claimed = [await claim_submissions(store, now=NOW + MINUTE, limit=5) for _ in range(4)]
        assert await claim_submissions(store, now=NOW + MINUTE, limit=5) == []
    after = await read_rows(store)
    assert [[task.id for task in tasks] for tasks in claimed] == [
        [task.id for task in due[first : first + 5]] for first in range(0, 20, 5)
    ]
    assert {one: read - before[one] for one, read in after.items() if read - before[one] >= POSTPONED} == {}
    if not after:
        reading = [statement for statement in statements if statement.sql.startswith(("SELECT", "WITH"))]
        assert steps(store, reading) < 10 * POSTPONED


async def _whole_reads(store: Store) -> dict[str, int]:
    """Return how often each table was read without an index; nothing on SQLite."""
    await read_rows(store)
    if not store._database.address.postgres:
        return {}
    async with store._database.reading() as connection:
        query = text("SELECT relname, seq_scan FROM pg_stat_user_tables")
        rows = {row[0]: int(row[1]) for row in await connection.execute(query)}
    return {name: number for name, number in rows.items() if name not in WITHOUT_INDEX}


async def read_rows(store: Store) -> dict[str, int]:
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
    small = any(f"FROM {table}" in statement.sql for table in WITHOUT_INDEX)
    assert small or not _scans(details), f"{statement.sql}\n{details}"
