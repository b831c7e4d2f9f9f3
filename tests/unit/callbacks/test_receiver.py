"""Callbacks over a real store: early, late, repeated, reordered, unknown, unreadable, forged."""

from datetime import datetime
from pathlib import Path

import pytest

from service.domain.errors import BadSignature, BadToken, StoreUnavailable, UnreadableBody
from service.domain.task import Status, TaskId
from tests.support.scripted_provider import DONE, TOKENS, vtrix_body
from tests.support.task_loop import DEADLINE, HOUR, MINUTE, SECOND, open_loop


async def test_callback_is_a_hint_and_the_poll_decides(tmp_path: Path) -> None:
    """With confirmation the callback makes the task due at once, and the result is attributed to the callback."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed", output=[{"content": [{"url": "https://liar.example/x.mp4"}]}]))
        hinted = await loop.task(task.id)
        assert (hinted.status, hinted.due_at) == (Status.IN_PROGRESS, loop.clock.now())
        await loop.poll_due()
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.output) == (Status.COMPLETED, "callback", DONE.output)
        assert not after.unconfirmed


async def test_false_callback_changes_nothing(tmp_path: Path) -> None:
    """A callback with an end that the poll does not confirm leaves the task in progress."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("failed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_callback_settles_without_confirmation(tmp_path: Path) -> None:
    """With CONFIRM=never the body of a verified callback settles the task without a poll."""
    async with open_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.due_at) == (Status.COMPLETED, "callback", None)
        assert not loop.upstream.polled


@pytest.mark.parametrize("confirm", [True, False])
async def test_repeated_callback_settles_once(tmp_path: Path, confirm: bool) -> None:
    """The same callback three times is accepted three times, stored once, and settles once."""
    async with open_loop(tmp_path, confirm=confirm) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        for _ in range(3):
            await loop.call_back(vtrix_body("completed"))
            await loop.poll_due()
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]
        assert await loop.callbacks() == {"accepted": 1}


async def test_repeated_callback_causes_no_poll(tmp_path: Path) -> None:
    """A callback that is recorded already changes nothing and causes no poll."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        before = await loop.task(task.id)
        await loop.call_back(vtrix_body("completed"))
        assert await loop.task(task.id) == before
        assert await loop.poll_due() == 0


@pytest.mark.parametrize("confirm", [True, False])
async def test_reordered_callbacks_do_not_reverse_a_status(tmp_path: Path, confirm: bool) -> None:
    """A late "processing" after the end is accepted, and the task stays settled."""
    async with open_loop(tmp_path, confirm=confirm) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.call_back(vtrix_body("processing", progress=0.5))
        await loop.poll_due()
        after = await loop.task(task.id)
        assert (after.status, after.settled_by) == (Status.COMPLETED, "callback")


async def test_progress_callback_does_not_delay_a_poll(tmp_path: Path) -> None:
    """A callback that only reports "processing" never moves the next poll to a later time."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        due_at = task.due_at
        loop.clock.move(10 * SECOND)
        await loop.call_back(vtrix_body("processing", progress=0.25))
        after = await loop.task(task.id)
        assert (after.progress, after.due_at) == (0.25, due_at)


async def test_late_callback_overrules_expiry(tmp_path: Path) -> None:
    """A callback and a poll bring the result of an expired task."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.run_until(loop.clock.now() + DEADLINE + MINUTE, by=5 * MINUTE)
        assert (await loop.task(task.id)).status is Status.EXPIRED
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert await loop.happened(task.id) == ["task.submitted", "task.expired", "task.completed"]


async def test_unknown_task_is_quarantined_and_counted(tmp_path: Path) -> None:
    """A valid callback for a task that is not in this database is stored once, and changes nothing."""
    async with open_loop(tmp_path) as loop:
        token = TOKENS.callback_token(TaskId("of-another-database"), 1, loop.clock.now() + HOUR)
        for _ in range(2):
            await loop.called_back(token, b'{"id": "up1", "status": "completed"}')
        assert await loop.callbacks() == {"quarantined": 1}


async def test_unreadable_body_makes_the_task_due_at_once(tmp_path: Path) -> None:
    """Half a body with a valid token is refused as unreadable, and the task is polled."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        with pytest.raises(UnreadableBody):
            await loop.call_back(b'{"id": "up1", "stat')
        assert await loop.poll_due() == 1
        after = await loop.task(task.id)
        assert (after.status, after.settled_by) == (Status.COMPLETED, "poll")
        assert await loop.callbacks() == {"unreadable": 1}


async def test_payload_of_another_task_is_refused(tmp_path: Path) -> None:
    """A body with another task's payload token is a forgery: nothing is stored, nothing changes."""
    async with open_loop(tmp_path) as loop:
        task, other = await loop.submitted(), await loop.submitted()
        before = await loop.task(task.id)
        foreign = TOKENS.payload_token(other.id, 1)
        with pytest.raises(BadToken):
            await loop.call_back(vtrix_body("completed", payload=foreign), request=0)
        assert await loop.task(task.id) == before
        assert await loop.callbacks() == {}


async def test_bad_token_changes_nothing(tmp_path: Path) -> None:
    """An address token that we did not sign is refused before anything is written."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        with pytest.raises(BadToken):
            await loop.called_back(TOKENS.payload_token(task.id, 1), b"{}")
        assert await loop.callbacks() == {}
        assert await loop.task(task.id) == task


class OneNonce:
    """A verifier that returns the same nonce for every callback."""

    def verify(self, headers: object, now: datetime) -> str:
        """Return the nonce."""
        assert headers is not None
        assert now.tzinfo
        return "nonce-1"


async def test_nonce_is_valid_for_one_body(tmp_path: Path) -> None:
    """A retry of the same callback may carry its nonce; another body with it is a forgery that changes nothing."""
    async with open_loop(tmp_path, confirm=False, verifier=OneNonce()) as loop:
        task = await loop.submitted()
        for _ in range(2):
            await loop.call_back(vtrix_body("processing", progress=0.5))
        with pytest.raises(BadSignature):
            await loop.call_back(vtrix_body("failed"))
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert await loop.callbacks() == {"accepted": 1}


async def test_callback_is_durable_before_its_answer(tmp_path: Path) -> None:
    """While the database is unavailable the callback is refused, and a later retry is accepted."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        (tmp_path / "loop.db").rename(tmp_path / "away.db")
        with pytest.raises(StoreUnavailable):
            await loop.call_back(vtrix_body("completed"))
        (tmp_path / "away.db").rename(tmp_path / "loop.db")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).settled_by == "callback"
