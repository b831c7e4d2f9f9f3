"""The cost of the gauges: rows that stay are not counted at each scrape, and few statements are run."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, event

from service.domain.task import Status
from service.storage import Store, gauges, row_counts
from tests.storage.builders import HOUR, NOW, SECOND, a_task, add_deliveries, add_tasks, an_attempt, claim_deliveries
from tests.storage.emitted import emitted, query_plan
from tests.storage.test_query_plans import sorts_a_table
from tests.support.grown_tables import grow


@pytest.fixture
def statements() -> Iterator[list[str]]:
    """Yield the statements that the store runs."""
    found: list[str] = []

    def note(_: Any, __: Any, statement: str, *___: Any) -> None:
        found.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    yield found
    event.remove(Engine, "before_cursor_execute", note)


async def _fill(store: Store) -> None:
    await add_tasks(store, a_task("t1"), a_task("t2", status=Status.COMPLETED, due_at=None))
    await add_deliveries(store, "a", "b")
    [claim] = await claim_deliveries(store, "a")
    await store.deliveries.finish([an_attempt(claim, "dead", fault="ours")])


async def test_many_rows_are_counted_once_a_minute(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is open is counted each time; what only grows is older, at most by a minute and some for huge tables."""
    monkeypatch.setattr(gauges, "FEW_ROWS", 2)
    await _fill(store)
    first = await store.health.gauges(NOW)
    await add_tasks(store, a_task("t3"), a_task("t4", status=Status.COMPLETED, due_at=None))
    await add_deliveries(store, "c", events=["e9"])
    soon = await store.health.gauges(NOW + 59 * SECOND)
    assert soon.tasks == {"queued": 2, "completed": 1}
    assert (soon.deliveries["pending"], soon.dead_letters) == (first.deliveries["pending"] + 1, {"a": 1})
    later = await store.health.gauges(NOW + 60 * SECOND)
    assert later.tasks == {"queued": 2, "completed": 2}
    assert (await store.health.gauges(NOW - HOUR)).tasks == {"queued": 2, "completed": 2}


async def test_few_rows_are_counted_each_time(store: Store) -> None:
    """A small database has exact figures."""
    await _fill(store)
    await store.health.gauges(NOW)
    await add_tasks(store, a_task("t4", status=Status.FAILED, due_at=None))
    assert (await store.health.gauges(NOW)).tasks == {"queued": 1, "completed": 1, "failed": 1}


async def test_scrapes_at_the_same_time_count_once(
    store: Store, statements: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten monitoring systems cost one count of the rows that stay."""
    monkeypatch.setattr(gauges, "FEW_ROWS", 2)
    await _fill(store)
    statements.clear()
    await asyncio.gather(*(store.health.gauges(NOW) for _ in range(10)))
    assert sum("FROM attempts" in one and "GROUP BY" in one for one in statements) == 1
    assert sum("FROM inbox" in one and "GROUP BY" in one for one in statements) == 1


async def test_whole_tables_are_counted_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The counts are those of one part, and no statement makes SQLite sort a whole table, which it does in memory."""
    await grow(store, 60, handler="log", over=HOUR, at=NOW, varied=True)
    in_one_part = await store.health.gauges(NOW)
    monkeypatch.setattr(row_counts, "ROWS_AT_ONCE", 7)
    with emitted(store) as found:
        assert await store.health.gauges(NOW) == in_one_part
    assert in_one_part.attempts == {("log", "delivered"): 61}
    assert in_one_part.callbacks == {"accepted": 61}
    assert in_one_part.tasks == {"completed": 55, "failed": 4, "canceled": 1, "expired": 1}
    assert in_one_part.dead_letters == {"log": 4}
    assert [each.sql for each in found if sorts_a_table(each, await query_plan(store, each))] == []
    if not store._database.address.postgres:
        assert len([each for each in found if "FROM attempts" in each.sql and "GROUP BY" in each.sql]) == 61 // 7 + 1


async def test_rows_of_one_moment_are_counted_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part ends between two moments: rows of the same one are in the same part."""
    monkeypatch.setattr(row_counts, "ROWS_AT_ONCE", 2)
    await grow(store, 9, at=NOW)
    assert (await store.health.gauges(NOW)).tasks == {"completed": 10}


def test_counts_of_huge_tables_are_used_longer() -> None:
    """A million rows are counted once a minute, a hundred million once in 83: counting takes few percent."""
    counts = ("ended", "dead_letters", "dead_faults", "attempts", "callbacks", "day_costs", "spent")
    empty: dict[str, Any] = {"at": NOW, "deliveries": 0, **{name: {} for name in counts}}
    for rows, seconds in ((1_000_000, 60), (100_000_000, 5000)):
        totals = gauges.Totals(rows=rows, **empty)
        assert totals.usable(NOW + timedelta(seconds=seconds - 1))
        assert not totals.usable(NOW + timedelta(seconds=seconds))


async def test_dead_letters_are_counted_by_handler_and_spending_by_client(store: Store) -> None:
    """A task of unknown price counts as BUDGET_EACH, as for the budgets."""
    await _fill(store)
    task = a_task("t5", status=Status.IN_PROGRESS, submission=1, submitted_at=NOW, client="bert")
    await add_tasks(store, task)
    found = await store.health.gauges(NOW, each=2.5)
    assert found.dead_letters == {"a": 1}
    assert found.spent == {"bert": 2.5}
    assert found.day_costs == {}


async def test_slow_counts_go_on_and_older_ones_are_shown(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scrape that times out does not waste the count; the next one uses it, and older counts until then."""
    monkeypatch.setattr(gauges, "FEW_ROWS", 2)
    monkeypatch.setattr(gauges, "COUNT_TIMEOUT", 0.0)
    await _fill(store)
    count, may_count = gauges._totals, asyncio.Event()

    async def slow(*parameters: Any) -> gauges.Totals:
        await may_count.wait()
        return await count(*parameters)

    monkeypatch.setattr(gauges, "_totals", slow)
    scrape = asyncio.create_task(store.health.gauges(NOW))
    await asyncio.sleep(0)
    scrape.cancel()
    await asyncio.wait({scrape})
    may_count.set()
    assert (await store.health.gauges(NOW)).tasks == {"queued": 1, "completed": 1}
    may_count.clear()
    await add_tasks(store, a_task("t4", status=Status.COMPLETED, due_at=None))
    assert (await store.health.gauges(NOW + HOUR)).tasks == {"queued": 1, "completed": 1}
    may_count.set()
    assert store.health._gauges._counting is not None
    await store.health._gauges._counting
    assert (await store.health.gauges(NOW + HOUR)).tasks == {"queued": 1, "completed": 2}
