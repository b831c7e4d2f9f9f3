"""Polling over a real store: every task settles, even without any callback."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from service.domain.errors import ProviderUnavailable, Refused, Throttled
from service.domain.task import Fact, Status
from tests.support.scripted_provider import DONE, vtrix_body
from tests.support.task_loop import DEADLINE, IN_DOUBT_FOR, LEASE, MINUTE, SECOND, TIMEOUT, open_environment, open_loop
from tests.support.wait_until_idle import ended


async def test_poll_finishes_a_task_without_any_callback(tmp_path: Path) -> None:
    """Progress never decreases, the end is attributed to the poll, and the run time is stored."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        for progress in (0.5, 0.25):
            loop.upstream.set_fact("up1", Fact(status=Status.IN_PROGRESS, progress=progress))
            await loop.run_until(loop.clock.now() + 30 * SECOND, by=30 * SECOND)
            assert (await loop.task(task.id)).progress == 0.5
        loop.upstream.set_fact("up1")
        await loop.run_until(loop.clock.now() + 30 * SECOND, by=30 * SECOND)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.due_at) == (Status.COMPLETED, "poll", None)
        assert await loop.happened(task.id) == ["task.submitted", "task.progressed", "task.completed"]
        runs = await loop.store.run_time_stats.run_times(per_bucket=10)
        assert [(run.bucket, run.called_back) for run in runs] == [(task.bucket, False)]


async def test_settled_task_is_not_polled(tmp_path: Path) -> None:
    """No poll is due after the provider reported a terminal status."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        loop.upstream.set_fact("up1")
        await loop.run_until(loop.clock.now() + MINUTE)
        polled = len(loop.upstream.polled)
        await loop.run_until(loop.clock.now() + DEADLINE, by=10 * MINUTE)
        assert len(loop.upstream.polled) == polled


@pytest.mark.parametrize(
    "error", [ProviderUnavailable("HTML"), Throttled("slow"), Refused("401", "key"), RuntimeError("ours")]
)
async def test_failed_poll_changes_nothing(tmp_path: Path, error: Exception) -> None:
    """After any error of a poll the task is unchanged, is polled again, and expires at its deadline."""
    async with open_loop(tmp_path) as loop:
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
    """A task that is never submitted expires at its deadline, and is not submitted afterwards."""
    async with open_loop(tmp_path) as loop:
        task = await loop.accept()
        loop.clock.move(DEADLINE)
        await loop.poll_due()
        assert await loop.submit_due() == 0
        after = await loop.task(task.id)
        assert (after.status, after.guessed, after.due_at) == (Status.EXPIRED, True, None)


async def test_abandoned_submission_ends(tmp_path: Path) -> None:
    """A submission whose worker crashed is swept, and fails as unknown."""
    async with open_environment(tmp_path) as environment:
        dead, alive = environment.process(), environment.process()
        environment.upstream.reply_gate = asyncio.Event()
        task = await dead.accept()
        await dead.submitter.run_once()
        async with asyncio.timeout(TIMEOUT):
            await environment.upstream.arrived.wait()
        await alive.run_until(environment.clock.now() + IN_DOUBT_FOR + 2 * MINUTE)
        after = await alive.task(task.id)
        assert after.error is not None
        assert (after.status, after.error.code) == (Status.FAILED, "submission_unknown")


async def test_later_result_overrules_expiry(tmp_path: Path) -> None:
    """A task expires at its deadline and is polled further; a result hours later overrules the expiry."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.run_until(task.deadline_at, by=10 * MINUTE)
        assert (await loop.task(task.id)).status is Status.EXPIRED
        loop.upstream.set_fact("up1")
        await loop.run_until(task.deadline_at + DEADLINE, by=10 * MINUTE)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.guessed) == (Status.COMPLETED, "poll", False)
        assert await loop.happened(task.id) == ["task.submitted", "task.expired", "task.completed"]


@pytest.mark.parametrize("lists", [True, False])
async def test_task_in_doubt_ends_by_its_deadline(tmp_path: Path, lists: bool) -> None:
    """With an unavailable list or none, and a callback that reports progress, a task in doubt ends at its deadline."""
    async with open_loop(tmp_path, lists=lists) as loop:
        task = await loop.in_doubt()
        loop.upstream.payloads.clear()
        loop.upstream.knows_ids = False
        await loop.call_back(vtrix_body("processing", "of-vidu"))
        await loop.run_until(task.deadline_at - MINUTE, by=5 * MINUTE)
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        await loop.run_until(task.deadline_at + MINUTE)
        assert (await loop.task(task.id)).status in {Status.FAILED, Status.EXPIRED}


