"""Reconciling over the real store: every task settles, though no callback ever comes."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.domain.errors import ProviderUnavailable, Refused, Throttled
from service.domain.task import Fact, Status
from tests.support.scripted_provider import DONE, vtrix_body
from tests.support.task_loop import DEADLINE, IN_DOUBT_FOR, LEASE, MINUTE, PATIENCE, SECOND, a_loop, a_world
from tests.support.wait_until_idle import ended


async def test_poll_finishes_a_task_without_any_callback(tmp_path: Path) -> None:
    """Progress is told and never goes back, the end is booked as the poll's, and the run time is learned from."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        for progress in (0.5, 0.25):
            loop.upstream.tell("up1", Fact(status=Status.IN_PROGRESS, progress=progress))
            await loop.run_until(loop.clock.now() + 30 * SECOND, by=30 * SECOND)
            assert (await loop.task(task.id)).progress == 0.5
        loop.upstream.tell("up1")
        await loop.run_until(loop.clock.now() + 30 * SECOND, by=30 * SECOND)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.due_at) == (Status.COMPLETED, "poll", None)
        assert await loop.happened(task.id) == ["task.submitted", "task.progressed", "task.completed"]
        runs = await loop.store.run_time_stats.run_times(per_bucket=10)
        assert [(run.bucket, run.called_back) for run in runs] == [(task.bucket, False)]


async def test_settled_task_is_asked_about_no_more(tmp_path: Path) -> None:
    """Nothing is due once the upstream's own word stands."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        loop.upstream.tell("up1")
        await loop.run_until(loop.clock.now() + MINUTE)
        asked = len(loop.upstream.asked)
        await loop.run_until(loop.clock.now() + DEADLINE, by=10 * MINUTE)
        assert len(loop.upstream.asked) == asked


@pytest.mark.parametrize(
    "error", [ProviderUnavailable("HTML"), Throttled("slow"), Refused("401", "key"), RuntimeError("ours")]
)
async def test_no_answer_is_no_fact_about_the_task(tmp_path: Path, error: Exception) -> None:
    """Whatever goes wrong with a question, the task stays as it is, is asked about again, and expires in time."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.fetches.extend([error] * 1000)
        with capture_logs():  # a traceback for each of them takes long to draw
            await loop.run_until(task.deadline_at - MINUTE, by=10 * MINUTE)
            waiting = await loop.task(task.id)
            await loop.run_until(task.deadline_at + MINUTE)
        assert waiting.status is Status.IN_PROGRESS
        assert waiting.due_at is not None
        assert (await loop.task(task.id)).status is Status.EXPIRED


# ── deadlines ────────────────────────────────────────────────────────────────


async def test_queued_task_expires(tmp_path: Path) -> None:
    """What never got its turn expires at its deadline, and is not submitted afterwards."""
    async with a_loop(tmp_path) as loop:
        task = await loop.accept()
        loop.clock.move(DEADLINE)
        await loop.poll_due()
        assert await loop.submit_due() == 0
        after = await loop.task(task.id)
        assert (after.status, after.guessed, after.due_at) == (Status.EXPIRED, True, None)


async def test_abandoned_submission_comes_to_an_end(tmp_path: Path) -> None:
    """A submission whose worker died is swept, and ends as unknown: nothing waits for ever."""
    async with a_world(tmp_path) as world:
        dead, alive = world.process(), world.process()
        world.upstream.line = asyncio.Event()
        task = await dead.accept()
        await dead.submit.round()
        async with asyncio.timeout(PATIENCE):
            await world.upstream.arrived.wait()
        await alive.run_until(world.clock.now() + IN_DOUBT_FOR + 2 * MINUTE)
        after = await alive.task(task.id)
        assert after.error is not None
        assert (after.status, after.error.code) == (Status.FAILED, "submission_unknown")


