"""Every transaction locks rows in one order, whatever the order of its arguments and of the rows: no deadlock.

A session of the test holds the first row. The store's transaction must wait for it without a lock on the second row.
"""

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256

import pytest
from psycopg import sql

from service.domain.operator_event import hour_of
from service.domain.ports.replays import ReplayFilter
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import TaskId
from service.storage import Store
from tests.storage.builders import (
    LEASE,
    NOW,
    SECOND,
    a_task,
    add_deliveries,
    add_tasks,
    admitted,
    an_attempt,
    an_entry,
    claim_deliveries,
    claim_polls,
    in_progress,
    replay,
)
from tests.storage.conftest import EmptyDatabase
from tests.storage.held_locks import other_session

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

Operation = Callable[[Store], Awaitable[object]]
TakeRow = Callable[[str], tuple[sql.SQL | sql.Composed, tuple[object, ...]]]
"""Returns the statement with which a session takes the row with a key, and its values."""

ADD_ENTRY = sql.SQL(
    "INSERT INTO inbox (digest, task_id, submission, body, headers, received_at, verdict)"
    " VALUES (%s, 't1', 1, '', '{}', now(), 'accepted')"
)
ADD_REPORT = sql.SQL("INSERT INTO operator_events (id, type, data, at) VALUES (%s, '', '{}', now())")
ADD_KEYED_TASK = sql.SQL(
    "INSERT INTO tasks SELECT (jsonb_populate_record(t, jsonb_build_object("
    "'id', %s::text, 'idempotency_key', %s::text, 'idempotency_digest', 'same'))).* FROM tasks t WHERE id = 'sample'"
)


async def waits_for_the_first(
    database: EmptyDatabase, take: TakeRow, run: Operation, store: Store, *, first: str, second: str
) -> None:
    """Check that `run` does not hold `second` while it waits for `first`, which another session has taken."""
    async with other_session(database) as session:
        statement, values = take(first)
        await session.run(statement, *values)
        running = asyncio.ensure_future(run(store))
        await session.until_waiting(1)
        statement, values = take(second)
        await session.run(statement, *values)
    await running


def a_row_of(table: str) -> TakeRow:
    """Return how a session locks the row of `table` with an id."""
    statement = sql.SQL("SELECT id FROM {} WHERE id = %s FOR UPDATE").format(sql.Identifier(table))
    return lambda key: (statement, (key,))


# ── rows of tasks and deliveries ─────────────────────────────────────────────


async def _lock(store: Store) -> None:
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([TaskId("t2"), TaskId("t1")])


async def _save(store: Store) -> None:
    async with store.units_of_work.transaction() as transaction:
        await transaction.save([in_progress("t2", note="b"), in_progress("t1", note="a")])


async def _renew(store: Store) -> None:
    await store.tasks.renew({TaskId("t2"): 1, TaskId("t1"): 1}, until=NOW + 2 * LEASE)


async def _release(store: Store) -> None:
    await store.tasks.release({TaskId("t2"): 1, TaskId("t1"): 1}, due_at=NOW)


async def _repair_clock(store: Store) -> None:
    await store.clock_jump_repair.repair(now=NOW - LEASE, until=NOW)


@pytest.mark.parametrize("operation", [_lock, _save, _renew, _release, _repair_clock])
async def test_tasks_are_locked_in_the_order_of_their_ids(
    store: Store, database: EmptyDatabase, operation: Operation
) -> None:
    """The task with the lower id is locked first, though it was stored and is named last."""
    await add_tasks(store, in_progress("t2"))
    await add_tasks(store, in_progress("t1"))
    await claim_polls(store)
    await waits_for_the_first(database, a_row_of("tasks"), operation, store, first="t1", second="t2")


async def _renew_deliveries(store: Store) -> None:
    await store.deliveries.renew({"e2-log": 1, "e1-log": 1}, until=NOW + 2 * LEASE)


async def _release_deliveries(store: Store) -> None:
    await store.deliveries.release({"e2-log": 1, "e1-log": 1})


