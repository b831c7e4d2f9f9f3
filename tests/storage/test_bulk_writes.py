"""Bulk inserts and updates store the given values, on both databases."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task import Status, Task, TaskError, TaskId, Usage
from service.storage import Store
from service.storage.bulk_writes import insert_many, update_many
from service.storage.tables import inbox
from tests.storage.builders import HOUR, NOW, SECOND, a_task, an_entry
from tests.support.history import history_of

SHARED = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)


async def stored_unread(store: Store) -> list[InboxEntry]:
    """Return the unread callbacks, oldest first."""
    async with store.units_of_work.transaction() as transaction:
        return await transaction.unread(1000, now=NOW)


@pytest.mark.parametrize("nonces", [(None, None), ("n1", None), ("n1", "n2")])
async def test_null_values_stay_null(store: Store, nonces: Sequence[str | None]) -> None:
    """A column may be NULL in some rows, or in all of them."""
    entries = [
        an_entry(f"d{number}", nonce=nonce, verdict="unread", received_at=NOW + number * SECOND)
        for number, nonce in enumerate(nonces)
    ]
    await store.inbox.store_unread(entries)
    assert await stored_unread(store) == entries


async def test_no_rows_send_no_statement(store: Store) -> None:
    """Empty lists of rows are accepted."""
    async with store._database.writing() as write:
        await insert_many(write.connection, inbox, [])
        await update_many(write.connection, inbox, [])


@SHARED
@given(st.binary(max_size=300), st.dictionaries(st.text(max_size=20), st.text(max_size=20), max_size=3))
async def test_any_bytes_and_texts_are_stored(store: Store, body: bytes, headers: dict[str, str]) -> None:
    """NUL, quotes, backslashes, braces and lone surrogates do not break the encoding of a row."""
    async with store._database.writing() as write:
        await write.connection.execute(inbox.delete())
    entry = an_entry("d'\"\\{},NULL", body=body, headers=headers, verdict="unread")
    await store.inbox.store_unread([entry])
    assert await stored_unread(store) == [entry]


async def test_same_columns_of_many_tasks_are_saved_together(store: Store) -> None:
    """Each task gets its own values: statuses, times, JSON and NULL."""
    tasks = [a_task(f"t{number}") for number in range(5)]
    for task in tasks:
        await store.intake.add(task, [], None)
    changed = [_ended(task, number) for number, task in enumerate(tasks)]
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([task.id for task in tasks])
        await transaction.save(changed)
    assert [await store.queries.task(TaskId(f"t{number}")) for number in range(5)] == changed


@pytest.mark.parametrize("count", [1, 2, 31, 32, 33, 75, 201])
async def test_each_row_is_written_once(store: Store, count: int) -> None:
    """Rows that share a statement are not lost, duplicated or mixed up, whatever their number."""
    entries = [
        an_entry(f"d{number}", body=b"%d" % number, verdict="unread", received_at=NOW + number * SECOND)
        for number in range(count)
    ]
    await store.inbox.store_unread(entries)
    assert await stored_unread(store) == entries
    async with store.units_of_work.transaction() as transaction:
        await transaction.read([replace(one, verdict=f"v{number}") for number, one in enumerate(entries)])
    actual = (await store.health.gauges(NOW)).callbacks
    assert actual == {f"v{number}": 1 for number in range(count)}


def _ended(task: Task, number: int) -> Task:
    return replace(
        task,
        status=Status.FAILED,
        error=TaskError(code=f"c{number}", message="it's \\ {gone}, NULL"),
        usage=Usage(cost=f"0.{number}"),
        output=({"url": f"https://example.org/{number}"},) * number,
        settled_at=None if number == 2 else NOW + number * HOUR,
        due_at=None,
        fence=number,
    )


async def test_other_rows_and_columns_do_not_change(store: Store) -> None:
    """An update changes only the rows and columns that it names."""
    await store.inbox.store_unread([an_entry("d1", verdict="unread"), an_entry("d2", verdict="unread")])
    async with store.units_of_work.transaction() as transaction:
        await transaction.read([an_entry("d1", verdict="accepted", body=b"another"), an_entry("d9")])
    assert [entry.digest for entry in await stored_unread(store)] == ["d2"]
    history = await history_of(store.queries, "t1")
    assert sorted(row["verdict"] for row in history) == ["accepted", "unread"]
