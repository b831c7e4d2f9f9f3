"""Lost replies, and what becomes of them, over the real store."""

from pathlib import Path

from service.core.task import Status
from service.errors import ReplyLost, Unwell
from service.reconcile import SECOND_BILL
from tests.unit.loops import (
    IN_DOUBT_FOR,
    MINUTE,
    SECOND,
    a_loop,
)
from tests.unit.scripted import vtrix_body


async def test_list_resolves_a_lost_reply(tmp_path: Path) -> None:
    """Where the provider has a list, the submission is found there by its payload and goes on with its id."""
    async with a_loop(tmp_path, lists=True) as loop:
        task = await loop.in_doubt()
        await loop.run_until(loop.clock.now() + 30 * SECOND, by=10 * SECOND)
        found = await loop.task(task.id)
        assert (found.status, found.upstream_id, loop.upstream.looked) == (Status.IN_PROGRESS, "up1", 1)
        assert loop.upstream.bills == {task.id: 1}


async def test_unwell_list_is_no_proof_that_nothing_was_billed(tmp_path: Path) -> None:
    """A list that cannot be read does not end the doubt, and is not looked into in every round."""
    async with a_loop(tmp_path, lists=True) as loop:
        task = await loop.in_doubt()
        loop.upstream.list_error = Unwell("HTML")
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 10 * MINUTE, by=5 * SECOND)
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        assert loop.upstream.looked <= 25 * 3 + 1
        loop.upstream.list_error = None
        await loop.run_until(loop.clock.now() + MINUTE)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_truth_overrules_submission_unknown(tmp_path: Path) -> None:
    """After the guess that the submission is unknown, a callback and the GET still bring the result."""
    async with a_loop(tmp_path) as loop:
        task = await loop.in_doubt()
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + MINUTE)
        assert (await loop.task(task.id)).status is Status.FAILED
        loop.upstream.tell("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        after = await loop.task(task.id)
        assert (after.status, after.guessed, after.error) == (Status.COMPLETED, False, None)
        assert await loop.happened(task.id) == [
            "task.in_doubt",
            "task.failed",
            "task.submitted",
            "task.completed",
        ]


async def test_operators_yes_is_to_a_second_bill_and_not_to_a_third(tmp_path: Path) -> None:
    """ON_IN_DOUBT=resubmit queues the task again once, with a warning; lost once more, it fails."""
    async with a_loop(tmp_path, resubmit_in_doubt=True) as loop:
        loop.upstream.creates.extend([ReplyLost("time-out")] * 5)
        task = await loop.submitted()
        await loop.run_until(task.deadline_at + MINUTE, by=MINUTE)
        after = await loop.task(task.id)
        assert (after.status, after.submission, after.warnings) == (Status.FAILED, 2, (SECOND_BILL,))
        assert loop.upstream.bills == {task.id: 2}


async def test_resubmission_has_a_token_of_its_own(tmp_path: Path) -> None:
    """The second submission of a doubtful task is told apart from the first one by its tokens."""
    async with a_loop(tmp_path, resubmit_in_doubt=True) as loop:
        await loop.in_doubt()
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 2 * MINUTE)
        claims = [loop.tokens.read_payload_token(order.payload) for order in loop.upstream.orders]
        assert [claim.submission for claim in claims] == [1, 2]
