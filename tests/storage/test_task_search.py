"""Lists by filters and words: what is found, in which order, in bounded windows with cursors."""

from datetime import timedelta
from typing import Any

import pytest

from service.domain.ports.tasks import TaskFilter
from service.domain.search import MAX_LOOKED_UP, search_terms
from service.domain.task import EventType, Status, Task, TaskId, UpstreamId
from service.domain.task_view import task_json
from service.storage import Store, search_index, task_search, tasks_without_words
from tests.storage.builders import NOW, SECOND, a_delivery, a_task, add_tasks, an_event


async def add(store: Store, *tasks: Task, handlers: tuple[str, ...] = ("log",)) -> None:
    """Store tasks, and the event of their submission with its deliveries; then their words."""
    await add_tasks(store, *tasks)
    async with store.units_of_work.transaction() as transaction:
        for task in tasks:
            event = an_event(
                f"e-{task.id}", task_id=task.id, client=task.client, type=EventType.SUBMITTED, data=task_json(task)
            )
            await transaction.append([event], [a_delivery(event, handler) for handler in handlers])
    while await store.search_index.advance():
        pass


def prompted(number: int, prompt: str, **changes: Any) -> Task:
    """Return a task with a prompt; a higher number is newer."""
    fields = {"created_at": NOW + number * SECOND, "params": {"prompt": prompt}}
    return a_task(f"t{number}", **(fields | changes))


async def found(store: Store, text: str | None = None, handler: str | None = None, **wanted: Any) -> list[str]:
    """Return the ids of all tasks that are found, over all windows and pages of two."""
    ids: list[str] = []
    cursor: str | None = wanted.pop("cursor", None)
    while True:
        terms = search_terms(text, handler)
        window = await store.queries.window(TaskFilter(terms=terms, exact=text, limit=2, cursor=cursor, **wanted))
        ids += [task.id for task in window.tasks]
        if len(window.tasks) < 2 and window.after is None:
            return ids
        cursor = window.after or ids[-1]


async def counts(store: Store, text: str | None = None, **wanted: Any) -> dict[str, tuple[int, bool]]:
    """Return how many tasks of each status are counted, and whether there may be more."""
    counted = await store.queries.status_counts(TaskFilter(terms=search_terms(text, None), exact=text, **wanted))
    return {each.status: (each.count, each.more) for each in counted}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        ("cat", ["t4", "t2", "t1"]),
        ("CAT surfs", ["t1"]),
        ("surfs cat", ["t1"]),
        ("\uff23\uff21\uff34", ["t4", "t2", "t1"]),
        ("cats", []),
        ("straße", ["t3"]),
        ("STRASSE", ["t3"]),
        ("猫", ["t5"]),
        ("波の猫", ["t5"]),
        ("犬", []),
        ("!?", []),
        ("-", []),
        ("\U0001f600", []),
        ("t2", ["t2"]),
        ("up-3", ["t3"]),
        ("metadata.chat=42", ["t2"]),
        ("metadata.chat=4", []),
        ("metadata.chat", ["t4", "t2"]),
        ("metadata.user.name=Ann", ["t4"]),
        ("metadata.paid=true", ["t4"]),
        ("metadata.", []),
    ],
)
async def test_tasks_are_found_by_text(store: Store, text: str, ids: list[str]) -> None:
    """By words of the prompt, all of them, by an entry or a key of the metadata, and by both ids; newest first.

    As many are counted, also with a filter by their handler or client, and none for a text without a word.
    """
    await add(
        store,
        prompted(1, "A cat surfs, at dawn."),
        prompted(2, "the cat-like robot", metadata={"chat": 42}),
        prompted(3, "Straße", upstream_id=UpstreamId("up-3")),
        prompted(4, "cat", metadata={"chat": 43, "user": {"name": "Ann"}, "paid": True, "tags": ["x"]}),
        prompted(5, "海の波と猫"),
    )
    assert await found(store, text) == ids
    assert await found(store, text, handler="log") == ids
    for wanted in ({}, {"client": "anna"}, {"statuses": frozenset({"queued"})}):
        assert await counts(store, text, **wanted) == ({"queued": (len(ids), False)} if ids else {})
    assert await counts(store, text, client="berta") == {}


