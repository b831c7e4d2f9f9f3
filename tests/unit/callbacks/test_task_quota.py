"""Whoever holds a task's token may call back without end, and fills no disk."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.callbacks.limits import BurstDetector, TaskQuota
from service.domain.errors import UnreadableBody
from service.domain.task import TaskId
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import Loop, a_loop

FIRST = TaskId("t1")


def noted(number: int, status: str = "in_progress") -> dict[str, Any]:
    """Return a callback's body that differs from all others."""
    return vtrix_body(status) | {"number": number}


async def flooded(loop: Loop, count: int, status: str = "in_progress") -> None:
    """Call back so often, each time with another body."""
    loop.receiver._quota = TaskQuota(max_callbacks=5)
    for number in range(count):
        await loop.call_back(noted(number, status))


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 50))))
def test_quota_holds_for_each_task_by_itself(mail: list[tuple[str, int]]) -> None:
    """No task ever has more kept than its count and its bytes; what is refused counts for nothing."""
    quota = TaskQuota(max_callbacks=3, max_bytes=100)
    kept: dict[str, list[int]] = {"a": [], "b": [], "c": []}
    for task, size in mail:
        fits = len(kept[task]) < 3 and sum(kept[task]) + size <= 100
        assert quota.admits(TaskId(task), size) == fits
        kept[task] += [size] if fits else []


def test_quota_remembers_so_many_tasks() -> None:
    """Its memory is bounded: the tasks that were called back about last."""
    quota = TaskQuota(max_callbacks=1, tasks=2)
    assert [quota.admits(TaskId(name), 1) for name in ("a", "b", "a", "c", "b")] == [True, True, False, True, True]
    assert len(quota.used) == 2


@pytest.mark.parametrize("crowd", [True, False])
async def test_callbacks_past_the_quota_are_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, crowd: bool
) -> None:
    """They are answered as the others, and the inbox does not grow."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: crowd)
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        await flooded(loop, 20)
        assert sum((await loop.callbacks()).values()) == 5


async def test_unreadable_callbacks_past_the_quota_are_not_kept(tmp_path: Path) -> None:
    """Rubbish counts as well."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        loop.receiver._quota = TaskQuota(max_callbacks=5)
        for number in range(20):
            with pytest.raises(UnreadableBody):
                await loop.call_back(b"x" * number)
        assert await loop.callbacks() == {"unreadable": 5}


@pytest.mark.parametrize("confirm", [True, False])
async def test_an_end_past_the_quota_is_asked_about(tmp_path: Path, confirm: bool) -> None:
    """The one callback that matters may be the last of many: the upstream is asked at once, and the task settles."""
    async with a_loop(tmp_path, confirm=confirm) as loop:
        task = await loop.submitted()
        await flooded(loop, 10)
        loop.upstream.tell("up1")
        await loop.call_back(noted(10, "completed"))
        assert sum((await loop.callbacks()).values()) == 5
        await loop.poll_due()
        assert (await loop.task(task.id)).settled_by == "callback"
