"""Callbacks by the crowd: kept first, answered, and recorded right after, whoever reads the inbox."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from service.callbacks import inbox_worker
from service.callbacks import receiver as receive
from service.callbacks.inbox_worker import BUSY_BATCH, BUSY_DELAY, BUSY_FROM, InboxWorker
from service.callbacks.limits import BURST_RATE, BurstDetector
from service.domain.callback import Callback, read_body
from service.domain.errors import BadSignature, BadToken, NotSent, SchemaBehind, StoreUnavailable
from service.domain.ports.queues import Limits
from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task import Fact, Status, TaskId
from service.domain.task_update import TaskUpdate, UpdateResult
from service.domain.tokens import TokenClaims
from service.tasks.update_batch import UpdateBatch
from tests.support.scripted_provider import token_of, vtrix_body
from tests.support.task_loop import IN_DOUBT_FOR, SECOND, START, Loop, a_loop


@pytest.fixture(autouse=True)
def crowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every callback be one of a crowd."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: True)


class SameNonce:
    """A signature that is good, and always carries the same nonce."""

    def verify(self, *_: object) -> str:
        """Return the nonce."""
        return "n1"


async def recorded(loop: Loop) -> int:
    """Read the inbox to its end."""
    total = 0
    while count := await loop.inbox_worker.run_once():
        total += count
    return total


async def test_kept_callback_is_durable_before_anything_follows_from_it(tmp_path: Path) -> None:
    """Answered means kept: nothing is recorded yet, and a process that starts from the file alone records it."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.tell("up1")
        await loop.call_back(vtrix_body("completed"))
        assert await loop.callbacks() == {"unread": 1}
        assert (await loop.task(task.id)).hinted_at is None
        fresh = Loop(loop.store, loop.clock, loop.upstream, loop.options)
        assert await recorded(fresh) == 1
        assert await loop.callbacks() == {"accepted": 1}
        await fresh.poll_due()
        assert (await loop.task(task.id)).settled_by == "callback"


async def test_commit_of_a_crowd_is_one_line_that_names_its_tasks(tmp_path: Path) -> None:
    """The log tells who was called back, once for all that were kept together."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        token = token_of(loop.upstream.orders[0])
        with capture_logs() as lines, patch.object(receive, "log", structlog.get_logger()):
            await loop.called_back(token, json.dumps(vtrix_body("completed")).encode())
    assert [(line["event"], line["count"], line["tasks"]) for line in lines] == [("callbacks stored in inbox", 1, [task.id])]


async def test_process_that_reads_its_own_inbox_reads_a_body_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a callback means is remembered until it is recorded, for the newest ones; others are read once more."""
    read: list[bytes] = []

    def noting(claim: TokenClaims, body: bytes, **more: Any) -> Callback:
        read.append(body)
        return read_body(claim, body, **more)

    monkeypatch.setattr(inbox_worker, "read_body", noting)
    monkeypatch.setattr(inbox_worker, "MAX_CACHED", 2)
    async with a_loop(tmp_path, confirm=False) as loop:
        loop.inbox_worker.enable_cache()
        tasks = [await loop.submitted() for _ in range(3)]
        for order in range(3):
            await loop.call_back(vtrix_body("completed") | {"id": f"up{order + 1}"}, order=order)
        await recorded(loop)
        assert [json.loads(body)["id"] for body in read] == ["up1"]
        assert {(await loop.task(task.id)).status for task in tasks} == {Status.COMPLETED}


async def test_kept_callback_is_believed_without_confirmation(tmp_path: Path) -> None:
    """What follows from a kept callback is what follows from any other."""
    async with a_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        await recorded(loop)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by) == (Status.COMPLETED, "callback")
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]


async def test_repeats_are_kept_once(tmp_path: Path) -> None:
    """A repeat changes nothing, whether the first one is recorded already or not."""
    async with a_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        for _ in range(2):
            await loop.call_back(vtrix_body("completed"))
            await loop.call_back(vtrix_body("completed"))
            await recorded(loop)
        assert await loop.callbacks() == {"accepted": 1}
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]


