"""The budget of a day: what each submission counts as, from the first one on."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from service.domain.submission_limits import ClientLimit, Limits
from service.domain.task import Status, Task, Usage
from service.storage import Store
from service.storage.daily_budget import MAX_COST_SAMPLES
from tests.storage.builders import (
    HOUR,
    NOW,
    SECOND,
    a_task,
    add_tasks,
    claim_submissions,
    in_progress,
)

MODEL = "viduq2_pro_reference"
MIDNIGHT = NOW.replace(hour=0, minute=0, second=0, microsecond=0)
YESTERDAY = MIDNIGHT - HOUR


def paid(task_id: str, cost: str | None, **changes: Any) -> Task:
    """Return a task at the provider whose reported cost is `cost`."""
    usage = None if cost is None else Usage(cost=cost)
    return replace(in_progress(task_id, usage=usage), **changes)


def waiting(number: int, **changes: Any) -> list[Task]:
    """Return queued tasks that are due for some days."""
    return [a_task(f"q{n:02}", deadline_at=NOW + 72 * HOUR, **changes) for n in range(number)]


async def spent(store: Store, *, each: float = 1.0) -> float:
    """Return what counts for the day's budget, which is the same with and without the clients."""
    used = await store.tasks.limit_usage(now=NOW, limits=Limits(budget=1.0, budget_each=each), buckets=[])
    total = sum(used.spent.values())
    assert total == pytest.approx(sum((await store.tasks.spent_today(NOW, budget_each=each)).values()))
    return total


async def claimed(store: Store, budget: float, *, each: float = 1.0, now: Any = NOW) -> list[str]:
    """Return the ids that are claimed within a budget."""
    return [one.id for one in await claim_submissions(store, now=now, limits=Limits(budget=budget, budget_each=each))]


async def test_first_tasks_count_as_budget_each(store: Store) -> None:
    """While no price is known, each submission reserves BUDGET_EACH: 40 tasks do not go out under one budget."""
    await add_tasks(store, *waiting(40))
    assert await claimed(store, 1.0) == ["q00"]
    assert await claimed(store, 1.0) == []
    assert await spent(store) == pytest.approx(1.0)


async def test_known_cost_corrects_the_reservation(store: Store) -> None:
    """Once a task reports its cost, the others count as that, and the rest of the budget is used."""
    await add_tasks(store, paid("p1", "0.35"), *waiting(40))
    assert await claimed(store, 1.0) == ["q00"]
    assert await claimed(store, 1.0) == []
    assert await spent(store) == pytest.approx(0.7)


async def test_price_is_the_dearest_known_cost(store: Store) -> None:
    """Two known costs of a bucket: the higher one is reserved, never the mean."""
    await add_tasks(store, paid("p1", "0.30"), paid("p2", "0.50"), paid("p3", None))
    assert await spent(store) == pytest.approx(0.30 + 0.50 + 0.50)


@pytest.mark.parametrize(("known", "counts"), [("0.05", 1.0), ("2.50", 2.5)])
async def test_new_duration_counts_as_the_dearest_of_its_model(store: Store, known: str, counts: float) -> None:
    """A bucket without a known cost counts as the dearest one of its model, and at least as BUDGET_EACH."""
    await add_tasks(
        store,
        paid("p1", known, bucket=f"{MODEL}/5/540p", submitted_at=YESTERDAY),
        paid("p2", "90", bucket="another_model/5", submitted_at=YESTERDAY),
        paid("p3", None, bucket=f"{MODEL}/10/1080p"),
    )
    assert await spent(store) == pytest.approx(counts)


async def test_budget_below_budget_each_lets_one_task_out(store: Store) -> None:
    """A first task goes out alone, or no price would ever become known; one of known price must fit."""
    await add_tasks(store, *waiting(3))
    assert await claimed(store, 0.5) == ["q00"]
    assert await claimed(store, 0.5) == []
    await add_tasks(store, paid("p1", "0.80", submitted_at=YESTERDAY))
    assert await claimed(store, 0.5, now=NOW + 24 * HOUR) == []
    assert await claimed(store, 0.8, now=NOW + 24 * HOUR) == ["q01"]


async def test_budget_counts_the_utc_day(store: Store) -> None:
    """Tasks submitted today count, those submitted before midnight in UTC do not."""
    await add_tasks(
        store,
        paid("t1", "0.35"),
        paid("t2", "0.40", submitted_at=MIDNIGHT),
        paid("t3", "0.45", submitted_at=MIDNIGHT - SECOND),
    )
    assert await spent(store) == pytest.approx(0.75)