async def test_guessed_failure_is_polled_rarely(tmp_path: Path) -> None:
    """After a guessed failure past the deadline, the pauses between polls grow."""
    async with open_loop(tmp_path) as loop:
        task = await loop.in_doubt()
        loop.upstream.knows_ids = False
        await loop.call_back(vtrix_body("completed", "of-vidu"))
        await loop.run_until(task.deadline_at + MINUTE, by=10 * MINUTE)
        after = await loop.task(task.id)
        assert (after.status, after.guessed) == (Status.FAILED, True)
        polled = len(loop.upstream.polled)
        await loop.run_until(loop.clock.now() + 4 * 60 * MINUTE, by=MINUTE)
        assert len(loop.upstream.polled) - polled <= 15


# ── leases ───────────────────────────────────────────────────────────────────


async def test_abandoned_poll_is_claimed_again(tmp_path: Path) -> None:
    """A poll whose worker crashed is due again after its lease, and the late result does no harm."""
    async with open_environment(tmp_path) as environment:
        slow, other = environment.process(), environment.process()
        task = await slow.submitted()
        environment.clock.move(MINUTE)
        environment.upstream.poll_gate = asyncio.Event()
        await slow.poller.run_once()
        async with asyncio.timeout(TIMEOUT):
            await environment.upstream.arrived.wait()
        line, environment.upstream.poll_gate = environment.upstream.poll_gate, None
        assert await other.poll_due() == 0
        environment.clock.move(LEASE)
        environment.upstream.set_fact("up1")
        assert await other.poll_due() == 1
        before = await other.task(task.id)
        assert before.status is Status.COMPLETED
        line.set()
        await ended(slow.poller)
        assert replace(await other.task(task.id), polls=before.polls) == before
        assert await other.happened(task.id) == ["task.submitted", "task.completed"]


async def test_shutdown_releases_polls(tmp_path: Path) -> None:
    """A cancelled poll leaves its task without a lease and due at once."""
    async with open_environment(tmp_path) as environment:
        first, second = environment.process(), environment.process()
        task = await first.submitted()
        environment.clock.move(MINUTE)
        environment.upstream.poll_gate = asyncio.Event()
        await first.poller.run_once()
        async with asyncio.timeout(TIMEOUT):
            await environment.upstream.arrived.wait()
        await first.poller.drain(0)
        after = await second.task(task.id)
        assert (after.leased_until, after.due_at) == (None, environment.clock.now())
        environment.upstream.poll_gate = None
        assert await second.poll_due() == 1


async def test_polls_respect_the_rate_limit(tmp_path: Path) -> None:
    """No more polls start than the rate limiter allows."""
    async with open_loop(tmp_path) as loop:
        for _ in range(3):
            await loop.submitted()
        loop.clock.move(MINUTE)
        loop.upstream.free = 2
        assert await loop.poll_due() == 2
        loop.upstream.free = 0
        assert await loop.poll_due() == 0


async def test_estimates_make_the_first_poll_earlier(tmp_path: Path) -> None:
    """Past run times of the bucket, with lost callbacks, determine the time of the first poll."""
    async with open_loop(tmp_path) as loop:
        for number in range(1, 6):
            task = await loop.submitted()
            loop.clock.move(8 * SECOND)
            loop.upstream.set_fact(f"up{number}")
            await loop.run_until(loop.clock.now() + MINUTE)
            assert (await loop.task(task.id)).settled
        cold = (await loop.store.run_time_stats.run_times(per_bucket=10))[0].seconds
        await loop.poller.update_estimates()
        estimate = loop.planner.estimates[task.bucket]
        assert (estimate.count, estimate.lost_share) == (5, 1.0)
        assert estimate.median <= cold


async def test_prune_deletes_old_callbacks_only(tmp_path: Path) -> None:
    """Raw callbacks of tasks settled before the retention period are deleted; the tasks stay."""
    async with open_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        assert await loop.poller.prune() == 0
        loop.clock.move(31 * 24 * 60 * MINUTE)
        assert await loop.poller.prune() > 0
        assert await loop.callbacks() == {}
        assert (await loop.task(task.id)).settled


# ── results ──────────────────────────────────────────────────────────────────


async def test_unknown_id_after_the_create_does_not_settle(tmp_path: Path) -> None:
    """A poll that does not find the task yet changes nothing."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.knows_ids = False
        await loop.run_until(loop.clock.now() + MINUTE)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert await loop.happened(task.id, "poll") == ["unknown"]


async def test_completed_task_is_final(tmp_path: Path) -> None:
    """A completed task stays completed, whatever is recorded later."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(DONE)
        task = await loop.submitted()
        loop.upstream.set_fact("up1", Fact(status=Status.FAILED))
        await loop.call_back(vtrix_body("failed"))
        await loop.run_until(loop.clock.now() + DEADLINE + MINUTE, by=10 * MINUTE)
        assert await loop.task(task.id) == task
        assert loop.upstream.polled == []
