"""Query plans: the frequent statements use an index that fits, on both databases."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.domain.history_position import HistoryKind, HistoryPosition
from service.domain.ports.deliveries import DeliverySelection
from service.domain.ports.queues import HandlerCapacity
from service.domain.ports.replays import ReplayFilter
from service.domain.ports.tasks import TaskFilter
from service.domain.search import search_terms
from service.domain.submission_limits import ClientLimit, Limits
from service.domain.task import Status, TaskId
from service.storage import Store, open_store
from service.storage.blob_store import delete_unreferenced
from service.storage.tables import metadata
from tests.storage.builders import (
    NOW,
    SECOND,
    a_blob,
    a_task,
    add_deliveries,
    add_tasks,
    an_attempt,
    claim_deliveries,
    claim_polls,
    claim_submissions,
    in_progress,
    stored,
)
from tests.storage.emitted import Statement, emitted, query_plan
from tests.support.grown_tables import grow
from tests.support.history import history_of
from tests.support.postgres import create_database, drop_database

Act = Callable[[Store], Awaitable[object]]


async def _finish(store: Store) -> None:
    await store.deliveries.finish([an_attempt(claim) for claim in await claim_deliveries(store, limit=3)])


async def _claim_past_the_served(store: Store) -> None:
    capacity = HandlerCapacity(names=("webhook",), slots=5, held={"anna": 5})
    await store.deliveries.claim([capacity], now=NOW, until=NOW)


async def _renew(store: Store) -> None:
    await store.tasks.renew({task.id: task.fence for task in await claim_polls(store)}, until=NOW)


async def _lock(store: Store) -> None:
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([TaskId("t1"), TaskId("t2")])


async def _count_usage(store: Store) -> None:
    await store.tasks.limit_usage(now=NOW, limits=ALL_LIMITS, buckets=["new"])


ALL_LIMITS = Limits(
    budget=9.0,
    client_max_in_flight=ClientLimit(default=5),
    client_rate=ClientLimit(default=5),
    client_budget=ClientLimit(default=5),
)


async def _add_large(store: Store) -> None:
    await store.intake.add(a_task("large", client="c3"), [a_blob(data=bytes(5000))], None)


async def _delete_references(store: Store) -> None:
    async with store._database.writing() as write:
        await delete_unreferenced(write.connection, [a_blob(data=b"picture 1").sha256])


def _searched(text: str) -> TaskFilter:
    return TaskFilter(exact=text, terms=search_terms(text, None))


def _page(**wanted: Any) -> Act:
    return lambda store: store.queries.window(TaskFilter(**wanted))


def _deliveries(**wanted: Any) -> Act:
    return lambda store: store.queries.deliveries(DeliverySelection(**wanted))


async def _erase(store: Store) -> None:
    await add_tasks(store, a_task("ended", status=Status.COMPLETED, due_at=None))
    await add_deliveries(store, "log", events=["of ended"], task_id="ended")
    await store.eraser.erase(await stored(store, "ended"), now=NOW)


async def _search_unread(store: Store) -> None:
    await add_deliveries(store, "log", events=["unread"], task_id="i5")
    await store.queries.window(_searched("cat"))


MANY_WORDS = "a cat that throws a boomerang " + " ".join(f"word{number}" for number in range(20))

SETTLED = 3000
"""Settled tasks: most tasks are, and PostgreSQL chooses an index by that."""

DEAD = ReplayFilter(statuses=frozenset({"dead"}), handler="log")
DEAD_OF_TASK = ReplayFilter(statuses=frozenset({"dead"}), task_id=TaskId("t1"))
POSITION = HistoryPosition(at=NOW, kind=HistoryKind.POLL, key="7")
PENDING = ReplayFilter(statuses=frozenset({"pending"}))

HEALTH = [NOW - SECOND, NOW, NOW + SECOND]

FREQUENT: dict[str, tuple[Act, set[str]]] = {  # each with the indexes that it uses, `|` between two that both fit
    "claim submissions": (lambda store: claim_submissions(store, limit=35), {"tasks_queued_by_client"}),
    "count in flight": (lambda store: claim_submissions(store, limits=Limits(max_in_flight=5)), {"tasks_at_provider"}),
    "budget": (lambda store: store.tasks.spent_today(NOW, budget_each=1.0), {"tasks_submissions"}),
    "client limits": (_count_usage, {"tasks_submissions", "tasks_at_provider", "tasks_costs"}),
    "claim polls": (claim_polls, {"tasks_queued_deadline", "tasks_polled"}),
    "sweep": (lambda store: store.tasks.sweep(now=NOW), {"tasks_submitting"}),
    "claim deliveries": (claim_deliveries, {"deliveries_due", "deliveries_pending_of_task"}),
    "claim past the served": (_claim_past_the_served, {"deliveries_due", "deliveries_pending_of_task"}),
    "finish": (_finish, {"deliveries_pending_of_task"}),
    "lock": (_lock, set()),
    "renew": (_renew, set()),
    "list a client's": (lambda store: store.queries.tasks(TaskFilter(client="c3", cursor="t93")), {"tasks_by_client"}),
    "list all": (lambda store: store.queries.tasks(TaskFilter(cursor="t1")), {"tasks_newest"}),
    "list a client's oldest": (
        lambda store: store.queries.tasks(TaskFilter(client="c3", cursor="t93", oldest_first=True)),
        {"tasks_by_client"},
    ),
    "repeated create": (
        lambda store: store.queries.newest_with_key("c3", "\x1fvideos/", NOW - SECOND),
        {"tasks_by_client"},
    ),
    "dead letters": (
        lambda store: store.queries.deliveries(DeliverySelection(status="dead", limit=5, cursor="x")),
        {"deliveries_dead"},
    ),
    "bulk replay": (
        lambda store: store.replays.matching(DEAD, after="e1a-log", limit=5),
        {"deliveries_dead"},
    ),
    "replay at": (
        lambda store: store.replays.replay_at({"e1a-log": NOW}, PENDING, now=NOW),
        set(),
    ),
    "history": (
        lambda store: history_of(store.queries, "t1"),
        {"events_by_task", "inbox_by_task", "polls_by_task"},
    ),
    "rest of a history": (
        lambda store: store.queries.history(TaskId("t1"), after=POSITION, limit=9),
        {"events_by_task", "inbox_by_task|inbox_times", "polls_by_task", "deliveries_by_task"},
    ),
    "dead letters of a task": (
        lambda store: store.replays.matching(DEAD_OF_TASK, after="e1a-log", limit=5),
        {"deliveries_by_task"},
    ),
    "newest history": (
        lambda store: store.delivery_details.task_history(TaskId("t1"), limit=500, with_delivery="e1a-log"),
        {"events_by_task", "inbox_by_task", "polls_by_task"},
    ),
    "load inputs": (lambda store: store.blobs.load(TaskId("t1")), set()),
    "queue of a client": (_add_large, {"tasks_open_bytes"}),
    "prune references": (_delete_references, {"input_references_by_sha256"}),
    "dead letters of a client": (
        lambda store: store.queries.deliveries(
            DeliverySelection(client="c3", status="dead", handler="log", limit=5, cursor="x")
        ),
        {"deliveries_dead_by_client"},
    ),
    "attention": (
        lambda store: store.overview.attention(None, since=NOW),
        {"tasks_open", "tasks_at_provider", "tasks_without_result_newest"},
    ),
    "attention of a client": (
        lambda store: store.overview.attention("c3", since=NOW),
        {"tasks_open", "tasks_at_provider", "tasks_queued_by_client", "deliveries_dead_by_client"},
    ),
    "oldest unread": (lambda store: store.inbox.unread_since(), {"inbox_unread"}),
    "samples of tasks": (lambda store: store.health_samples.tasks(HEALTH, client=None), {"tasks_newest"}),
    "samples of a client": (lambda store: store.health_samples.tasks(HEALTH, client="c3"), {"tasks_by_client"}),
    "samples of deliveries": (
        lambda store: store.health_samples.deliveries(HEALTH, client=None),
        {"deliveries_newest"},
    ),
    "spend": (
        lambda store: store.health_samples.spend([NOW.date()], NOW, client=None),
        {"tasks_submissions"},
    ),
    "last attempts": (lambda store: store.delivery_details.details(["e1a-log", "e2a-log"]), set()),
    "contents of deliveries": (lambda store: store.delivery_details.contents(["e1a-log", "e2a-log"]), set()),
    "search words": (
        lambda store: store.queries.window(_searched("cat surfs")),
        {"tasks_queued|tasks_open", "tasks_submitting"},
    ),
    "search metadata": (lambda store: store.queries.window(_searched("metadata.chat=42")), set()),
    "search ids": (lambda store: store.queries.window(_searched("p3")), {"tasks_by_upstream_id"}),
    "count ids": (lambda store: store.queries.status_counts(_searched("p3")), {"tasks_by_upstream_id"}),
    "search unread events": (_search_unread, {"events_by_task"}),
    "list by status": (_page(statuses=frozenset({"failed", "expired"}), cursor="t1"), {"tasks_unsuccessful"}),
    "list a client's by status": (_page(client="c3", statuses=frozenset({"failed"})), {"tasks_unsuccessful_by_client"}),
    "list at the provider": (_page(statuses=frozenset({"in_progress"})), {"tasks_at_provider"}),
    "list a client's at the provider": (_page(client="c3", statuses=frozenset({"in_doubt"})), {"tasks_at_provider"}),
    "list queued": (_page(statuses=frozenset({"queued"})), {"tasks_queued|tasks_open"}),
    "list a client's queued": (_page(client="c3", statuses=frozenset({"queued"})), {"tasks_queued_by_client"}),
    "list completed": (_page(statuses=frozenset({"completed"})), {"tasks_newest"}),
    "list paid without result": (_page(without_result=True), {"tasks_without_result_newest"}),
    "list a client's paid without result": (_page(client="c3", without_result=True), {"tasks_without_result"}),
    "list by model": (_page(model="other", since=NOW), {"tasks_newest"}),
    "list a client's by model": (_page(client="c3", model="other", cursor="t93"), {"tasks_by_client"}),
    "search a client's": (
        lambda store: store.queries.window(replace(_searched("cat surfs"), client="c3", model="m", since=NOW)),
        {"tasks_queued_by_client", "tasks_submitting"},
    ),
    "search a client's further": (
        lambda store: store.queries.window(replace(_searched("cat"), client="c3", cursor="i33", until=NOW + SECOND)),
        {"tasks_queued_by_client", "tasks_submitting"},
    ),
    "count by words": (lambda store: store.queries.status_counts(replace(_searched("cat"), client="c3")), set()),
    "count by many words": (lambda store: store.queries.status_counts(_searched(MANY_WORDS)), set()),
    "count by status": (
        lambda store: store.queries.status_counts(TaskFilter()),
        {"tasks_queued|tasks_open", "tasks_at_provider", "tasks_unsuccessful", "tasks_newest"},
    ),
    "count a client's": (
        lambda store: store.queries.status_counts(TaskFilter(client="c3", model="other")),
        {"tasks_queued_by_client", "tasks_at_provider", "tasks_unsuccessful_by_client", "tasks_by_client"},
    ),
    "list deliveries": (_deliveries(handler="log"), {"deliveries_newest"}),
    "list delivered": (_deliveries(status="delivered", cursor="e1a-log"), {"deliveries_newest"}),
    "list a client's deliveries": (_deliveries(client="c3", status="delivered"), {"deliveries_by_client"}),
    "list pending": (_deliveries(status="pending", client="c3", handler="log"), set()),
    "list dead letters by fault": (
        _deliveries(status="dead", fault="ours", client="c3", handler="log"),
        {"deliveries_dead_by_fault"},
    ),
    "follow events": (lambda store: store.events.after(7), set()),
    "follow a client's events": (lambda store: store.events.after(7, client="rare"), {"events_by_client"}),
    "follow a task's events": (lambda store: store.events.after(0, task_id=TaskId("t1")), {"events_by_task"}),
    "usage of a day": (lambda store: store.usage.of_day(NOW.date(), client="c3"), {"tasks_submissions"}),
    "next day of usage": (lambda store: store.usage.first_day(NOW.date(), NOW.date()), {"tasks_submissions"}),
    "words of tasks": (lambda store: store.search_index.advance(), {"events_by_task", "deliveries_by_task"}),
    "estimates": (lambda store: store.run_time_stats.run_times(per_bucket=200), {"run_times_by_bucket"}),
    "erase": (_erase, {"events_by_task", "inbox_by_task", "deliveries_by_task"}),
}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of a filled database of each kind, to copy."""
    if request.param == "sqlite":
        path = tmp_path_factory.mktemp("filled") / "template.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        asyncio.run(_fill(f"sqlite:///{path}"))
        yield f"sqlite:///{path}"
        return
    server = request.getfixturevalue("postgres")
    url = create_database(server.base_url, template=server.template)
    asyncio.run(_fill(url))
    yield url
    drop_database(server.base_url, url)


