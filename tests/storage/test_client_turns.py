"""Submissions of different clients: turns, limits of single clients, and races between processes."""

import asyncio
from collections import Counter
from contextlib import suppress
from typing import Any

import pytest

from service.domain.submission_limits import ClientLimit, Limits, LimitUsage
from service.domain.task import Status, Usage
from service.storage import Store, task_queue
from service.storage.limit_usage import count_usage
from tests.storage.builders import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    a_task,
    add_tasks,
    claim_submissions,
    in_progress,
)
from tests.storage.conftest import OpenStore
from tests.storage.emitted import emitted

OVERDUE = 250
"""More tasks than those of a client, and of all clients, among which a claim looks for due ones."""

PAUSE = 0.3
"""Seconds that the first claim waits for the second one to count, which it must not do yet."""


async def _flood(store: Store, client: str, number: int) -> None:
    await add_tasks(store, *(a_task(f"{client}{n:03}", client=client, created_at=NOW - SECOND) for n in range(number)))


async def test_clients_take_turns(store: Store) -> None:
    """One claim takes one task of each client before a second one of any, the oldest first."""
    await _flood(store, "anna", 9)
    await _flood(store, "bob", 2)
    await _flood(store, "cleo", 1)
    claimed = await claim_submissions(store, limit=8)
    assert [task.id for task in claimed] == [
        "anna000",
        "bob000",
        "cleo000",
        "anna001",
        "bob001",
        "anna002",
        "anna003",
        "anna004",
    ]


@pytest.mark.parametrize("limits", [Limits(), Limits(max_in_flight=100, budget=1000.0)])
async def test_client_with_one_task_is_next(store: Store, open_another: OpenStore, limits: Limits) -> None:
    """Claims of one task each, by two processes, still take turns: a flood of one client delays no other."""
    await _flood(store, "anna", 20)
    stores = [store, open_another()]
    assert [task.id for task in await claim_submissions(store, limit=3, limits=limits)] == [
        "anna000",
        "anna001",
        "anna002",
    ]
    await add_tasks(store, a_task("bob0", client="bob"), a_task("cleo0", client="cleo"), a_task("cleo1", client="cleo"))
    order = [
        (await claim_submissions(stores[n % 2], now=NOW + n * SECOND, limit=1, limits=limits))[0].client
        for n in range(6)
    ]
    assert order[:5] == ["bob", "cleo", "anna", "cleo", "anna"]


async def test_nothing_is_counted_while_nothing_waits(store: Store) -> None:
    """A worker claims twice a second: the costs of a day are summed only if a task is due, for other writers wait."""
    await add_tasks(store, in_progress("t1"), a_task("later", due_at=NOW + MINUTE))
    limits = Limits(max_in_flight=9, budget=100.0, client_rate=ClientLimit(default=9))
    with emitted(store) as statements:
        assert await claim_submissions(store, limits=limits) == []
    assert not [each.sql for each in statements if "sum(" in each.sql or "count(" in each.sql]


async def test_turn_survives_a_clock_that_goes_back(store: Store) -> None:
    """Turns are counted and not timed: a client served at a later time is not put behind for an hour."""
    await _flood(store, "anna", 5)
    await _flood(store, "bob", 5)
    later = [task.client for task in await claim_submissions(store, now=NOW + 60 * MINUTE, limit=1)]
    earlier = [(await claim_submissions(store, limit=1))[0].client for _ in range(4)]
    assert Counter(later + earlier[:3]) == {"anna": 2, "bob": 2}


async def test_claim_reads_no_queue_of_a_waiting_client(store: Store) -> None:
    """The number of statements does not grow with the tasks of a client, nor with the clients that get no turn."""
    await _flood(store, "anna", 30)
    await add_tasks(store, *(a_task(f"c{n}", client=f"c{n}") for n in range(20)))
    with emitted(store) as statements:
        await claim_submissions(store, limit=4)
    assert len(statements) <= 6


async def test_tasks_past_their_deadline_hold_up_no_other(store: Store) -> None:
    """While the clock is doubted they wait and do not expire: newer tasks of the client are submitted meanwhile."""
    old = [a_task(f"old{n:03}", created_at=NOW - HOUR, due_at=NOW - HOUR, deadline_at=NOW) for n in range(OVERDUE)]
    await asyncio.gather(*(store.intake.add(task, [], None) for task in old))
    await add_tasks(store, a_task("new0"), a_task("new1"))
    assert [task.id for task in await claim_submissions(store, limit=1)] == ["new0"]
    assert [task.id for task in await claim_submissions(store)] == ["new1"]


