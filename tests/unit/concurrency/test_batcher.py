"""Grouping concurrent writes into few commits."""

import asyncio

import pytest

from service.concurrency import batcher as batcher_module
from service.concurrency.batcher import Batcher, commit_or_bisect
from service.domain.errors import StoreUnavailable


class Commits:
    """A commit that can be delayed, records its batches, and fails for the item "bad"."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.begun = asyncio.Event()
        self.open = asyncio.Event()
        self.open.set()

    async def __call__(self, items: list[str]) -> list[str]:
        """Return the items in capitals once `open` is set."""
        self.begun.set()
        self.batches.append(items)
        await self.open.wait()
        if "bad" in items:
            raise ValueError("the commit failed")
        return [item.upper() for item in items]


async def _held(commits: Commits, batcher: Batcher[str, str], *items: str) -> list[asyncio.Task[str]]:
    """Hold the commit of "first", and return the tasks of "first" and of `items`, which wait for the next commit."""
    commits.open.clear()
    tasks = [asyncio.create_task(batcher.add("first"))]
    await commits.begun.wait()
    tasks += [asyncio.create_task(batcher.add(item)) for item in items]
    await asyncio.sleep(0)
    return tasks


async def test_each_caller_gets_its_own_result() -> None:
    """Every caller receives the result at the position of its own item."""
    batcher = Batcher(Commits(), max_items=10)
    assert await asyncio.gather(*(batcher.add(item) for item in "abc")) == ["A", "B", "C"]


async def test_items_added_during_a_commit_share_the_next() -> None:
    """Items that arrive during a commit share the next one, in the order of arrival."""
    commits = Commits()
    tasks = await _held(commits, Batcher(commits, max_items=10), "a", "b", "c")
    commits.open.set()
    assert await asyncio.gather(*tasks) == ["FIRST", "A", "B", "C"]
    assert commits.batches == [["first"], ["a", "b", "c"]]


async def test_flush_waits_for_items_without_a_caller() -> None:
    """An added item is committed though its caller has stopped waiting, and `flush` returns after that."""
    commits = Commits()
    batcher = Batcher(commits, max_items=10)
    tasks = await _held(commits, batcher, "a")
    for task in tasks:
        task.cancel()
    flushing = asyncio.create_task(batcher.flush())
    await asyncio.sleep(0)
    assert not flushing.done()
    commits.open.set()
    await flushing
    assert commits.batches == [["first"], ["a"]]
    await batcher.flush()


async def test_batch_size_is_limited() -> None:
    """No commit contains more than `max_items` items."""
    commits = Commits()
    tasks = await _held(commits, Batcher(commits, max_items=2), "a", "b", "c")
    commits.open.set()
    await asyncio.gather(*tasks)
    assert commits.batches == [["first"], ["a", "b"], ["c"]]


@pytest.fixture
def long_delay(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a commit wait for a minute for items that are about to be added."""
    monkeypatch.setattr(batcher_module, "COMMIT_DELAY", 60)


@pytest.mark.usefixtures("long_delay")
async def test_commit_waits_for_items_that_are_about_to_be_added() -> None:
    """Items that others follow soon share one commit with the last of them, which no other follows."""
    commits = Commits()
    batcher = Batcher(commits, max_items=10)
    tasks = [asyncio.create_task(batcher.add(item, more_soon=True)) for item in "ab"]
    await asyncio.sleep(0.01)
    assert commits.batches == []
    async with asyncio.timeout(5):
        assert await batcher.add("c") == "C"
    assert [task.result() for task in tasks] == ["A", "B"]
    assert commits.batches == [["a", "b", "c"]]


@pytest.mark.usefixtures("long_delay")
async def test_rest_of_a_full_batch_waits_for_nothing_else() -> None:
    """If a batch is full, the rest is committed right after it; the next item begins to wait anew."""
    commits = Commits()
    batcher = Batcher(commits, max_items=2)
    async with asyncio.timeout(5):
        await asyncio.gather(*(batcher.add(item, more_soon=item != "c") for item in "abc"))
    assert commits.batches == [["a", "b"], ["c"]]
    late = asyncio.create_task(batcher.add("d", more_soon=True))
    await asyncio.sleep(0.01)
    assert not late.done()
    late.cancel()