async def test_budget_stops_submissions_until_midnight(store: Store) -> None:
    """Only tasks that the rest of the budget can pay are submitted; the next day has a new budget."""
    await add_tasks(store, paid("p1", "0.40"), *waiting(5))
    assert await claimed(store, 1.25) == ["q00", "q01"]
    assert await claimed(store, 1.25) == []
    assert await claimed(store, 1.25, now=NOW + 12 * HOUR) == ["q02", "q03", "q04"]


@pytest.mark.parametrize(
    ("changes", "counts"),
    [
        ({"status": Status.IN_DOUBT, "guessed": True}, 0.4),
        ({"status": Status.EXPIRED, "guessed": True}, 0.4),
        ({"status": Status.FAILED, "guessed": True}, 0.4),
        ({"status": Status.SUBMITTING}, 0.4),
        ({"status": Status.COMPLETED}, 0.4),
        ({"status": Status.FAILED}, 0.0),
        ({"status": Status.CANCELED}, 0.0),
        ({"status": Status.FAILED, "usage": Usage(cost="0.31")}, 0.31),
        ({"status": Status.COMPLETED, "usage": Usage(cost="0")}, 0.0),
        ({"usage": Usage(cost="0")}, 0.4),
        ({"status": Status.QUEUED, "tries": 1}, 0.0),
        ({"status": Status.QUEUED, "resubmissions": 1}, 0.4),
        ({"resubmissions": 2}, 1.2),
        ({"status": Status.COMPLETED, "usage": Usage(cost="0.3"), "resubmissions": 1}, 0.7),
        ({"status": Status.FAILED, "resubmissions": 1}, 0.4),
    ],
)
async def test_each_submission_counts_what_may_be_billed(store: Store, changes: dict[str, Any], counts: float) -> None:
    """Lost, expired and second submissions count; only what the provider surely did not bill is free."""
    await add_tasks(store, paid("known", "0.40", submitted_at=YESTERDAY), paid("t1", None, **changes))
    assert await spent(store) == pytest.approx(counts)


@pytest.mark.parametrize("absurd", ["1000000000", "10000", "100.01"])
async def test_absurd_cost_counts_as_the_usual_price(store: Store, absurd: str) -> None:
    """A cost of over 100 times BUDGET_EACH neither fills the budget nor becomes the price of later tasks."""
    await add_tasks(store, paid("p1", "0.40"), paid("p2", absurd), *waiting(3))
    assert await spent(store) == pytest.approx(0.8)
    assert await claimed(store, 1.7) == ["q00", "q01"]


async def test_dear_cost_is_not_absurd_with_a_higher_budget_each(store: Store) -> None:
    """An operator whose tasks do cost that much raises BUDGET_EACH, and the reported cost counts."""
    await add_tasks(store, paid("p1", "150"))
    assert await spent(store, each=2.0) == pytest.approx(150)


async def test_outlier_is_not_the_price(store: Store) -> None:
    """A cost of ten times the usual one counts for its own day, but is not reserved for later tasks."""
    await add_tasks(store, *(paid(f"p{n}", "0.40", submitted_at=YESTERDAY) for n in range(3)), paid("p9", "50"))
    await add_tasks(store, *waiting(2))
    assert await spent(store) == pytest.approx(50)
    assert await claimed(store, 50.5) == ["q00"]


async def test_budget_of_a_client(store: Store) -> None:
    """Each client has its own budget beside that of all; the others go on."""
    await add_tasks(
        store,
        paid("p1", "0.40"),
        *waiting(3),
        *(a_task(f"b{n}", client="bob") for n in range(4)),
    )
    limits = Limits(budget=5.0, client_budget=ClientLimit(default=0.85, exceptions={"bob": None}))
    assert {one.id for one in await claim_submissions(store, limits=limits)} == {"q00", "b0", "b1", "b2", "b3"}
    used = await store.tasks.limit_usage(now=NOW, limits=limits, buckets=["short"])
    assert (used.obstacle("anna", "short"), used.obstacle("bob", "short")) == ("client_budget", None)


async def test_reported_costs_are_gauges(store: Store) -> None:
    """The metrics show the reported costs of the day by client."""
    await add_tasks(store, paid("t1", "0.35"), paid("t2", "0.40", client="bob"), paid("t3", None))
    gauges = await store.health.gauges(NOW)
    assert dict(gauges.day_costs) == pytest.approx({"anna": 0.35, "bob": 0.40})
    assert not (await store.health.gauges(NOW + timedelta(days=1))).day_costs


async def test_price_comes_from_the_newest_costs(store: Store) -> None:
    """Prices change: a cost that is older than the newest hundred no longer counts."""
    older = [paid("old", "0.90", created_at=NOW - HOUR, submitted_at=YESTERDAY)]
    newer = [paid(f"p{n:03}", "0.30", submitted_at=YESTERDAY) for n in range(MAX_COST_SAMPLES)]
    await add_tasks(store, *older, *newer, paid("unpriced", None))
    assert await spent(store) == pytest.approx(0.30)