async def test_in_flight_limit_of_a_client(store: Store) -> None:
    """A client at its limit waits, the others go on; an exception raises or removes the limit of one client."""
    await add_tasks(store, in_progress("a0"), in_progress("b0", client="bob", status=Status.IN_DOUBT))
    for client in ("anna", "bob", "cleo"):
        await _flood(store, client, 4)
    limits = Limits(client_max_in_flight=ClientLimit(default=2, exceptions={"bob": 3, "cleo": None}))
    claimed = Counter(task.client for task in await claim_submissions(store, limits=limits))
    assert claimed == {"anna": 1, "bob": 2, "cleo": 4}
    assert await claim_submissions(store, limits=limits) == []
    assert await store.tasks.limit_reached(now=NOW, limits=limits) == "client_max_in_flight"


async def test_rate_of_a_client(store: Store) -> None:
    """A client waits once it has had its submissions of a minute; what was not sent does not count."""
    await add_tasks(
        store,
        in_progress("old", submitted_at=NOW - MINUTE),
        in_progress("new", submitted_at=NOW - MINUTE + SECOND),
        a_task("unsent", submitted_at=NOW, tries=1, due_at=NOW + MINUTE),
    )
    await _flood(store, "anna", 5)
    await _flood(store, "bob", 1)
    limits = Limits(client_rate=ClientLimit(default=2))
    assert Counter(task.client for task in await claim_submissions(store, limits=limits)) == {"anna": 1, "bob": 1}
    assert await claim_submissions(store, limits=limits) == []
    later = await claim_submissions(store, now=NOW + SECOND, limits=limits)
    assert [task.client for task in later] == ["anna"]


async def test_rate_ignores_submissions_of_a_clock_that_went_back(store: Store) -> None:
    """Submissions with a time far ahead do not stop their client until then."""
    await add_tasks(store, in_progress("ahead", submitted_at=NOW + 60 * MINUTE), a_task("t1"))
    limits = Limits(client_rate=ClientLimit(default=1))
    assert [task.id for task in await claim_submissions(store, limits=limits)] == ["t1"]


@pytest.mark.parametrize(
    ("limits", "reached"),
    [
        (Limits(max_in_flight=1), "max_in_flight"),
        (Limits(max_in_flight=9, budget=0.5), "budget"),
        (Limits(max_in_flight=9, budget=5.0), None),
        (Limits(), None),
    ],
)
async def test_reached_limit_is_named(store: Store, limits: Limits, reached: str | None) -> None:
    """The limit that due tasks wait for is returned, None once no task is due."""
    await add_tasks(store, in_progress("running", usage=Usage(cost="0.50")), a_task("due"))
    assert await store.tasks.limit_reached(now=NOW, limits=limits) == reached
    await claim_submissions(store)
    assert await store.tasks.limit_reached(now=NOW, limits=limits) is None


LIMITS_OF_FIVE = {
    "max_in_flight": Limits(max_in_flight=5),
    "budget": Limits(budget=5.2, budget_each=1.0),
    "client_max_in_flight": Limits(client_max_in_flight=ClientLimit(default=5)),
    "client_budget": Limits(client_budget=ClientLimit(default=5.2)),
    "client_rate": Limits(client_rate=ClientLimit(default=5)),
}


@pytest.mark.parametrize("name", LIMITS_OF_FIVE)
async def test_limit_holds_over_processes(
    store: Store, open_another: OpenStore, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A second process that claims while the first one has counted, and not committed, waits and counts again."""
    await _flood(store, "anna", 30)
    other, counted, first_done, counts = open_another(), asyncio.Event(), asyncio.Event(), []

    async def counting(*args: Any) -> LimitUsage:
        used = await count_usage(*args)
        counts.append(used)
        if len(counts) == 1:
            with suppress(TimeoutError):
                await asyncio.wait_for(counted.wait(), PAUSE)
        else:
            counted.set()
            await first_done.wait()
        return used

    monkeypatch.setattr(task_queue, "count_usage", counting)
    claims = [asyncio.create_task(claim_submissions(each, limits=LIMITS_OF_FIVE[name])) for each in (store, other)]
    await asyncio.wait(claims, return_when=asyncio.FIRST_COMPLETED)
    first_done.set()
    assert sum([len(await claim) for claim in claims]) == 5


async def test_rate_counts_submissions_of_a_process_whose_clock_is_ahead(store: Store) -> None:
    """Half a minute ahead they count; an hour ahead is a clock that went back, and stops nobody."""
    limits = Limits(client_rate=ClientLimit(default=1))
    for ahead, claimed in ((30 * SECOND, []), (60 * MINUTE, ["bob"])):
        client = "anna" if not claimed else "bob"
        await add_tasks(store, in_progress(f"{client}1", client=client, submitted_at=NOW + ahead))
        await add_tasks(store, a_task(f"{client}2", client=client))
        assert [task.client for task in await claim_submissions(store, limits=limits)] == claimed
