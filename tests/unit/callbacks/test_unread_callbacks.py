"""An unread callback prevents a duplicate charge as a recorded one does."""

from datetime import timedelta
from pathlib import Path

import pytest

from service.callbacks.limits import BurstDetector
from service.domain.errors import NotSent
from service.domain.submission_limits import Limits
from service.domain.task import Fact, Status
from service.domain.task_update import TaskUpdate
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import IN_DOUBT_FOR, SECOND, Loop, open_loop


@pytest.fixture(autouse=True)
def burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every callback as part of a burst."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: True)


async def process_inbox(loop: Loop) -> None:
    """Process the inbox until it is empty."""
    while await loop.inbox_worker.run_once():
        pass


async def test_task_with_an_unread_callback_is_not_sent_again(tmp_path: Path) -> None:
    """A submission that seemed not to be sent was sent if a callback for it waits in the inbox."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(NotSent("refused"))
        task = await loop.submitted()
        token = loop.tokens.callback_token(task.id, 1, loop.clock.now() + timedelta(hours=1))
        await loop.called_back(token, b'{"id": "up1", "status": "in_progress"}')
        loop.clock.move(timedelta(minutes=2))
        assert await loop.submit_due() == 0
        await process_inbox(loop)
        assert (await loop.task(task.id)).status is Status.IN_DOUBT


async def test_requeue_finds_the_unread_callback(tmp_path: Path) -> None:
    """A sweep or a reply finds the stored callback in the commit that would queue the task again."""
    async with open_loop(tmp_path) as loop:
        task = await loop.accept()
        (claimed,) = await loop.store.tasks.claim_submissions(
            now=loop.clock.now(), until=loop.clock.now() + 30 * SECOND, limit=1, limits=Limits()
        )
        token = loop.tokens.callback_token(task.id, 1, loop.clock.now() + timedelta(hours=1))
        await loop.called_back(token, b'{"id": "up1", "status": "in_progress"}')
        again = Fact(status=Status.QUEUED, guessed=True)
        entry = TaskUpdate(task_id=task.id, fact=again, fence=claimed.fence, requires_lease=True, tried=True)
        await loop.recorder.add(entry)
        assert (await loop.task(task.id)).status is Status.IN_DOUBT


@pytest.mark.parametrize("resubmit", [False, True])
async def test_doubt_does_not_end_before_the_callback_is_read(tmp_path: Path, resubmit: bool) -> None:
    """After any downtime, acknowledged callbacks are recorded before a task in doubt fails or is resubmitted."""
    async with open_loop(tmp_path, resubmit_in_doubt=resubmit) as loop:
        task = await loop.in_doubt()
        await loop.call_back(vtrix_body("completed"))
        loop.upstream.set_fact("up1")
        loop.clock.move(IN_DOUBT_FOR)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        await process_inbox(loop)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert loop.upstream.charges == {task.id: 1}