async def test_commit_waits_a_short_time_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    """Items that nothing follows after all are committed after COMMIT_DELAY."""
    monkeypatch.setattr(batcher_module, "COMMIT_DELAY", 0)
    commits = Commits()
    batcher = Batcher(commits, max_items=10)
    async with asyncio.timeout(5):
        assert await batcher.add("a", more_soon=True) == "A"


@pytest.mark.parametrize(
    ("items", "batches"),
    [
        (["aa", "bbb", "c"], [["aa", "bbb"], ["c"]]),
        (["aaaaaaaaa", "b", "c"], [["aaaaaaaaa"], ["b", "c"]]),
        (["a", "bbbbbbbbb", "c"], [["a"], ["bbbbbbbbb"], ["c"]]),
        (["a", "b", "c", "d"], [["a", "b", "c"], ["d"]]),
    ],
)
async def test_batch_weight_is_limited(items: list[str], batches: list[list[str]]) -> None:
    """The items of one commit weigh at most `max_weight`, and a heavier item is committed alone; the order stays."""
    commits = Commits()
    tasks = await _held(commits, Batcher(commits, max_items=3, weigh=len, max_weight=5), *items)
    commits.open.set()
    await asyncio.gather(*tasks)
    assert commits.batches == [["first"], *batches]


async def test_error_reaches_every_caller_of_its_batch_only() -> None:
    """All callers of a failed commit get its error; those before and after it do not."""
    commits = Commits()
    batcher = Batcher(commits, max_items=2)
    tasks = await _held(commits, batcher, "a", "bad", "c")
    commits.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, ValueError, ValueError, str]
    assert await batcher.add("later") == "LATER"


async def test_cancelled_caller_affects_no_other() -> None:
    """The item of a caller that stops waiting stays in the batch, and the results of the others do not change."""
    commits = Commits()
    tasks = await _held(commits, Batcher(commits, max_items=10), "a", "b")
    tasks[1].cancel()
    commits.open.set()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [str, asyncio.CancelledError, str]
    assert results[2] == "B"
    assert commits.batches == [["first"], ["a", "b"]]


async def test_cancelling_the_caller_whose_commit_runs_does_not_stop_the_commit() -> None:
    """The commit ends even if the caller that began it is cancelled."""
    commits = Commits()
    tasks = await _held(commits, Batcher(commits, max_items=10), "a")
    tasks[0].cancel()
    commits.open.set()
    assert await tasks[1] == "A"


async def test_commit_with_too_few_results_is_an_error_for_all() -> None:
    """A commit with fewer results than items never leaves a caller waiting."""

    async def short(items: list[str]) -> list[str]:
        return items[1:]

    with pytest.raises(RuntimeError, match="returned 0 results"):
        await asyncio.wait_for(Batcher(short, max_items=10).add("a"), 5)


async def test_invalid_item_fails_no_other() -> None:
    """A failed batch is bisected until the invalid item is alone: it gets its error, all others their results."""
    outcomes = await commit_or_bisect(Commits(), ["a", "b", "bad", "d", "e"])
    assert [type(outcome) for outcome in outcomes] == [str, str, ValueError, str, str]
    assert [outcome for outcome in outcomes if isinstance(outcome, str)] == ["A", "B", "D", "E"]


async def test_unavailable_store_is_tried_once() -> None:
    """While nothing can be stored, no item is tried alone: each gets the same error."""
    tried: list[int] = []

    async def unavailable(items: list[str]) -> list[str]:
        tried.append(len(items))
        raise StoreUnavailable("the disk is full")

    outcomes = await commit_or_bisect(unavailable, ["a", "b", "c"])
    assert [type(outcome) for outcome in outcomes] == [StoreUnavailable] * 3
    assert tried == [3]


async def test_worker_cancelled_before_its_first_step_ends_the_flush() -> None:
    """Its callers are cancelled, `flush` returns, and the next item is committed by a new worker."""
    batcher: Batcher[str, str] = Batcher(Commits(), max_items=10)
    caller = asyncio.create_task(batcher.add("first"))
    await asyncio.sleep(0)
    [worker] = [task for task in asyncio.all_tasks() if task.get_name() == "batcher"]
    worker.cancel()

    async with asyncio.timeout(5):
        await batcher.flush()
        with pytest.raises(asyncio.CancelledError):
            await caller
        assert await batcher.add("second") == "SECOND"