async def test_filters_combine(store: Store) -> None:
    """Every given filter applies, with words and without."""
    await add(
        store,
        prompted(1, "cat", status=Status.FAILED, client="berta"),
        prompted(2, "cat", status=Status.COMPLETED),
        prompted(3, "cat", status=Status.FAILED, model="other"),
        prompted(4, "dog", status=Status.EXPIRED),
    )
    await add(store, prompted(5, "cat", status=Status.FAILED), handlers=("webhook", "log"))
    ended = frozenset({"failed", "expired"})
    for text, more in (("cat", []), (None, ["t4"])):
        assert await found(store, text, statuses=ended) == ["t5", *more, "t3", "t1"]
        assert await found(store, text, client="berta") == ["t1"]
        assert await found(store, text, model="other", status="failed") == ["t3"]
        assert await found(store, text, since=NOW + 3 * SECOND, until=NOW + 5 * SECOND) == [*more, "t3"]
        assert await found(store, text, handler="webhook") == ["t5"]
        assert await found(store, text, handler="log", statuses=ended, client="anna") == ["t5", *more, "t3"]


@pytest.mark.parametrize("text", [None, "cat"])
async def test_rare_tasks_are_found_in_bounded_windows(
    store: Store, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    """A window without a hit says where to continue: nothing is missed, nothing comes twice."""
    monkeypatch.setattr(task_search, "WINDOW", 3)
    monkeypatch.setattr(task_search, "WORDS_WINDOW", 3)
    rare = {0, 7, 8, 13, 19}
    models = ["rare" if number in rare else "frequent" for number in range(20)]
    await add(store, *(prompted(number, "a cat", model=model) for number, model in enumerate(models)))
    assert await found(store, text, model="rare") == ["t19", "t13", "t8", "t7", "t0"]
    assert await found(store, text) == [f"t{number}" for number in reversed(range(20))]
    first = await store.queries.window(TaskFilter(terms=search_terms(text, None), exact=text, model="none"))
    assert (first.tasks, first.after) == ([], "t17")


async def test_rare_statuses_are_found_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tasks that are not completed are found however many completed ones are newer: one window has them."""
    monkeypatch.setattr(task_search, "WINDOW", 4)
    old = [Status.FAILED, Status.QUEUED, Status.IN_DOUBT, Status.CANCELED, Status.EXPIRED, Status.SUBMITTING]
    tasks = [prompted(number, "a cat", status=status) for number, status in enumerate(old)]
    paid = prompted(6, "a cat", status=Status.COMPLETED, cost=1.0)
    video = ({"type": "video", "url": "https://example.org/v.mp4"},)
    newer = [prompted(number, "a cat", status=Status.COMPLETED, output=video) for number in range(7, 20)]
    await add(store, *tasks, paid, *newer)
    for client in (None, "anna"):
        for number, status in enumerate(old):
            window = await store.queries.window(TaskFilter(client=client, statuses=frozenset({status.value})))
            assert ([each.id for each in window.tasks], window.after) == ([f"t{number}"], None)
        window = await store.queries.window(TaskFilter(client=client, without_result=True))
        assert [each.id for each in window.tasks] == ["t6"]
        assert await found(store, statuses=frozenset({"failed", "canceled"}), client=client) == ["t3", "t0"]
    assert await found(store, statuses=frozenset({"failed"}), client="berta") == []


async def test_words_with_the_same_number_are_distinguished(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The task itself decides, so that a collision shows no other task."""
    monkeypatch.setattr("service.domain.search.number", lambda *_: 7)
    await add(store, prompted(1, "cat"), prompted(2, "dog"))
    assert await found(store, "cat") == ["t1"]


async def test_words_come_from_old_and_new_events_once(store: Store) -> None:
    """The words of a task have the number of its first event, however many events follow; old tasks are read too."""
    await add(store, prompted(1, "cat", status=Status.COMPLETED))
    task = prompted(1, "cat", status=Status.COMPLETED)
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([an_event("later", data=task_json(task))], [])
    assert await store.search_index.advance() > 0
    assert await store.search_index.advance() == 0
    assert await found(store, "cat") == ["t1"]


async def test_queued_tasks_are_found_at_once(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task is found by its words as soon as it is stored, before those with an event, which come once each."""
    monkeypatch.setattr(tasks_without_words, "MAX_READ", 3)
    await add(store, prompted(1, "cat"), prompted(2, "a cat"))
    await add_tasks(store, *(prompted(number, "the cat", metadata={"chat": number}) for number in range(3, 8)))
    await add_tasks(store, prompted(8, "dog", client="berta"), prompted(9, "cat", status=Status.SUBMITTING))
    assert await found(store, "cat", client="anna") == ["t9", "t7", "t6", "t5", "t4", "t3", "t2", "t1"]
    assert await found(store, "cat", since=NOW + 6 * SECOND) == ["t9", "t7", "t6"]
    assert await found(store, "metadata.chat=4", client="anna", until=NOW + 6 * SECOND) == ["t4"]
    assert await found(store, "cat", statuses=frozenset({"queued"})) == ["t7", "t6", "t5", "t4", "t3", "t2", "t1"]
    for wanted in ({"statuses": frozenset({"failed"})}, {"handler": "log"}, {"without_result": True}):
        assert set(await found(store, "cat", **wanted)) <= {"t2", "t1"}
    assert await counts(store, "cat", client="anna") == {"queued": (2 + 3, True), "submitting": (1, False)}
    assert await found(store, "cat", cursor="unknown") == []


async def test_tasks_are_found_while_they_are_submitted(store: Store) -> None:
    """From its acceptance on a task is found by its words: also while the provider answers, and before they are read.

    Each is counted and listed once, those without an event first, on one page and on pages that continue.
    """
    await add(store, prompted(1, "cat", client="berta"))
    states = [Status.SUBMITTING, Status.QUEUED, Status.IN_PROGRESS, Status.COMPLETED, Status.IN_PROGRESS]
    new = [prompted(number, "a cat", metadata={"chat": 4}, status=status) for number, status in enumerate(states, 2)]
    await add_tasks(store, *new, prompted(7, "dog"))
    async with store.units_of_work.transaction() as transaction:
        for number, name in enumerate(("t5", "t4", "t6", "t5", "t7")):  # t5 was submitted first, and is completed
            [task] = [one for one in (*new, prompted(7, "dog")) if one.id == name]
            await transaction.append([an_event(f"e{number}", task_id=task.id, data=task_json(task))], [])
    for _ in range(2):  # before their words are read, and after
        for text in ("cat", "metadata.chat=4", "metadata.chat"):
            wanted = {} if text != "cat" else {"client": "anna"}
            assert await found(store, text, **wanted) == ["t3", "t2", "t6", "t4", "t5"]
            assert await counts(store, text, **wanted) == {
                "submitting": (1, False),
                "queued": (1, False),
                "in_progress": (2, False),
                "completed": (1, False),
            }
        assert await found(store, "cat", statuses=frozenset({"submitting", "completed"})) == ["t2", "t5"]
        assert await found(store, "cat", model="other") == []
        window = await store.queries.window(TaskFilter(terms=search_terms("cat", None), exact="cat"))
        assert [task.id for task in window.tasks] == ["t3", "t2", "t6", "t4", "t5", "t1"]
        while await store.search_index.advance():
            pass


async def test_many_unread_events_are_not_all_read(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of events whose words are not read yet a search reads the newest ones, and says that there may be more."""
    monkeypatch.setattr(tasks_without_words, "MAX_READ", 2)
    new = [prompted(number, "cat", status=Status.IN_PROGRESS) for number in range(4)]
    await add_tasks(store, *new)
    async with store.units_of_work.transaction() as transaction:
        for task in new:
            await transaction.append([an_event(f"e-{task.id}", task_id=task.id, data=task_json(task))], [])
    window = await store.queries.window(TaskFilter(terms=search_terms("cat", None), exact="cat"))
    assert [task.id for task in window.tasks] == ["t3", "t2"]
    assert await counts(store, "cat") == {"in_progress": (2, True)}
    await store.search_index.advance()
    assert await found(store, "cat") == ["t3", "t2", "t1", "t0"]
    assert await counts(store, "cat") == {"in_progress": (4, False)}


async def test_words_that_are_read_during_a_search_are_found_once(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that gets its words after it was read without them is listed and counted once."""
    await add_tasks(store, prompted(1, "cat"), prompted(2, "a cat", status=Status.IN_PROGRESS))
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([an_event("e2", task_id=TaskId("t2"), data=task_json(prompted(2, "a cat")))], [])
    read = tasks_without_words.read_without_words

    async def and_then_the_words_are_read(*args: Any) -> Any:
        result = await read(*args)
        await store.search_index.advance()
        return result

    monkeypatch.setattr("service.storage.task_search.read_without_words", and_then_the_words_are_read)
    assert await found(store, "cat") == ["t1", "t2"]
    assert await counts(store, "cat") == {"queued": (1, False), "in_progress": (1, False)}


async def test_a_long_text_looks_up_some_words_and_compares_all(store: Store) -> None:
    """A pasted prompt finds its task alone: of its many words the longest are looked up, and each is compared."""
    words = [f"longer{number}" for number in range(MAX_LOOKED_UP)] + [f"w{number}" for number in range(40)]
    await add(store, prompted(1, " ".join(words)), prompted(2, " ".join(words[:-1])), prompted(3, " ".join(words)))
    await add_tasks(store, prompted(4, " ".join(words)))
    text = " ".join(reversed(words))
    assert len(search_terms(text, None).numbers()) == MAX_LOOKED_UP
    assert await found(store, text) == ["t4", "t3", "t1"]
    assert await counts(store, text) == {"queued": (3, False)}
    assert await counts(store, text, statuses=frozenset({"failed"})) == {}


async def test_long_values_of_metadata_are_compared_as_far_as_they_count(store: Store) -> None:
    """An entry longer than MAX_LENGTH is found by a text that begins with what counts of it."""
    await add(store, prompted(1, "cat", metadata={"note": "x" * 500}), prompted(2, "cat", metadata={"note": "x"}))
    assert await found(store, f"metadata.note={'x' * 500}") == ["t1"]
    assert await found(store, f"metadata.note={'x' * 100}") == []


async def test_a_page_that_begins_with_queued_tasks_continues_when_they_were_sent(store: Store) -> None:
    """The cursor of a task that has an event by now is its place among the words: nothing is missed or repeated."""
    await add(store, prompted(1, "cat"))
    queued = [prompted(number, "cat") for number in (2, 3)]
    await add_tasks(store, *queued)
    terms = search_terms("cat", None)
    first = await store.queries.window(TaskFilter(terms=terms, exact="cat", limit=1))
    async with store.units_of_work.transaction() as transaction:
        for task in queued:  # the oldest one is sent first
            await transaction.append([an_event(f"e-{task.id}", task_id=task.id, data=task_json(task))], [])
    await store.search_index.advance()
    second = await store.queries.window(TaskFilter(terms=terms, exact="cat", cursor=first.tasks[0].id))
    assert [task.id for task in (*first.tasks, *second.tasks)] == ["t3", "t2", "t1"]


async def test_a_backlog_of_events_is_read_in_one_run(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run continues while there are events, and ends after its time: other jobs and writers get their turns."""
    monkeypatch.setattr(search_index, "HEADS_AT_ONCE", 3)
    await add_tasks(store, *(prompted(number, "cat") for number in range(8)))
    async with store.units_of_work.transaction() as transaction:
        for number in range(8):
            data = task_json(prompted(number, "cat"))
            await transaction.append([an_event(f"e{number}", task_id=TaskId(f"t{number}"), data=data)], [])
    monkeypatch.setattr(search_index, "RUN_SECONDS", 0.0)
    assert await store.search_index.advance_far() == 3
    monkeypatch.setattr(search_index, "RUN_SECONDS", 60.0)
    assert await store.search_index.advance_far() == 5
    assert await store.search_index.advance_far() == 0


async def test_two_workers_add_words_once(store: Store, open_another: Any) -> None:
    """A step that another process has made has no effect."""
    await add_tasks(store, prompted(1, "cat"), prompted(2, "cat"))
    async with store.units_of_work.transaction() as transaction:
        for name in ("t1", "t2"):
            data = task_json(prompted(1, "cat"))
            await transaction.append([an_event(f"e{name}", task_id=TaskId(name), data=data)], [])
    other = open_another()
    for one in (store, other, store, other):
        await one.search_index.advance()
    assert await found(store, "cat") == ["t2", "t1"]


async def test_counts_by_status(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each status has its number; where not all tasks were counted, or more than the limit, there are more."""
    tasks = [prompted(number, "cat", status=Status.FAILED) for number in range(4)]
    await add(store, *tasks, prompted(9, "dog", client="berta", created_at=NOW + timedelta(hours=1)))

    assert await counts(store) == {"failed": (4, False), "queued": (1, False)}
    assert await counts(store, "cat") == {"failed": (4, False)}
    assert await counts(store, client="berta", model="viduq2_pro_reference") == {"queued": (1, False)}
    monkeypatch.setattr(task_search, "MAX_COUNT", 3)
    assert await counts(store, client="anna") == {"failed": (3, True)}
    monkeypatch.setattr(task_search, "WINDOW", 2)
    assert await counts(store) == {"failed": (2, True), "queued": (1, False)}
    assert await counts(store, statuses=frozenset({"failed"}), client="berta") == {}