async def two_deliveries(store: Store) -> None:
    """Store two deliveries, the one with the lower id last and in the later lane."""
    for event_id, task_id in (("e2", "t1"), ("e1", "t2")):
        await add_deliveries(store, "log", events=[event_id], task_id=task_id)


@pytest.mark.parametrize("operation", [_renew_deliveries, _release_deliveries])
async def test_leases_of_deliveries_are_locked_in_the_order_of_their_ids(
    store: Store, database: EmptyDatabase, operation: Operation
) -> None:
    """The delivery with the lower id is locked first, though it was stored and is named last."""
    await two_deliveries(store)
    await claim_deliveries(store)
    await waits_for_the_first(database, a_row_of("deliveries"), operation, store, first="e1-log", second="e2-log")


async def test_results_of_attempts_are_stored_in_the_order_of_their_ids(store: Store, database: EmptyDatabase) -> None:
    """A batch of results locks the delivery with the lower id first."""
    await two_deliveries(store)
    claims = sorted(await claim_deliveries(store), key=lambda claim: claim.id, reverse=True)

    async def finish(store: Store) -> None:
        await store.deliveries.finish([an_attempt(claim) for claim in claims])

    await waits_for_the_first(database, a_row_of("deliveries"), finish, store, first="e1-log", second="e2-log")


async def test_dead_letters_are_reported_in_one_order(store: Store, database: EmptyDatabase) -> None:
    """Two processes that store dead letters of the same two handlers do not wait for each other."""
    for handler in ("slow", "log"):
        await add_deliveries(store, handler, events=[f"e-{handler}"], task_id=f"t-{handler}")
    claims = [claim for handler in ("slow", "log") for claim in await claim_deliveries(store, handler)]

    async def finish(store: Store) -> None:
        await store.deliveries.finish([an_attempt(claim, "dead", fault="ours") for claim in claims])

    def take_report(handler: str) -> tuple[sql.SQL | sql.Composed, tuple[object, ...]]:
        condition = f"service.dead_letters {handler} ours {hour_of(NOW + SECOND)}"
        event_id = f"svc_{sha256(condition.encode()).hexdigest()[:32]}"
        return ADD_REPORT, (event_id,)

    await waits_for_the_first(database, take_report, finish, store, first="log", second="slow")


async def test_replays_are_locked_in_the_order_of_their_ids(store: Store, database: EmptyDatabase) -> None:
    """A replay locks the delivery with the lower id first, though it is named last."""
    await two_deliveries(store)
    await store.deliveries.finish([an_attempt(claim) for claim in await claim_deliveries(store)])

    async def replay_both(store: Store) -> None:
        assert await replay(store, "e2-log", "e1-log") == ["e2-log", "e1-log"]

    await waits_for_the_first(database, a_row_of("deliveries"), replay_both, store, first="e1-log", second="e2-log")


A_LANE = ("e1", "e2")
LOCK_DELIVERY = sql.SQL("SELECT id FROM deliveries WHERE id = %s FOR UPDATE")


async def _postponed_lane(store: Store) -> None:
    """Store a lane whose head waits for its retry, and the other delivery with it."""
    await add_deliveries(store, "log", events=A_LANE)
    [head] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(head, "retry", due_at=NOW + LEASE)])


async def test_replay_waits_for_no_earlier_delivery_of_its_lane(store: Store, database: EmptyDatabase) -> None:
    """An attempt that ends locks earlier ones first, and the replay has locked its own: they would wait for ever."""
    await _postponed_lane(store)
    async with other_session(database) as session:
        await session.run(LOCK_DELIVERY, "e1-log")
        async with asyncio.timeout(30):
            assert await replay(store, "e2-log") == ["e2-log"]


