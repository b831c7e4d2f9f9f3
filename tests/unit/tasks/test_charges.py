"""What is counted for the day's budget over the life of a task."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from structlog.testing import capture_logs

from service.domain.prices import Pricing
from service.domain.submission_limits import Limits
from service.domain.task import Fact, Status, TaskError, Usage
from service.tasks import update_batch
from tests.support.scripted_provider import DONE
from tests.support.task_loop import IN_DOUBT_FOR, MINUTE, Loop, open_loop

FAILED = Fact(status=Status.FAILED, error=TaskError(code="x", message="y"))


async def counted(loop: Loop) -> float:
    """Return what counts for today's budget, with BUDGET_EACH of one dollar."""
    return sum((await loop.store.tasks.spent_today(loop.clock.now(), budget_each=1.0)).values())


async def test_lost_submission_that_is_repeated_counts_twice(tmp_path: Path) -> None:
    """With ON_IN_DOUBT=resubmit the first submission counts as billed, beside the second one."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        task = await loop.in_doubt()
        assert await counted(loop) == 1.0
        loop.upstream.creates.append(DONE)
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 2 * MINUTE)
        after = await loop.task(task.id)
        assert (after.status, after.cost, after.resubmissions) == (Status.COMPLETED, 0.35, 1)
        assert loop.upstream.charges == {task.id: 2}
        assert await counted(loop) == pytest.approx(0.70)


async def test_budget_holds_from_the_first_task(tmp_path: Path) -> None:
    """Of 40 tasks of 0.35 dollars under a budget of 1, one goes out at first and one more once the price is known."""
    async with open_loop(tmp_path, limits=Limits(budget=1.0)) as loop:
        for _ in range(40):
            await loop.accept()
        await loop.submit_due()
        assert loop.upstream.charges.total() == 1
        loop.upstream.set_fact("up1")
        loop.clock.move(MINUTE)
        await loop.poll_due()
        await loop.submit_due()
        await loop.submit_due()
        assert loop.upstream.charges.total() == 2


async def test_second_submission_waits_for_the_budget(tmp_path: Path) -> None:
    """A repetition does not go out past the budget, and while it waits, its first submission counts."""
    async with open_loop(tmp_path, resubmit_in_doubt=True, limits=Limits(budget=1.5)) as loop:
        task = await loop.in_doubt()
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + MINUTE)
        assert (await loop.task(task.id)).status is Status.QUEUED
        assert loop.upstream.charges == {task.id: 1}
        assert await counted(loop) == 1.0


@pytest.mark.parametrize("wait", [0 * MINUTE, IN_DOUBT_FOR + MINUTE])
async def test_task_that_a_client_submits_again_counts_twice(tmp_path: Path, wait: timedelta) -> None:
    """The old task counts while it is in doubt and after it failed as unknown, the new one beside it."""
    async with open_loop(tmp_path) as loop:
        old = await loop.in_doubt()
        await loop.run_until(loop.clock.now() + wait)
        new = await loop.task_service.resubmit(old.id)
        loop.upstream.creates.append(DONE)
        await loop.submit_due()
        assert (await loop.task(new.id)).status is Status.COMPLETED
        assert await counted(loop) == pytest.approx(0.70)


async def test_failed_task_counts_what_it_was_billed(tmp_path: Path) -> None:
    """A failure that names a cost counts it, one without a cost counts nothing."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(FAILED)
        await loop.submitted()
        assert await counted(loop) == 0
        loop.upstream.creates.append(replace(FAILED, usage=Usage(cost="0.31")))
        await loop.submitted()
        assert await counted(loop) == pytest.approx(0.31)


async def test_credits_count_in_dollars(tmp_path: Path) -> None:
    """Credits are counted at CREDIT_PRICE from the create reply on; the task's usage shows no dollars."""
    async with open_loop(tmp_path, pricing=Pricing(credit_price=0.005)) as loop:
        loop.upstream.creates.append(Fact(status=Status.IN_PROGRESS, usage=Usage(), credits=70))
        task = await loop.submitted()
        assert (task.status, task.usage) == (Status.IN_PROGRESS, Usage())
        assert task.cost == pytest.approx(0.35)
        assert await counted(loop) == pytest.approx(0.35)


async def test_expired_task_counts(tmp_path: Path) -> None:
    """A task without a result in time may still be billed."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.clock.move(125 * MINUTE)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.EXPIRED
        assert await counted(loop) == 1.0


@pytest.mark.parametrize(
    ("fact", "fault"),
    [
        (replace(DONE, usage=Usage(cost="10000")), "implausible"),
        (replace(DONE, usage=None, faulty_cost=True), "unreadable"),
        (DONE, None),
    ],
)
async def test_absurd_cost_is_logged_and_counted(tmp_path: Path, fact: Fact, fault: str | None) -> None:
    """A cost that cannot be right is a warning with its task and a metric, and counts as the usual price."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(fact)
        with capture_logs() as lines, patch.object(update_batch, "log", structlog.get_logger()):
            task = await loop.submitted()
        warnings = [line for line in lines if line["event"] == "cost reported by the provider ignored"]
        assert [(line["task"], line["reason"]) for line in warnings] == ([(task.id, fault)] if fault else [])
        assert dict(loop.recorder.cost_faults) == ({fault: 1} if fault else {})
        assert await counted(loop) == pytest.approx(1.0 if fault else 0.35)


async def test_absurd_cost_does_not_stop_the_others(tmp_path: Path) -> None:
    """After a cost of a billion the budget still lets out what it would have let out."""
    async with open_loop(tmp_path, limits=Limits(budget=5.0)) as loop:
        loop.upstream.creates.append(replace(DONE, usage=Usage(cost="1000000000")))
        await loop.submitted()
        for _ in range(3):
            loop.upstream.creates.append(DONE)
            assert (await loop.submitted()).status is Status.COMPLETED
