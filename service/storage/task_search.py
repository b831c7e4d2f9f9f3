"""Lists of tasks by filters, in bounded windows: a filter that few tasks pass does not read a whole table."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Select, func, literal, literal_column, null, select, tuple_

from service.domain.ports.search import StatusCount, TaskWindow
from service.domain.ports.tasks import TaskFilter
from service.domain.task import Task, TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import SafeText, UtcDateTime, in_list
from service.storage.search_tables import search_words
from service.storage.tables import WITHOUT_RESULT, events, tasks
from service.storage.task_rows import TASK_COLUMNS, task_from_row

WINDOW = 20_000
"""Entries of an index that one read of a list looks at."""

WORDS_WINDOW = 2000
"""Tasks with the rarest word that one read of a search looks at."""

MAX_OF_ID = 20
"""Tasks that one id of the provider may belong to: usually it is one."""

PROBE = 1000
"""Entries up to which it is counted how rare a word is."""

MAX_COUNT = 1000
"""Counts end here."""

EMPTY: dict[str, Any] = {"metadata": {}, "notify": (), "hinted_fact": None}
"""The values of fields that a list leaves out."""

NEWEST = (tasks.c.created_at.desc(), tasks.c.id.desc())
SEARCHED = frozenset({"notify", "hinted_fact"})
"""Fields that a search does not need."""


def columns_without(left_out: frozenset[str]) -> list[ColumnElement[Any]]:
    """Return the columns of a task, with NULL in place of those in `left_out`."""
    return [null().label(each.name) if each.name in left_out else each for each in TASK_COLUMNS]


def rows_to_tasks(rows: Sequence[Sequence[Any]], left_out: frozenset[str]) -> list[Task]:
    """Return the tasks of rows with `columns_without`."""
    empty = {name: value for name, value in EMPTY.items() if name in left_out}
    return [task_from_row(row, **empty) for row in rows]


def filtered(query: Select[Any], wanted: TaskFilter) -> Select[Any]:
    """Return `query` for the tasks that pass the filter; words and an id are left to the caller."""
    query = in_scope(query, wanted)
    for column in ("status", "model"):
        value = getattr(wanted, column)
        query = query if value is None else query.where(tasks.c[column] == value)
    query = query.where(tasks.c.status.in_(sorted(wanted.statuses))) if wanted.statuses else query
    return query.where(WITHOUT_RESULT, tasks.c.erased_at.is_(None)) if wanted.without_result else query


def in_scope(query: Select[Any], wanted: TaskFilter) -> Select[Any]:
    """Return `query` for the client and the times of the filter: a range of an index."""
    if wanted.client is not None:
        query = query.where(tasks.c.client == wanted.client)
    if wanted.since is not None:
        query = query.where(tasks.c.created_at >= wanted.since)
    return query if wanted.until is None else query.where(tasks.c.created_at < wanted.until)


async def read_window(connection: AsyncConnection, wanted: TaskFilter) -> TaskWindow:
    """Return the next tasks that pass the filter, at most its limit, and where to continue if that is not the end."""
    if wanted.exact is not None and wanted.cursor is None and (found := await _by_id(connection, wanted)):
        return TaskWindow(tasks=found)
    if numbers := await rarest_first(connection, wanted.terms.numbers()):
        return await _by_words(connection, wanted, numbers)
    if wanted.exact is not None:  # text without any word
        return TaskWindow(tasks=[])
    return await _listed(connection, wanted)


async def _by_id(connection: AsyncConnection, wanted: TaskFilter) -> list[Task]:
    """Return the tasks with this id; without an order, for which PostgreSQL would read the index of the list."""
    found: list[Task] = []
    for column in (tasks.c.id, tasks.c.upstream_id):
        query = filtered(select(*columns_without(wanted.without)), wanted).where(column == wanted.exact)
        rows = (await connection.execute(query.limit(MAX_OF_ID))).all()
        found += [task for task in rows_to_tasks(rows, wanted.without) if task.id not in {each.id for each in found}]
    return sorted(found, key=lambda task: task.created_at, reverse=True)[: wanted.limit]


async def _listed(connection: AsyncConnection, wanted: TaskFilter) -> TaskWindow:
    query = filtered(select(*columns_without(wanted.without)), wanted)
    within = in_scope(select(tasks.c.created_at, tasks.c.id), wanted)
    place = tuple_(tasks.c.created_at, tasks.c.id)
    if wanted.cursor is not None:
        position = select(tasks.c.created_at, tasks.c.id).where(tasks.c.id == wanted.cursor).scalar_subquery()
        query, within = query.where(place < position), within.where(place < position)
    last = None
    if wanted.is_selective:
        last = (await connection.execute(within.order_by(*NEWEST).offset(WINDOW - 1).limit(1))).first()
        if last is not None:
            query = query.where(place >= tuple_(literal(last[0], UtcDateTime), literal(last[1], SafeText)))
    rows = (await connection.execute(query.order_by(*NEWEST).limit(wanted.limit))).all()
    found = rows_to_tasks(rows, wanted.without)
    return TaskWindow(tasks=found, after=last.id if last is not None and len(found) < wanted.limit else None)


async def _by_words(connection: AsyncConnection, wanted: TaskFilter, numbers: Sequence[int]) -> TaskWindow:
    window = await _numbers_with(connection, numbers, wanted.cursor)
    by_number = await _task_ids(connection, await _with_all(connection, window, numbers[1:]))
    found: list[Task] = []
    passing = await _passing(connection, wanted, list(by_number.values()))
    ids = [task_id for task_id in by_number.values() if task_id in passing]
    for begin in range(0, len(ids), wanted.limit):
        part = ids[begin : begin + wanted.limit]
        query = select(*columns_without(SEARCHED)).where(in_list(tasks.c.id, "ids"))
        rows = (await connection.execute(query, {"ids": part})).all()
        loaded = {task.id: task for task in rows_to_tasks(rows, SEARCHED)}
        read = [loaded[task_id] for task_id in part if task_id in loaded]
        found += [task for task in read if wanted.terms.matches(task.params, task.metadata)]
        if len(found) >= wanted.limit:
            return TaskWindow(tasks=found[: wanted.limit])
    if len(window) < WORDS_WINDOW:
        return TaskWindow(tasks=found)
    [last] = (await _task_ids(connection, window[-1:])).values()
    return TaskWindow(tasks=found, after=last)


async def _numbers_with(connection: AsyncConnection, numbers: Sequence[int], cursor: str | None) -> list[int]:
    """Return the next numbers of tasks with the first of the words, the newest one first."""
    query = select(search_words.c.seq).where(search_words.c.word == numbers[0])
    if cursor is not None:
        first = select(func.min(events.c.seq)).where(events.c.task_id == cursor)
        query = query.where(search_words.c.seq < first.scalar_subquery())
    return list((await connection.scalars(query.order_by(search_words.c.seq.desc()).limit(WORDS_WINDOW))).all())


async def _with_all(connection: AsyncConnection, window: list[int], others: Sequence[int]) -> list[int]:
    """Return those of `window` that have all the other words too."""
    for word in others:
        having = select(search_words.c.seq).where(
            search_words.c.word == word, in_list(search_words.c.seq, "numbers", numbers=True)
        )
        kept = set((await connection.scalars(having, {"numbers": window})).all())
        window = [number for number in window if number in kept]
    return window


async def _task_ids(connection: AsyncConnection, numbers: Sequence[int]) -> dict[int, TaskId]:
    """Return the tasks of the events with these numbers, in their order."""
    query = select(events.c.seq, events.c.task_id).where(in_list(events.c.seq, "numbers", numbers=True))
    found = {row.seq: TaskId(row.task_id) for row in await connection.execute(query, {"numbers": list(numbers)})}
    return {number: found[number] for number in numbers if number in found}


async def _passing(connection: AsyncConnection, wanted: TaskFilter, ids: Sequence[TaskId]) -> set[TaskId]:
    """Return those of the tasks that pass the filter."""
    query = filtered(select(tasks.c.id), wanted).where(in_list(tasks.c.id, "ids"))
    return set((await connection.scalars(query, {"ids": list(ids)})).all())


async def rarest_first(connection: AsyncConnection, numbers: Sequence[int]) -> list[int]:
    """Return the words, the rarest one first."""
    counts: dict[int, int] = {}
    for word in numbers:
        some = select(literal_column("1")).where(search_words.c.word == word).limit(PROBE).subquery()
        counts[word] = (await connection.execute(select(func.count()).select_from(some))).scalar_one()
    return sorted(numbers, key=lambda word: counts[word])


async def read_counts(connection: AsyncConnection, wanted: TaskFilter) -> list[StatusCount]:
    """Return how many tasks of each status pass the filter, of the newest WINDOW tasks, or WORDS_WINDOW with a word."""
    counts: dict[str, int] = defaultdict(int)
    if numbers := await rarest_first(connection, wanted.terms.numbers()):
        window = await _numbers_with(connection, numbers, None)
        ids = list((await _task_ids(connection, await _with_all(connection, window, numbers[1:]))).values())
        query = filtered(select(tasks.c.status, func.count()), wanted).where(in_list(tasks.c.id, "ids"))
        rows = await connection.execute(query.group_by(tasks.c.status), {"ids": ids})
        whole = len(window) < WORDS_WINDOW
    else:
        newest = in_scope(select(tasks.c.id, tasks.c.status, tasks.c.model), wanted).order_by(*NEWEST).limit(WINDOW)
        inner = newest.subquery()
        grouped = select(inner.c.status, func.count()).group_by(inner.c.status)
        if wanted.model is not None:
            grouped = grouped.where(inner.c.model == wanted.model)
        rows = await connection.execute(grouped)
        total = in_scope(select(tasks.c.id), wanted).order_by(*NEWEST).offset(WINDOW).limit(1)
        whole = (await connection.execute(total)).first() is None
    for status, count in rows:
        counts[status] += count
    return [
        StatusCount(status=status, count=min(count, MAX_COUNT), more=count > MAX_COUNT or not whole)
        for status, count in sorted(counts.items())
    ]