async def test_expired_task_is_still_asked_and_a_later_result_wins(tmp_path: Path) -> None:
    """At its deadline the task expires; the upstream's word comes hours later and overrules that."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.run_until(task.deadline_at, by=10 * MINUTE)
        assert (await loop.task(task.id)).status is Status.EXPIRED
        loop.upstream.tell("up1")
        await loop.run_until(task.deadline_at + DEADLINE, by=10 * MINUTE)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.guessed) == (Status.COMPLETED, "poll", False)
        assert await loop.happened(task.id) == ["task.submitted", "task.expired", "task.completed"]


@pytest.mark.parametrize("lists", [True, False])
async def test_doubtful_task_ends_by_its_deadline(tmp_path: Path, lists: bool) -> None:
    """In doubt, with a list that is unwell or with none, and a callback that says it lives: it ends at its deadline."""
    async with a_loop(tmp_path, lists=lists) as loop:
        task = await loop.in_doubt()
        loop.upstream.payloads.clear()
        loop.upstream.knows = False
        await loop.call_back(vtrix_body("processing", "of-vidu"))
        await loop.run_until(task.deadline_at - MINUTE, by=5 * MINUTE)
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        await loop.run_until(task.deadline_at + MINUTE)
        assert (await loop.task(task.id)).status in {Status.FAILED, Status.EXPIRED}


async def test_our_conclusions_are_asked_about_seldom(tmp_path: Path) -> None:
    """After a guessed failure past its deadline the upstream is asked at growing pauses, not in every round."""
    async with a_loop(tmp_path) as loop:
        task = await loop.in_doubt()
        loop.upstream.knows = False
        await loop.call_back(vtrix_body("completed", "of-vidu"))
        await loop.run_until(task.deadline_at + MINUTE, by=10 * MINUTE)
        after = await loop.task(task.id)
        assert (after.status, after.guessed) == (Status.FAILED, True)
        asked = len(loop.upstream.asked)
        await loop.run_until(loop.clock.now() + 4 * 60 * MINUTE, by=MINUTE)
        assert len(loop.upstream.asked) - asked <= 15


# ── leases ───────────────────────────────────────────────────────────────────


async def test_abandoned_poll_is_claimed_again(tmp_path: Path) -> None:
    """A poll whose worker died is due again once its lease is past, and the late answer does no harm."""
    async with a_world(tmp_path) as world:
        slow, other = world.process(), world.process()
        task = await slow.submitted()
        world.clock.move(MINUTE)
        world.upstream.fetch_line = asyncio.Event()
        await slow.reconcile.round()
        async with asyncio.timeout(PATIENCE):
            await world.upstream.arrived.wait()
        line, world.upstream.fetch_line = world.upstream.fetch_line, None
        assert await other.poll_due() == 0
        world.clock.move(LEASE)
        world.upstream.tell("up1")
        assert await other.poll_due() == 1
        before = await other.task(task.id)
        assert before.status is Status.COMPLETED
        line.set()
        await ended(slow.reconcile)
        assert replace(await other.task(task.id), polls=before.polls) == before
        assert await other.happened(task.id) == ["task.submitted", "task.completed"]


async def test_stop_gives_polls_back(tmp_path: Path) -> None:
    """A question that is cut off leaves its task free and due at once."""
    async with a_world(tmp_path) as world:
        first, second = world.process(), world.process()
        task = await first.submitted()
        world.clock.move(MINUTE)
        world.upstream.fetch_line = asyncio.Event()
        await first.reconcile.round()
        async with asyncio.timeout(PATIENCE):
            await world.upstream.arrived.wait()
        await first.reconcile.drain(0)
        after = await second.task(task.id)
        assert (after.leased_until, after.due_at) == (None, world.clock.now())
        world.upstream.fetch_line = None
        assert await second.poll_due() == 1


async def test_polls_keep_to_the_budget(tmp_path: Path) -> None:
    """No more questions are begun than may go at once."""
    async with a_loop(tmp_path) as loop:
        for _ in range(3):
            await loop.submitted()
        loop.clock.move(MINUTE)
        loop.upstream.free = 2
        assert await loop.poll_due() == 2
        loop.upstream.free = 0
        assert await loop.poll_due() == 0


async def test_learned_run_times_bring_the_first_poll_forward(tmp_path: Path) -> None:
    """What past tasks of the bucket took, callbacks lost, decides when the next one is asked about first."""
    async with a_loop(tmp_path) as loop:
        for number in range(1, 6):
            task = await loop.submitted()
            loop.clock.move(8 * SECOND)
            loop.upstream.tell(f"up{number}")
            await loop.run_until(loop.clock.now() + MINUTE)
            assert (await loop.task(task.id)).settled
        cold = (await loop.store.run_time_stats.run_times(per_bucket=10))[0].seconds
        await loop.reconcile.update_estimates()
        learned = loop.planner.learned[task.bucket]
        assert (learned.count, learned.lost_share) == (5, 1.0)
        assert learned.usual <= cold


async def test_prune_forgets_old_callbacks_only(tmp_path: Path) -> None:
    """Raw callbacks of tasks settled longer ago than the retention go; the tasks stay."""
    async with a_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        assert await loop.reconcile.prune() == 0
        loop.clock.move(31 * 24 * 60 * MINUTE)
        assert await loop.reconcile.prune() > 0
        assert await loop.callbacks() == {}
        assert (await loop.task(task.id)).settled


# ── results ──────────────────────────────────────────────────────────────────


async def test_unknown_id_right_after_the_create_is_no_end(tmp_path: Path) -> None:
    """A GET that does not know the task yet settles nothing."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.knows = False
        await loop.run_until(loop.clock.now() + MINUTE)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert await loop.happened(task.id, "poll") == ["unknown"]


async def test_upstreams_word_is_not_changed_by_ours(tmp_path: Path) -> None:
    """A completed task stays completed, whatever is recorded later."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.creates.append(DONE)
        task = await loop.submitted()
        loop.upstream.tell("up1", Fact(status=Status.FAILED))
        await loop.call_back(vtrix_body("failed"))
        await loop.run_until(loop.clock.now() + DEADLINE + MINUTE, by=10 * MINUTE)
        assert await loop.task(task.id) == task
        assert loop.upstream.asked == []
