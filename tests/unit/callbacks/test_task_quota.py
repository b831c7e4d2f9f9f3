"""A holder of a task's token may send callbacks without end, and cannot fill the disk."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.callbacks.limits import UNCOUNTED, UNCOUNTED_BYTES, BurstDetector, TaskQuota
from service.domain.errors import UnreadableBody
from service.domain.task import TaskId
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import Loop, open_loop

FIRST = TaskId("t1")


def numbered_body(number: int, status: str = "in_progress") -> dict[str, Any]:
    """Return the body of a callback that differs from all others."""
    return vtrix_body(status) | {"number": number}


async def flood(loop: Loop, count: int, status: str = "in_progress") -> None:
    """Send `count` callbacks with different bodies."""
    loop.receiver._quota = TaskQuota(max_callbacks=5)
    for number in range(count):
        await loop.call_back(numbered_body(number, status))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50))))
def test_quota_is_counted_for_each_task(mail: list[tuple[str, int]]) -> None:
    """No task exceeds its count and its bytes; what is refused is not counted."""
    quota = TaskQuota(max_callbacks=3, max_bytes=100)
    kept: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for task, size in mail:
        fits = len(kept[task]) < 3 and sum(kept[task]) + size <= 100
        assert quota.admits(TaskId(task), size) == fits
        kept[task] += [size] if fits else []


def test_quota_counts_a_bounded_number_of_tasks() -> None:
    """The tasks that were called back last are counted."""
    quota = TaskQuota(max_callbacks=1, tasks=2)
    assert [quota.admits(TaskId(name), 1) for name in ("a", "b", "a", "c", "b")] == [True, True, False, True, True]
    assert len(quota.uncounted) == 2
    for name in ("a", "b", "c"):
        quota.begin(TaskId(name), (0, 0))
    assert quota.admits(TaskId("a"), 1)
    assert (len(quota.used), len(quota.uncounted)) == (2, 0)


def test_few_small_callbacks_of_a_task_need_no_count() -> None:
    """Only a task with more or larger callbacks than usual is counted from the inbox, once."""
    quota, task = TaskQuota(max_callbacks=UNCOUNTED + 1), TaskId("a")
    assert quota.needs_count(task, UNCOUNTED_BYTES + 1)
    for _ in range(UNCOUNTED):
        assert not quota.needs_count(task, 1)
        assert quota.admits(task, 1)
    assert quota.needs_count(task, 1)
    quota.begin(task, (UNCOUNTED, UNCOUNTED))
    assert not quota.needs_count(task, UNCOUNTED_BYTES + 1)
    assert [quota.admits(task, 1), quota.admits(task, 1)] == [True, False]


def test_few_large_callbacks_of_a_task_are_counted() -> None:
    """The bytes that are stored without a count are few as well."""
    quota, task = TaskQuota(), TaskId("a")
    assert quota.admits(task, UNCOUNTED_BYTES)
    assert quota.needs_count(task, 1)


@pytest.mark.parametrize("burst", [True, False])
async def test_callbacks_over_the_quota_are_not_stored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, burst: bool
) -> None:
    """They are answered as the others, and the inbox does not grow."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: burst)
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await flood(loop, 20)
        assert sum((await loop.callbacks()).values()) == 5


async def test_unreadable_callbacks_over_the_quota_are_not_stored(tmp_path: Path) -> None:
    """Unreadable callbacks count as well."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        loop.receiver._quota = TaskQuota(max_callbacks=5)
        for number in range(20):
            with pytest.raises(UnreadableBody):
                await loop.call_back(b"x" * number)
        assert await loop.callbacks() == {"unreadable": 5}


@pytest.mark.parametrize("confirm", [True, False])
async def test_end_over_the_quota_is_polled(tmp_path: Path, confirm: bool) -> None:
    """The last of many callbacks may report the end: the task is polled at once, and settles."""
    async with open_loop(tmp_path, confirm=confirm) as loop:
        task = await loop.submitted()
        await flood(loop, 10)
        loop.upstream.set_fact("up1")
        await loop.call_back(numbered_body(10, "completed"))
        assert sum((await loop.callbacks()).values()) == 5
        await loop.poll_due()
        assert (await loop.task(task.id)).settled_by == "callback"


def test_count_that_is_known_twice_counts_on() -> None:
    """Of callbacks that arrive together each asks what is stored: the later answer does not reset the count."""
    quota, task = TaskQuota(max_callbacks=3), TaskId("a")
    for fits in (True, False, False):
        quota.begin(task, (2, 10))
        assert quota.admits(task, 1) == fits