async def test_reused_nonce_is_refused_by_the_inbox_too(tmp_path: Path) -> None:
    """A nonce vouches for one callback; its repeat is welcome, another one is a forgery."""
    async with a_loop(tmp_path, verifier=SameNonce()) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        await loop.call_back(vtrix_body("completed"))
        with pytest.raises(BadSignature):
            await loop.call_back(vtrix_body("failed"))
        assert await loop.callbacks() == {"unread": 1}


async def test_callback_for_an_unknown_task_is_quarantined_when_it_is_read(tmp_path: Path) -> None:
    """Nobody knows the task: the callback is kept for a person, and holds up nothing."""
    async with a_loop(tmp_path) as loop:
        token = loop.tokens.callback_token(TaskId("nobody"), 1, START + timedelta(hours=1))
        await loop.called_back(token, b'{"id": "x", "status": "completed"}')
        assert await recorded(loop) == 1
        assert await loop.callbacks() == {"quarantined": 1}


async def test_body_for_another_task_is_refused_before_it_is_kept(tmp_path: Path) -> None:
    """A crowd changes nothing about who is believed."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        foreign = loop.tokens.payload_token(TaskId("another"), 1)
        with pytest.raises(BadToken):
            await loop.call_back(vtrix_body("completed") | {"payload": foreign})
        assert await loop.callbacks() == {}


async def test_callback_that_cannot_be_recorded_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is set aside, counted as broken, and the poller settles its task; the others are recorded."""
    async with a_loop(tmp_path, confirm=False) as loop:
        tasks = [await loop.submitted() for _ in range(5)]
        for order in range(5):
            await loop.call_back(vtrix_body("completed") | {"id": f"up{order + 1}"}, order=order)
        update = InboxWorker._update

        def poisoned(self: InboxWorker, row: InboxEntry) -> TaskUpdate:
            if row.task_id == tasks[2].id:
                raise ValueError("unexpected")
            return update(self, row)

        monkeypatch.setattr(InboxWorker, "_update", poisoned)
        assert await recorded(loop) == 5
        assert await loop.callbacks() == {"accepted": 4, "broken": 1}
        assert [(await loop.task(task.id)).settled for task in tasks] == [True, True, False, True, True]
        loop.upstream.tell("up3")
        assert await loop.poll_due() == 1  # at once, as somebody has spoken of it
        assert (await loop.task(tasks[2].id)).status is Status.COMPLETED


