"""Claims of two processes at the same time: the second one waits exactly where the first one has not committed yet.

The order is forced with a lock of the test, because two claims of one process rarely meet. SQLite has one writer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import pytest
from psycopg import sql

from service.domain.submission_limits import Limits
from service.domain.task import Usage
from service.storage import Store, replays
from service.storage.task_rows import Values
from tests.storage.builders import (
    NOW,
    a_task,
    add_deliveries,
    add_tasks,
    an_attempt,
    an_entry,
    claim_deliveries,
    claim_polls,
    claim_submissions,
    in_progress,
    replay,
)
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.held_locks import other_session, updates_held

pytestmark = pytest.mark.parametrize("database", ["postgresql"], indirect=True)

TakeRows = Callable[[Store], Awaitable[list[Any]]]


async def both_claim(database: EmptyDatabase, table: str, stores: tuple[Store, Store], claim: TakeRows) -> list[Any]:
    """Return what the claims of two processes get that both have chosen their rows before one of them commits."""
    async with asyncio.TaskGroup() as group, updates_held(database, table, waiting=2):
        claims = [group.create_task(_claimed(claim, store)) for store in stores]
    return [row for one in claims for row in one.result()]


async def _claimed(claim: TakeRows, store: Store) -> list[Any]:
    return await claim(store)


async def test_in_flight_limit_holds_for_claims_at_the_same_time(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """The second claim counts what the first one has claimed, though both began before either committed."""
    await add_tasks(store, *(a_task(f"t{number}") for number in range(30)))
    limits = Limits(max_in_flight=5)
    claimed = await both_claim(
        database, "tasks", (store, open_another()), lambda one: claim_submissions(one, limits=limits)
    )
    assert len(claimed) == 5


async def test_budget_holds_for_claims_at_the_same_time(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """The second claim counts the costs of the first one, though both began before either committed."""
    paid = in_progress("paid", usage=Usage(cost="0.40"))
    await add_tasks(store, paid, *(a_task(f"t{number}") for number in range(30)))
    limits = Limits(budget=1.30)
    claimed = await both_claim(
        database, "tasks", (store, open_another()), lambda one: claim_submissions(one, limits=limits)
    )
    assert len(claimed) == 2


@pytest.mark.parametrize("claim", [claim_submissions, claim_polls], ids=["submissions", "polls"])
async def test_claims_of_tasks_at_the_same_time_share_none(
    store: Store, open_another: OpenStore, database: EmptyDatabase, claim: Callable[..., Awaitable[list[Any]]]
) -> None:
    """A claim skips the rows that another one has chosen and not leased yet."""
    kind = a_task if claim is claim_submissions else in_progress
    await add_tasks(store, *(kind(f"t{number}") for number in range(10)))
    claimed = await both_claim(database, "tasks", (store, open_another()), lambda one: claim(one, limit=5))
    assert sorted(task.id for task in claimed) == sorted(f"t{number}" for number in range(10))


async def test_claims_of_overdue_tasks_at_the_same_time_share_none(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """A queued task past its deadline is ended by one process."""
    await add_tasks(store, *(a_task(f"t{number}", deadline_at=NOW) for number in range(10)))
    claimed = await both_claim(database, "tasks", (store, open_another()), lambda one: claim_polls(one, limit=5))
    assert len({task.id for task in claimed}) == len(claimed) == 10


async def test_claims_of_deliveries_at_the_same_time_share_none(
    store: Store, open_another: OpenStore, database: EmptyDatabase
) -> None:
    """A delivery runs in one process."""
    for number in range(10):
        await add_deliveries(store, "log", events=[f"e{number}"], task_id=f"t{number}")
    claimed = await both_claim(
        database, "deliveries", (store, open_another()), lambda one: claim_deliveries(one, limit=5)
    )
    assert len({claim.id for claim in claimed}) == len(claimed) == 10


@pytest.mark.parametrize(
    ("table", "row", "claim"),
    [
        ("tasks", "queued-1", claim_submissions),
        ("tasks", "running-1", claim_polls),
        ("deliveries", "e1-log", claim_deliveries),
    ],
    ids=["submissions", "polls", "deliveries"],
)
async def test_claim_does_not_wait_for_a_locked_row(
    store: Store, database: EmptyDatabase, table: str, row: str, claim: Callable[..., Awaitable[list[Any]]]
) -> None:
    """While another process writes one row, the others are claimed, and the locked one is left to a later claim."""
    for number in (1, 2):
        await add_tasks(store, a_task(f"queued-{number}"), in_progress(f"running-{number}"))
        await add_deliveries(store, "log", events=[f"e{number}"], task_id=f"running-{number}")
    async with other_session(database) as session:
        await session.run(sql.SQL("SELECT id FROM {} WHERE id = %s FOR UPDATE").format(sql.Identifier(table)), row)
        async with asyncio.timeout(5):
            claimed = await claim(store)
    assert [one.id for one in claimed] == [row.replace("1", "2")]


async def test_replays_at_the_same_time_give_one_new_message_id(
    store: Store, open_another: OpenStore, database: EmptyDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two operators who replay one dead letter at the same time, the second one keeps its new id."""
    await add_deliveries(store, "log")
    await store.deliveries.finish([an_attempt(claim) for claim in await claim_deliveries(store)])
    reopen, ids = replays._reopened, list[str]()

    def noted(delivery_id: str, due_at: datetime) -> Values:
        ids.append(delivery_id)
        return reopen(delivery_id, due_at)

    monkeypatch.setattr(replays, "_reopened", noted)
    stores = (store, open_another())
    assert await both_claim(database, "deliveries", stores, lambda one: replay(one, "e1-log")) == ["e1-log"] * 2
    assert ids == ["e1-log"]


async def test_unread_callbacks_are_read_by_one_process(store: Store, open_another: OpenStore) -> None:
    """While one process records unread callbacks, another one reads the others and does not wait."""
    await store.inbox.store_unread([an_entry(f"d{number}", verdict="unread") for number in range(4)])
    async with store.units_of_work.transaction() as one, open_another().units_of_work.transaction() as other:
        first = await one.unread(2, now=NOW)
        async with asyncio.timeout(5):
            second = await other.unread(4, now=NOW)
    assert len(first) == 2
    assert {entry.digest for entry in (*first, *second)} == {f"d{number}" for number in range(4)}
    assert len(second) == 2
