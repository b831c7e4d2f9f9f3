"""Callbacks over the real store: early, late, doubled, reordered, unknown, unreadable, forged."""

from datetime import datetime
from pathlib import Path

import pytest

from service.domain.errors import BadSignature, BadToken, StoreUnavailable, UnreadableBody
from service.domain.task import Status, TaskId
from tests.support.scripted_provider import DONE, TOKENS, vtrix_body
from tests.support.task_loop import DEADLINE, HOUR, MINUTE, SECOND, a_loop


async def test_callback_is_a_hint_and_the_get_decides(tmp_path: Path) -> None:
    """With confirmation the callback makes the task due at once, and the GET's word is booked as the callback's."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.tell("up1")
        await loop.call_back(vtrix_body("completed", output=[{"content": [{"url": "https://liar.example/x.mp4"}]}]))
        hinted = await loop.task(task.id)
        assert (hinted.status, hinted.due_at) == (Status.IN_PROGRESS, loop.clock.now())
        await loop.poll_due()
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.output) == (Status.COMPLETED, "callback", DONE.output)
        assert not after.unconfirmed


async def test_false_callback_changes_nothing(tmp_path: Path) -> None:
    """A callback that claims an end which the GET does not confirm leaves the task in progress."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("failed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_callback_is_believed_without_confirmation(tmp_path: Path) -> None:
    """With CONFIRM=never the body of a verified callback settles the task, and nothing is asked."""
    async with a_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.due_at) == (Status.COMPLETED, "callback", None)
        assert not loop.upstream.asked


@pytest.mark.parametrize("confirm", [True, False])
async def test_doubled_callback_settles_once(tmp_path: Path, confirm: bool) -> None:
    """The same callback thrice is received thrice without complaint, kept once, and settles once."""
    async with a_loop(tmp_path, confirm=confirm) as loop:
        task = await loop.submitted()
        loop.upstream.tell("up1")
        for _ in range(3):
            await loop.call_back(vtrix_body("completed"))
            await loop.poll_due()
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]
        assert await loop.callbacks() == {"accepted": 1}


async def test_repeat_asks_nothing_new(tmp_path: Path) -> None:
    """A callback that was recorded already changes nothing: whoever repeats it draws no question to the upstream."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        before = await loop.task(task.id)
        await loop.call_back(vtrix_body("completed"))
        assert await loop.task(task.id) == before
        assert await loop.poll_due() == 0


@pytest.mark.parametrize("confirm", [True, False])
async def test_reordered_callbacks_do_not_go_back(tmp_path: Path, confirm: bool) -> None:
    """A late "processing" after the end is received, and the task stays settled."""
    async with a_loop(tmp_path, confirm=confirm) as loop:
        task = await loop.submitted()
        loop.upstream.tell("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.call_back(vtrix_body("processing", progress=0.5))
        await loop.poll_due()
        after = await loop.task(task.id)
        assert (after.status, after.settled_by) == (Status.COMPLETED, "callback")


async def test_news_of_progress_puts_no_question_off(tmp_path: Path) -> None:
    """A callback that only says "processing" never moves the next poll to a later time."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        due_at = task.due_at
        loop.clock.move(10 * SECOND)
        await loop.call_back(vtrix_body("processing", progress=0.25))
        after = await loop.task(task.id)
        assert (after.progress, after.due_at) == (0.25, due_at)


async def test_late_callback_overrules_expiry(tmp_path: Path) -> None:
    """A task that expired is still listened to: the callback and the GET bring its result."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.run_until(loop.clock.now() + DEADLINE + MINUTE, by=5 * MINUTE)
        assert (await loop.task(task.id)).status is Status.EXPIRED
        loop.upstream.tell("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert await loop.happened(task.id) == ["task.submitted", "task.expired", "task.completed"]


async def test_unknown_task_is_quarantined_and_counted(tmp_path: Path) -> None:
    """A validly signed callback for a task that is not in this database is kept apart, once, and changes nothing."""
    async with a_loop(tmp_path) as loop:
        token = TOKENS.callback_token(TaskId("of-another-database"), 1, loop.clock.now() + HOUR)
        for _ in range(2):
            await loop.called_back(token, b'{"id": "up1", "status": "completed"}')
        assert await loop.callbacks() == {"quarantined": 1}


async def test_unreadable_body_makes_the_task_due_at_once(tmp_path: Path) -> None:
    """Half a body with a good token is refused as unreadable, and the upstream is asked what it meant."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.tell("up1")
        with pytest.raises(UnreadableBody):
            await loop.call_back(b'{"id": "up1", "stat')
        assert await loop.poll_due() == 1
        after = await loop.task(task.id)
        assert (after.status, after.settled_by) == (Status.COMPLETED, "poll")
        assert await loop.callbacks() == {"unreadable": 1}


async def test_payload_of_another_task_is_refused(tmp_path: Path) -> None:
    """A body that carries another task's payload token is a forgery: nothing is kept, nothing changes."""
    async with a_loop(tmp_path) as loop:
        task, other = await loop.submitted(), await loop.submitted()
        before = await loop.task(task.id)
        foreign = TOKENS.payload_token(other.id, 1)
        with pytest.raises(BadToken):
            await loop.call_back(vtrix_body("completed", payload=foreign), order=0)
        assert await loop.task(task.id) == before
        assert await loop.callbacks() == {}


async def test_bad_token_changes_nothing(tmp_path: Path) -> None:
    """A token in the callback's address that we did not sign is refused before anything is written."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        with pytest.raises(BadToken):
            await loop.called_back(TOKENS.payload_token(task.id, 1), b"{}")
        assert await loop.callbacks() == {}
        assert await loop.task(task.id) == task


class OneNonce:
    """A verifier that finds the same nonce in every callback."""

    def verify(self, headers: object, now: datetime) -> str:
        """Return the nonce."""
        assert headers is not None
        assert now.tzinfo
        return "nonce-1"


async def test_nonce_is_good_for_one_body(tmp_path: Path) -> None:
    """A retry of the same callback may carry its nonce; another body under it is a forgery that changes nothing."""
    async with a_loop(tmp_path, confirm=False, verifier=OneNonce()) as loop:
        task = await loop.submitted()
        for _ in range(2):
            await loop.call_back(vtrix_body("processing", progress=0.5))
        with pytest.raises(BadSignature):
            await loop.call_back(vtrix_body("failed"))
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert await loop.callbacks() == {"accepted": 1}


async def test_no_answer_before_it_is_durable(tmp_path: Path) -> None:
    """While the database is away the callback is refused as unavailable, and a later try is taken."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.tell("up1")
        (tmp_path / "loop.db").rename(tmp_path / "away.db")
        with pytest.raises(StoreUnavailable):
            await loop.call_back(vtrix_body("completed"))
        (tmp_path / "away.db").rename(tmp_path / "loop.db")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).settled_by == "callback"