@pytest.fixture
async def filled(filled_url: str, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Yield a store over a copy of the filled database."""
    if filled_url.startswith("sqlite"):
        async with open_store(f"sqlite:///{shutil.copy(filled_url.removeprefix('sqlite:///'), tmp_path)}") as store:
            yield store
        return
    base_url = request.getfixturevalue("postgres").base_url
    url = create_database(base_url, template=filled_url)
    async with open_store(url) as store:
        yield store
    drop_database(base_url, url)


async def _fill(url: str) -> None:
    """Insert enough rows that an index pays off, and collect statistics on PostgreSQL."""
    async with open_store(url) as store:
        await grow(store, SETTLED, handler="log", over=timedelta(days=1), at=NOW, varied=True)
        await add_tasks(store, *(a_task(f"t{n}", client=f"c{n % 30}") for n in range(300)))
        await add_tasks(store, *(in_progress(f"p{n}") for n in range(9)))
        pictures = [a_blob(data=f"picture {number}".encode()) for number in range(60)]
        with_pictures = [(a_task(f"i{n}", client=f"c{n % 30}"), [picture]) for n, picture in enumerate(pictures)]
        await asyncio.gather(*(store.intake.add(task, blobs, None) for task, blobs in with_pictures))
        for number in range(100):
            await add_deliveries(store, "log", "webhook", events=[f"e{number}a", f"e{number}b"], task_id=f"t{number}")
        async with store._database.writing() as write:
            if (
                store._database.address.postgres
            ):  # SQLite must choose well without statistics, since production has none
                await write.connection.exec_driver_sql("ANALYZE")


@pytest.mark.parametrize("name", FREQUENT)
async def test_frequent_statement_uses_its_index(filled: Store, name: str) -> None:
    """No statement scans a whole table, the index is the one made for it, and claims need no sort."""
    act, wanted = FREQUENT[name]
    with emitted(filled) as statements:
        await act(filled)
    found = [(one, await query_plan(filled, one)) for one in statements if not one.sql.startswith("INSERT")]
    assert found
    for one, text in found:
        assert not _scans(text), f"{one.sql}\n{text}"
        assert not sorts_a_table(one, text), f"{one.sql}\n{text}"
        assert not (_claims(one) and _sorts(text)), f"{one.sql}\n{text}"
    actual = " ".join(text for _, text in found)
    used = f"{actual} ".replace("\n", " ")
    assert {each for each in wanted if not any(f"{name} " in used for name in each.split("|"))} == set(), actual


def _scans(text: str) -> bool:
    """Return whether a query plan reads a whole table; a scan of a partial index in its order is intended."""
    lines = [line for line in text.splitlines() if line.startswith("SCAN") and " INDEX " not in line]
    small = (
        "SCAN CONSTANT",
        "SCAN anon",
        "SCAN new",
        "SCAN waiting",
        "SCAN known",
        "SCAN oldest",
        "SCAN earliest_due",
    )
    return "Seq Scan" in text or any(not line.startswith(small) for line in lines)


WHOLE = ("tasks", "inbox", "events", "deliveries", "attempts", "run_times", "polls")
"""The tables that have all tasks, or several rows for each."""

PARTIAL = {
    each.name
    for table in metadata.tables.values()
    for each in table.indexes
    if each.dialect_options["sqlite"]["where"] is not None
}


def sorts_a_table(statement: Statement, text: str) -> bool:
    """Return whether SQLite reads a whole table to sort or group it, which it does in memory.

    A partial index has few rows, and so has a query with a limit, whose order is checked elsewhere.
    """
    scans = [line.split() for line in text.splitlines() if line.startswith("SCAN ")]
    whole = [line for line in scans if line[1] in WHOLE and PARTIAL.isdisjoint(line)]
    return bool(whole) and "TEMP B-TREE" in text and "LIMIT" not in statement.sql


def _sorts(text: str) -> bool:
    return "TEMP B-TREE FOR ORDER BY" in text or "Sort" in text


def _claims(statement: Statement) -> bool:
    return "LIMIT" in statement.sql and "leased_until" in statement.sql and statement.sql.count("SELECT tasks.id,") == 0