async def test_database_that_fails_leaves_callbacks_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be recorded for want of the database is recorded later, and is not set aside."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))

        async def unavailable(*_: object, **__: object) -> list[UpdateResult]:
            raise StoreUnavailable("the disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(UpdateBatch, "write", unavailable)
            with pytest.raises(StoreUnavailable):
                await loop.inbox_worker.run_once()
        assert await loop.callbacks() == {"unread": 1}
        assert await recorded(loop) == 1


@pytest.mark.parametrize("fault", [SchemaBehind("migrate"), MemoryError()], ids=["schema", "memory"])
async def test_fault_that_is_no_callbacks_own_sets_none_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """While a migration runs, or memory is short, even one callback alone stays unread, and is recorded later."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))

        write = UpdateBatch.write

        async def impossible(*given: Any, from_inbox: bool = False) -> list[UpdateResult]:
            if from_inbox:
                raise fault
            return await write(*given)

        with monkeypatch.context() as broken:
            broken.setattr(UpdateBatch, "write", impossible)
            with pytest.raises(type(fault)):
                await loop.inbox_worker.run_once()
        assert await loop.callbacks() == {"unread": 1}
        assert await recorded(loop) == 1


async def test_patient_reader_leaves_fresh_callbacks_to_others(tmp_path: Path) -> None:
    """A process that only receives reads what nobody else has read for a while."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        assert await loop.inbox_worker.run_once(15 * SECOND) == 0
        loop.clock.move(15 * SECOND)
        assert await loop.inbox_worker.run_once(15 * SECOND) == 1


async def test_callback_of_a_later_time_is_read_all_the_same(tmp_path: Path) -> None:
    """A clock that was put back after a callback was kept lets nobody wait until it has caught up."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        loop.clock.move(-timedelta(hours=1))
        assert await loop.inbox_worker.run_once(timedelta(seconds=15)) == 1
        assert await loop.callbacks() == {"accepted": 1}


async def test_reading_gives_way_to_those_who_wait(tmp_path: Path) -> None:
    """While many callbacks wait for an answer, the inbox waits for a second, and is then read in little portions."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        for number in range(BUSY_BATCH + 1):
            await loop.call_back(vtrix_body("completed") | {"progress": number / 100})
        loop.inbox_worker.waiting = BUSY_FROM
        assert await loop.inbox_worker.run_once() == 0
        loop.clock.move(BUSY_DELAY)
        assert await loop.inbox_worker.run_once() == BUSY_BATCH
        loop.inbox_worker.waiting = BUSY_FROM - 1
        assert await loop.inbox_worker.run_once() == 1


async def test_waiting_callback_shows_in_the_gauges(tmp_path: Path) -> None:
    """Nothing waits silently: an unread callback is due."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        loop.clock.move(7 * SECOND)
        assert (await loop.store.health.gauges(loop.clock.now())).oldest_due == 7 * SECOND


class TestCrowd:
    """When callbacks come by the crowd."""

    @pytest.fixture(autouse=True)
    def crowded(self) -> None:
        """Take the real one, in place of the fixture above."""

    def test_few_are_no_crowd(self) -> None:
        """Exactly as many as leak out never fill the bucket."""
        crowd = BurstDetector()
        assert not any(crowd.observe(START + number * SECOND / BURST_RATE) for number in range(10 * BURST_RATE))

    def test_crowd_lasts_until_it_has_dispersed(self) -> None:
        """A sudden crowd is one from the callback after the last few on, and for as long as they keep coming."""
        crowd = BurstDetector()
        burst = [crowd.observe(START) for _ in range(5 * BURST_RATE)]
        assert burst == [False] * BURST_RATE + [True] * (4 * BURST_RATE)
        assert crowd.observe(START + SECOND / 2)
        assert not crowd.observe(START + 3 * SECOND)

    @given(st.lists(st.floats(-3600, 3600), max_size=50))
    def test_clocks_that_jump_do_no_harm(self, jumps: list[float]) -> None:
        """Whatever the clock does, the level stays between nothing and two seconds' worth."""
        crowd, now = BurstDetector(), START
        for jump in jumps:
            now += timedelta(seconds=jump)
            crowd.observe(now)
            assert 0 < crowd.level <= 2 * BURST_RATE


class TestSecondBill:
    """A callback that nobody has read yet keeps a task from being sent again, as one that is recorded does."""

    async def test_task_that_a_kept_callback_speaks_of_is_not_sent_again(self, tmp_path: Path) -> None:
        """What never left, as we were told, did leave when a callback about it waits in the inbox."""
        async with a_loop(tmp_path) as loop:
            loop.upstream.creates.append(NotSent("refused"))
            task = await loop.submitted()
            token = loop.tokens.callback_token(task.id, 1, loop.clock.now() + timedelta(hours=1))
            await loop.called_back(token, b'{"id": "up1", "status": "in_progress"}')
            loop.clock.move(timedelta(minutes=2))
            assert await loop.submit_due() == 0
            await recorded(loop)
            assert (await loop.task(task.id)).status is Status.IN_DOUBT

    async def test_reply_that_claims_otherwise_does_not_queue_it_again(self, tmp_path: Path) -> None:
        """A sweep or a reply finds the kept callback in the very commit that would queue the task again."""
        async with a_loop(tmp_path) as loop:
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
    async def test_doubtful_task_is_not_given_up_over_a_kept_callback(self, tmp_path: Path, resubmit: bool) -> None:
        """However long the process was away, what it has acknowledged counts before it gives a task up."""
        async with a_loop(tmp_path, resubmit_in_doubt=resubmit) as loop:
            task = await loop.in_doubt()
            await loop.call_back(vtrix_body("completed"))
            loop.upstream.tell("up1")
            loop.clock.move(IN_DOUBT_FOR)
            await loop.poll_due()
            assert (await loop.task(task.id)).status is Status.IN_DOUBT
            await recorded(loop)
            await loop.poll_due()
            assert (await loop.task(task.id)).status is Status.COMPLETED
            assert loop.upstream.bills == {task.id: 1}
