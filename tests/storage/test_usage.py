"""Costs of a day by model and client."""

from datetime import timedelta
from typing import Any

from service.domain.task import Status, Task
from service.storage import Store
from tests.storage.builders import NOW, a_task, add_tasks

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
    )
    [row] = await store.usage.of_day(DAY, client=None)
    assert (row.tasks, row.cost, row.unpriced) == (8, 13.75, 1)
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
