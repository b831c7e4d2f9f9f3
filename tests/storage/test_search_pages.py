"""Pages of a search while its tasks are submitted, which changes their places: none is missed."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from service.domain.ports.tasks import TaskFilter
from service.domain.search import search_terms
from service.domain.task import Task, TaskId
from service.domain.task_view import task_json
from service.storage import Store
from tests.storage.builders import NOW, SECOND, a_task, add_tasks, an_event

FOO = {"prompt": "foo"}
WANTED = TaskFilter(terms=search_terms("foo", None), exact="foo")


async def submit(store: Store, *tasks: Task) -> None:
    """Append the first events of tasks."""
    rows = [an_event(f"e-{task.id}", task_id=task.id, data=task_json(task)) for task in tasks]
    async with store.units_of_work.transaction() as transaction:
        await transaction.append(rows, [])


async def read_words(store: Store) -> None:
    """Read the words of all tasks with an event."""
    while await store.search_index.advance():
        pass


async def add_waiting(store: Store) -> dict[TaskId, Task]:
    """Store an old task that was submitted, five of one client that wait, and a newer one of another client."""
    names = ("old", "b1", "b2", "b3", "b4", "b5", "a1")
    new = [
        a_task(name, client=name[0], params=FOO, created_at=NOW + number * SECOND) for number, name in enumerate(names)
    ]
    await add_tasks(store, *new)
    await submit(store, new[0])
    await read_words(store)
    return {task.id: task for task in new}


async def next_page(store: Store, cursor: str | None, limit: int) -> tuple[Sequence[Task], str | None]:
    """Return a page, and where to continue; None at the end."""
    window = await store.queries.window(replace(WANTED, limit=limit, cursor=cursor))
    last = window.tasks[-1].id if len(window.tasks) == limit else None
    return window.tasks, window.after or (last and window.cursors.get(last, last))


@pytest.mark.parametrize("words_are_read", [False, True], ids=["unread", "read"])
async def test_task_that_is_submitted_between_two_pages_hides_no_other(store: Store, words_are_read: bool) -> None:
    """Older ones that still wait come after it, although it has an event by now, which others get before them."""
    new = await add_waiting(store)
    first, cursor = await next_page(store, None, 1)
    assert [task.id for task in first] == ["a1"]
    await submit(store, new[TaskId("a1")])
    if words_are_read:
        await read_words(store)
    second, cursor = await next_page(store, cursor, 10)
    assert ([task.id for task in second], cursor) == (["b5", "b4", "b3", "b2", "b1", "old"], None)


@pytest.mark.parametrize("limit", [1, 2, 3])
async def test_tasks_that_are_submitted_during_a_search_are_all_found(store: Store, limit: int) -> None:
    """Each is listed, whenever it was submitted; twice at most, and only if it was submitted during the search."""
    new = await add_waiting(store)
    submitted = ["a1", "b2", "b5", "b4"]
    listed: list[str] = []
    cursor, pages = None, 0
    while pages == 0 or cursor:
        page, cursor = await next_page(store, cursor, limit)
        listed += [task.id for task in page]
        if pages < len(submitted):
            await submit(store, new[TaskId(submitted[pages])])
        if pages % 2:
            await read_words(store)
        pages += 1
    assert set(listed) == set(new)
    assert {name for name in listed if listed.count(name) > 1} <= set(submitted)
    assert max(listed.count(name) for name in listed) <= 2


async def test_position_without_an_event_is_one_of_any_list(store: Store) -> None:
    """A list without words continues after the same task, and an unknown task has nothing after it."""
    await add_waiting(store)
    _, cursor = await next_page(store, None, 3)
    assert cursor is not None
    window = await store.queries.window(TaskFilter(cursor=cursor))
    assert [task.id for task in window.tasks] == ["b3", "b2", "b1", "old"]
    unknown = replace(WANTED, cursor=cursor.replace("b4", "b0"))
    assert not (await store.queries.window(unknown)).tasks