async def test_bulk_replay_holds_nothing_while_it_waits(store: Store, database: EmptyDatabase) -> None:
    """An attempt that ends may hold a later delivery while it postpones an earlier one of another lane."""
    await _postponed_lane(store)
    wanted = ReplayFilter(statuses=frozenset({"pending"}))

    async def replay_both(store: Store) -> None:
        due = dict.fromkeys(("e1-log", "e2-log"), NOW)
        assert await store.replays.replay_at(due, wanted, now=NOW) == dict.fromkeys(due, "replayed")

    await waits_for_the_first(database, a_row_of("deliveries"), replay_both, store, first="e2-log", second="e1-log")


# ── watched tasks ────────────────────────────────────────────────────────────

T1, T2 = TaskId("t1"), TaskId("t2")


async def _two_watched(store: Store) -> None:
    """Store two watched tasks, the one with the lower id last."""
    for each in (T2, T1):
        await add_tasks(store, in_progress(each, due_at=NOW + 9 * LEASE))
        await store.watched_tasks.watch([each], until=NOW + 3 * LEASE)


async def test_renewals_lock_watched_tasks_in_the_order_of_their_ids(store: Store, database: EmptyDatabase) -> None:
    """Two processes that renew the same two tasks do not wait for each other."""
    await _two_watched(store)

    async def watch(store: Store) -> None:
        await store.watched_tasks.watch([T2, T1], until=NOW + 3 * LEASE)

    take = sql.SQL("SELECT task_id FROM watched_tasks WHERE task_id = %s FOR UPDATE")
    await waits_for_the_first(database, lambda key: (take, (key,)), watch, store, first="t1", second="t2")


async def _claim_watched(store: Store) -> list[TaskId]:
    now = NOW + LEASE
    return [each.id for each in await store.watched_tasks.claim(now=now, until=now + LEASE, limit=9, every=LEASE)]


async def _prune_watched(store: Store) -> list[TaskId]:
    now = NOW + 4 * LEASE
    assert await store.watched_tasks.prune(now=now) == 1
    return [T2]


@pytest.mark.parametrize("operation", [_claim_watched, _prune_watched])
async def test_a_watched_task_that_is_renewed_now_is_skipped(
    store: Store, database: EmptyDatabase, operation: Callable[[Store], Awaitable[list[TaskId]]]
) -> None:
    """Claims and deletions, whose order is another one, wait for no renewal."""
    await _two_watched(store)
    async with other_session(database) as session:
        await session.run(sql.SQL("UPDATE watched_tasks SET until = until WHERE task_id = 't1'"))
        async with asyncio.timeout(30):
            assert await operation(store) == [T2]


# ── new rows with a key ──────────────────────────────────────────────────────


async def _admit(store: Store) -> None:
    async with store.units_of_work.transaction() as transaction:
        assert await admitted(transaction, [an_entry("d2"), an_entry("d1")]) == ["repeated", "repeated"]


async def _store_unread(store: Store) -> None:
    await store.inbox.store_unread([an_entry("d2", verdict="unread"), an_entry("d1", verdict="unread")])


@pytest.mark.parametrize("operation", [_admit, _store_unread])
async def test_callbacks_are_stored_in_the_order_of_their_digests(
    store: Store, database: EmptyDatabase, operation: Operation
) -> None:
    """Two processes that store the same two callbacks do not wait for each other."""
    await waits_for_the_first(
        database, lambda digest: (ADD_ENTRY, (digest,)), operation, store, first="d1", second="d2"
    )


async def test_tasks_with_keys_are_stored_in_the_order_of_their_keys(store: Store, database: EmptyDatabase) -> None:
    """Two processes that store tasks with the same two keys do not wait for each other."""
    await store.intake.add(a_task("sample"), [], None)

    async def add_both(store: Store) -> None:
        adding = [
            store.intake.add(a_task(f"t-{key}"), [], IdempotencyKey(key=key, digest="same")) for key in ("k2", "k1")
        ]
        await asyncio.gather(store.intake.add(a_task("t-first"), [], None), *adding)

    await waits_for_the_first(
        database, lambda key: (ADD_KEYED_TASK, (f"other-{key}", key)), add_both, store, first="k1", second="k2"
    )
