"""Parts of a task's history: no entry twice or left out, and none read beyond the part."""

from datetime import timedelta
from itertools import pairwise

import pytest
from sqlalchemy import delete, insert

from service.domain.history_position import HistoryEntry, HistoryKind, HistoryPosition, order, parse_position
from service.domain.ports.unit_of_work import PollRow
from service.domain.task import TaskId
from service.storage import Store
from service.storage.bulk_writes import insert_many
from service.storage.delivery_tables import attempts
from service.storage.tables import inbox, refused_callbacks, task_waits
from tests.storage.builders import NOW, SECOND, a_task, add_callbacks, add_deliveries, add_tasks, an_entry
from tests.storage.emitted import emitted

T1 = TaskId("t1")
EVENTS, HANDLERS = 5, ("h1", "h2")
EACH = 2 * EVENTS * len(HANDLERS)


async def _fill(store: Store) -> None:
    """Store entries of each kind at three times a microsecond apart, and others of another task."""
    for task_id in ("t1", "t2"):
        events = [f"{task_id}e{n}" for n in range(EVENTS)]
        await add_tasks(store, a_task(task_id, created_at=NOW))
        await add_deliveries(store, *HANDLERS, events=events, task_id=task_id)
        times = [NOW + timedelta(microseconds=n % 3) for n in range(EVENTS)]
        await add_callbacks(
            store, *(an_entry(f"{task_id}d{n}", task_id=task_id, received_at=at) for n, at in enumerate(times))
        )
        async with store.units_of_work.transaction() as transaction:
            await transaction.add_polls([PollRow(task_id=TaskId(task_id), at=at, outcome="queued") for at in times])
        tried = [
            {"delivery_id": f"{event}-{handler}", "number": n, "started_at": times[n]}
            for event in events
            for handler in HANDLERS
            for n in (1, 2)
        ]
        for each in tried:
            each |= {"handler": "log", "finished_at": NOW, "outcome": "retry"}
        waits = [{"task_id": task_id, "reason": f"r{n}", "count": 1, "first_at": at} for n, at in enumerate(times)]
        async with store._database.writing() as write:
            await insert_many(write.connection, attempts, tried)
            for table, extra in ((task_waits, {}), (refused_callbacks, {"submission": 1})):
                await write.connection.execute(insert(table), [each | extra | {"last_at": NOW} for each in waits])


async def _parts(store: Store, size: int) -> list[HistoryEntry]:
    """Return the history in parts of `size`; each goes on at the position that a cursor would have."""
    found: list[HistoryEntry] = []
    after: HistoryPosition | None = None
    while part := await store.queries.history(T1, after=after, limit=size):
        assert len(part) <= size
        found += part
        after = parse_position(str(part[-1].position))
        assert after == part[-1].position
    return found


@pytest.mark.parametrize("size", [1, 4, 1000])
async def test_parts_have_each_entry_once(store: Store, size: int) -> None:
    """Whatever the size of a part, the history has all entries of the task, in one order, also those of one moment."""
    await _fill(store)
    found = await _parts(store, size)
    kinds = [entry.row["kind"] for entry in found]
    counts = {kind: kinds.count(kind) for kind in set(kinds)}
    assert counts == {
        "created": 1,
        "wait": EVENTS,
        "event": EVENTS,
        "callback": 2 * EVENTS,
        "poll": EVENTS,
        "delivery": EVENTS * len(HANDLERS),
        "attempt": EACH,
    }
    assert all(order(first.position) <= order(second.position) for first, second in pairwise(found))
    assert len({str(entry.position) for entry in found}) == len(found)
    assert [entry.row for entry in found] == [entry.row for entry in await _parts(store, 7)]
    assert not {name for entry in found for name in entry.row if name.startswith("key")}


async def test_entries_behind_a_position_stay(store: Store) -> None:
    """What is added later comes after it, although a callback before it is deleted by its age."""
    await _fill(store)
    first = await store.queries.history(T1, limit=30)
    rest = await store.queries.history(T1, after=first[-1].position, limit=1000)
    async with store.units_of_work.transaction() as transaction:
        await transaction.add_polls([PollRow(task_id=T1, at=NOW + SECOND, outcome="running")])
    digest = next(entry.position.key for entry in first if entry.position.kind is HistoryKind.CALLBACK)
    async with store._database.writing() as write:
        await write.connection.execute(delete(inbox).where(inbox.c.digest == digest))
    again = await store.queries.history(T1, after=first[-1].position, limit=1000)
    assert [entry.row for entry in again[:-1]] == [entry.row for entry in rest]
    assert again[-1].row["outcome"] == "running"


async def test_a_part_reads_no_more_rows_than_it_has_entries(store: Store) -> None:
    """Each statement has a limit, so that a long history is never read as a whole."""
    await _fill(store)
    with emitted(store) as statements:
        part = await store.queries.history(T1, limit=3)
        await store.queries.history(T1, after=part[-1].position, limit=3)
    assert len(statements) == 16
    assert [one.sql for one in statements if "LIMIT" not in one.sql] == []
