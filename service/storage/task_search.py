"""Lists of tasks by filters, in bounded windows: a filter that few tasks pass does not read a whole table."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from sqlalchemy import func, literal, select, tuple_

from service.domain.ports.search import StatusCount, TaskWindow
from service.domain.ports.tasks import TaskFilter
from service.domain.task import Task, TaskId
from service.storage.async_engine import AsyncConnection
from service.storage.column_types import SafeText, UtcDateTime, in_list
from service.storage.search_tables import search_words
from service.storage.tables import events, tasks
from service.storage.task_filters import NEWEST, WHOLE_LIST, filtered, index_of, indexes_of, passing
from service.storage.task_rows import columns_without, rows_to_tasks
from service.storage.tasks_without_words import SEARCHED, read_without_words

WINDOW = 1000
"""Entries of an index that one read of a list, or of its counts, looks at: as many as counts show."""

WORDS_WINDOW = 1000
"""Tasks with the rarest word that one read of a search looks at."""

WORDS_COUNTED = 500
"""Tasks with the rarest word that are counted."""

FIRST_PART = 150
"""Those of them that are looked at first: they have enough hits if most tasks pass the filter."""

MAX_OF_ID = 20
"""Tasks that one id of the provider may belong to: usually it is one."""

SAMPLE = 100
"""The newest entries of a word, which show how rare it is."""

MAX_COUNT = 1000
"""Counts end here."""

NO_EVENT = "no-event-"
"""Beginning of the position after a task that was listed before all with events, since it had none; no id has it."""

PLACE = (tasks.c.created_at, tasks.c.id, tasks.c.deadline_at)
"""The deadline is read because the index of all tasks lacks it: SQLite then takes that of the queued ones."""


async def read_window(connection: AsyncConnection, wanted: TaskFilter) -> TaskWindow:
    """Return the next tasks that pass the filter, at most its limit, and where to continue if that is not the end."""
    wanted, listed_first = _cursor_read(wanted)
    if wanted.exact is not None and wanted.cursor is None and (found := await _by_id(connection, wanted)):
        return TaskWindow(tasks=found)
    if _has_no_word(wanted):
        return TaskWindow(tasks=[])
    if numbers := await rarest_first(connection, wanted.terms.numbers()):
        return await _by_words(connection, wanted, numbers, listed_first=listed_first)
    return await _listed(connection, wanted)


def _cursor_read(wanted: TaskFilter) -> tuple[TaskFilter, bool]:
    """Return the filter after the task of its cursor, and whether that one was listed without an event."""
    cursor = wanted.cursor or ""
    without_event = cursor.startswith(NO_EVENT)
    return (replace(wanted, cursor=cursor.removeprefix(NO_EVENT)) if without_event else wanted), without_event


def _has_no_word(wanted: TaskFilter) -> bool:
    """Return whether a text is searched for that contains no word: no task has it."""
    return wanted.exact is not None and not wanted.terms.has_text


async def _by_id(connection: AsyncConnection, wanted: TaskFilter) -> list[Task]:
    """Return the tasks with this id; without an order, for which PostgreSQL would read the index of the list."""
    found: list[Task] = []
    for column in (tasks.c.id, tasks.c.upstream_id):
        query = passing(select(*columns_without(wanted.without)), wanted).where(column == wanted.exact)
        rows = (await connection.execute(query.limit(MAX_OF_ID))).all()
        found += [task for task in rows_to_tasks(rows, wanted.without) if task.id not in {each.id for each in found}]
    return sorted(found, key=lambda task: task.created_at, reverse=True)[: wanted.limit]


async def _listed(connection: AsyncConnection, wanted: TaskFilter) -> TaskWindow:
    index = index_of(wanted)
    query = filtered(select(*columns_without(wanted.without)), wanted, index)
    within = index.entries(select(*PLACE), wanted)
    place = tuple_(tasks.c.created_at, tasks.c.id)
    if wanted.cursor is not None:
        position = select(tasks.c.created_at, tasks.c.id).where(tasks.c.id == wanted.cursor).scalar_subquery()
        query, within = query.where(place < position), within.where(place < position)
    last = None
    if wanted.is_selective or index is not WHOLE_LIST:
        last = (await connection.execute(within.order_by(*NEWEST).offset(WINDOW - 1).limit(1))).first()
        if last is not None:
            query = query.where(place >= tuple_(literal(last[0], UtcDateTime), literal(last[1], SafeText)))
    rows = (await connection.execute(query.order_by(*NEWEST).limit(wanted.limit))).all()
    found = rows_to_tasks(rows, wanted.without)
    return TaskWindow(tasks=found, after=last.id if last is not None and len(found) < wanted.limit else None)


async def _by_words(
    connection: AsyncConnection, wanted: TaskFilter, numbers: Sequence[int], *, listed_first: bool
) -> TaskWindow:
    """Return the tasks with these words: those without an event first.

    With `listed_first` the task of the cursor was one of those. It may have an event by now, but the older ones without
    an event are not listed yet, nor is any task with an event. One that got its event meanwhile may be listed again.
    """
    newest = await _first_numbers(connection, wanted.cursor)
    if wanted.cursor is not None and not newest:
        return TaskWindow(tasks=[])
    before = newest[0] if newest and not listed_first else None
    without = await read_without_words(connection, wanted, before)
    found = [task for task in without.tasks if task.id != wanted.cursor]
    cursors = {task.id: f"{NO_EVENT}{task.id}" for task in found[: without.without_event]}
    if len(found) >= wanted.limit:
        return TaskWindow(tasks=found[: wanted.limit], after=cursors.get(found[wanted.limit - 1].id), cursors=cursors)
    window = await _numbers_with(connection, numbers, before)
    known = {*(task.id for task in found), TaskId(wanted.cursor or "")}
    for part in (window[:FIRST_PART], window[FIRST_PART:]):
        further = replace(wanted, limit=wanted.limit - len(found))
        found += await _matching(connection, further, part, numbers[1:], known)
        if len(found) == wanted.limit:
            return TaskWindow(tasks=found, cursors=cursors)
    if len(window) < WORDS_WINDOW:
        return TaskWindow(tasks=found, cursors=cursors)
    [last] = (await _task_ids(connection, window[-1:])).values()
    return TaskWindow(tasks=found, after=last, cursors=cursors)


async def _matching(
    connection: AsyncConnection, wanted: TaskFilter, part: list[int], others: Sequence[int], known: set[TaskId]
) -> list[Task]:
    """Return the tasks with these numbers that have the other words too and pass the filter, at most its limit.

    Those that are `known` are left out: they got their words while they were read without.
    """
    by_number = await _task_ids(connection, await _with_all(connection, part, others))
    passed = await _passed(connection, wanted, list(by_number.values()))
    ids = [task_id for task_id in by_number.values() if task_id in passed and task_id not in known]
    found: list[Task] = []
    for begin in range(0, len(ids), wanted.limit):
        some = ids[begin : begin + wanted.limit]
        query = select(*columns_without(SEARCHED)).where(in_list(tasks.c.id, "ids"))
        rows = (await connection.execute(query, {"ids": some})).all()
        loaded = {task.id: task for task in rows_to_tasks(rows, SEARCHED)}
        read = [loaded[task_id] for task_id in some if task_id in loaded]
        found += [task for task in read if wanted.terms.matches(task.params, task.metadata)]
        if len(found) >= wanted.limit:
            break
    return found[: wanted.limit]


async def _first_numbers(connection: AsyncConnection, task_id: str | None) -> list[int | None]:
    """Return the number of the first event of a task, None if it has no event yet; nothing for an unknown task."""
    first = select(func.min(events.c.seq)).where(events.c.task_id == task_id).scalar_subquery()
    return list((await connection.scalars(select(first).where(tasks.c.id == task_id))).all()) if task_id else []


async def _numbers_with(connection: AsyncConnection, numbers: Sequence[int], before: int | None) -> list[int]:
    """Return the next numbers of tasks with the first of the words, the newest one first."""
    query = select(search_words.c.seq).where(search_words.c.word == numbers[0])
    if before is not None:
        query = query.where(search_words.c.seq < before)
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


async def _passed(connection: AsyncConnection, wanted: TaskFilter, ids: Sequence[TaskId]) -> set[TaskId]:
    """Return those of the tasks that pass the filter."""
    query = passing(select(tasks.c.id), wanted).where(in_list(tasks.c.id, "ids"))
    return set((await connection.scalars(query, {"ids": list(ids)})).all())


async def rarest_first(connection: AsyncConnection, numbers: Sequence[int]) -> list[int]:
    """Return the words, the rarest one first: the one with fewest entries, or whose newest entries reach back most."""
    ranks: dict[int, tuple[bool, int]] = {}
    for word in numbers if len(numbers) > 1 else ():
        query = select(search_words.c.seq).where(search_words.c.word == word).order_by(search_words.c.seq.desc())
        newest = (await connection.scalars(query.limit(SAMPLE))).all()
        ranks[word] = (True, newest[-1]) if len(newest) == SAMPLE else (False, len(newest))
    return sorted(numbers, key=lambda word: ranks.get(word, (False, 0)))


async def read_counts(connection: AsyncConnection, wanted: TaskFilter) -> list[StatusCount]:
    """Return how many tasks of each status pass the filter, of the newest ones.

    These are the newest WINDOW tasks of an index of few statuses, for the completed ones the newest WINDOW tasks of
    all, and with a word the newest WORDS_COUNTED tasks that have it, and those that a search reads without words.
    """
    if wanted.exact is not None and (found := await _by_id(connection, replace(wanted, limit=MAX_OF_ID))):
        counts = {status: (count, False) for status, count in Counter(task.status.value for task in found).items()}
    elif _has_no_word(wanted):
        counts = {}
    elif numbers := await rarest_first(connection, wanted.terms.numbers()):
        counts = await _counts_by_words(connection, wanted, numbers)
    else:
        counts = await _counts(connection, wanted)
    return [
        StatusCount(status=status, count=min(count, MAX_COUNT), more=more or count > MAX_COUNT)
        for status, (count, more) in sorted(counts.items())
        if count
    ]


async def _counts_by_words(
    connection: AsyncConnection, wanted: TaskFilter, numbers: Sequence[int]
) -> dict[str, tuple[int, bool]]:
    without = await read_without_words(connection, wanted, None)
    known = {task.id for task in without.tasks}
    window = (await _numbers_with(connection, numbers, None))[:WORDS_COUNTED]
    with_all = (await _task_ids(connection, await _with_all(connection, window, numbers[1:]))).values()
    counts = Counter(task.status.value for task in without.tasks)
    counts += await _counted(connection, wanted, [task_id for task_id in with_all if task_id not in known])
    more = len(window) == WORDS_COUNTED
    return {status: (count, more or status in without.more) for status, count in counts.items()}


async def _counted(connection: AsyncConnection, wanted: TaskFilter, ids: list[TaskId]) -> Counter[str]:
    """Return how many of the tasks pass the filter, by status; all words are compared where not all were looked up."""
    chosen = in_list(tasks.c.id, "ids")
    if wanted.terms.looks_up_all:
        query = passing(select(tasks.c.status, func.count()), wanted).where(chosen).group_by(tasks.c.status)
        return Counter({row[0]: row[1] for row in await connection.execute(query, {"ids": ids})})
    query = passing(select(tasks.c.status, tasks.c.params, tasks.c.metadata), wanted).where(chosen)
    rows = (await connection.execute(query, {"ids": ids})).all()
    return Counter(status for status, params, metadata in rows if wanted.terms.matches(params, metadata))


async def _counts(connection: AsyncConnection, wanted: TaskFilter) -> dict[str, tuple[int, bool]]:
    counts: dict[str, tuple[int, bool]] = {}
    for index in indexes_of(wanted):
        rows = (await connection.execute(index.counted(wanted, WINDOW))).all()
        whole = sum(row[1] for row in rows) < WINDOW
        counted = index.statuses & wanted.statuses if wanted.statuses else index.statuses
        counts |= {status: (passed, not whole) for status, _, passed in rows if status in counted}
    return counts
