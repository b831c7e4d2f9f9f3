"""Costs of a day by model and client."""

from datetime import date, timedelta
from typing import Any

import pytest

from service.domain.task import Status, Task
from service.storage import Store, row_counts
from tests.storage.builders import NOW, a_task, add_tasks
from tests.storage.emitted import emitted

DAY = NOW.date()
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
VIDEO = {"type": "video", "url": "https://example.org/v.mp4"}


def submitted(number: int, cost: float | None, status: Status = Status.COMPLETED, **changes: Any) -> Task:
    """Return a task that was submitted now, and that has a result if it is completed."""
    output = (VIDEO,) if status is Status.COMPLETED else ()
    fields: dict[str, Any] = {"submitted_at": NOW, "due_at": None, "output": output, "cost": cost, "status": status}
    return a_task(f"t{number}", **(fields | changes))


async def test_costs_by_model_and_client(store: Store) -> None:
    """Each pair of model and client is a row; a client's own report has its own alone."""
    await add_tasks(
        store,
        submitted(1, 0.25),
        submitted(2, 0.5),
        submitted(3, 1.0, model="other"),
        submitted(4, 2.0, client="berta"),
    )
    rows = await store.usage.of_day(DAY, client=None)
    assert [(row.model, row.client, row.tasks, row.cost) for row in rows] == [
        ("other", "anna", 1, 1.0),
        ("viduq2_pro_reference", "anna", 2, 0.75),
        ("viduq2_pro_reference", "berta", 1, 2.0),
    ]
    [own] = await store.usage.of_day(DAY, client="berta")
    assert (own.client, own.cost) == ("berta", 2.0)


async def test_a_day_is_read_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sums are those of one part: SQLite groups a bounded number of rows in memory at once."""
    second = timedelta(seconds=1)
    await add_tasks(store, *(submitted(n, n / 4, submitted_at=MIDNIGHT + n // 2 * second) for n in range(11)))
    await add_tasks(store, submitted(11, 4.0, submitted_at=MIDNIGHT - second), submitted(12, 1.0, Status.FAILED))
    whole = await store.usage.of_day(DAY, client=None)
    monkeypatch.setattr(row_counts, "ROWS_AT_ONCE", 3)
    with emitted(store) as statements:
        assert await store.usage.of_day(DAY, client=None) == whole
    assert [(row.tasks, row.cost, row.without_result) for row in whole] == [(12, 14.75, 1)]
    grouped = [one for one in statements if "cost_kind" in one.sql and "GROUP BY" in one.sql]
    assert len(grouped) == (1 if store._database.address.postgres else 4)


async def test_paid_without_result_and_unknown_costs_stand_out(store: Store) -> None:
    """A failed task with a cost and a completed one without output were paid in vain; an erased one may not be."""
    await add_tasks(
        store,
        submitted(1, 0.25),
        submitted(2, 0.5, Status.FAILED),
        submitted(3, 1.0, output=()),
        submitted(4, 0.0, Status.FAILED),
        submitted(5, None, Status.FAILED),
        submitted(6, None, Status.IN_DOUBT),
        submitted(7, 4.0, output=(), erased_at=NOW),
        submitted(8, 8.0, Status.IN_PROGRESS),
        submitted(9, 16.0, Status.FAILED, erased_at=NOW),
    )
    [row] = await store.usage.of_day(DAY, client=None)
    assert (row.tasks, row.cost, row.unpriced) == (9, 29.75, 1)
    assert (row.without_result, row.without_result_cost) == (2, 1.5)


async def test_days_are_those_of_utc(store: Store) -> None:
    """Midnight belongs to the day that begins; a task that was not submitted belongs to none."""
    await add_tasks(
        store,
        submitted(1, 1.0, submitted_at=MIDNIGHT),
        submitted(2, 2.0, submitted_at=MIDNIGHT - timedelta(microseconds=1)),
        submitted(3, 4.0, submitted_at=MIDNIGHT + timedelta(days=1)),
        submitted(4, None, Status.QUEUED, submitted_at=None),
    )
    costs = [await store.usage.of_day(DAY + timedelta(days=offset), client=None) for offset in (-1, 0, 1)]
    assert [[row.cost for row in rows] for rows in costs] == [[2.0], [1.0], [4.0]]
    assert await store.usage.of_day(DAY + timedelta(days=2), client=None) == []


async def test_first_day_with_submissions(store: Store) -> None:
    """The days of a span count with both ends, up to the last one of the calendar, and so do those of every client."""
    ends = [MIDNIGHT, MIDNIGHT + timedelta(days=3) - timedelta(microseconds=1)]
    await add_tasks(store, *(submitted(n, 1.0, submitted_at=at) for n, at in enumerate(ends)), a_task("queued"))
    day = timedelta(days=1)
    spans = [(DAY - day, DAY + day), (DAY + day, DAY + 2 * day), (DAY - day, DAY - day), (DAY + day, DAY + day)]
    found = [await store.usage.first_day(*span) for span in [*spans, (DAY + 3 * day, date.max)]]
    assert found == [DAY, DAY + 2 * day, None, None, None]
