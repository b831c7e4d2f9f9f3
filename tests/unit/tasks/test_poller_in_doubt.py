"""Lost replies and how the doubt about them ends, over a real store."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from service.domain.errors import ProviderUnavailable, ReplyLost
from service.domain.task import Status, UpstreamId
from service.domain.task_update import RESUBMITTED_WARNING
from service.domain.tokens import Tokens
from service.tasks.poller import SECOND_WAIT_NOTE
from tests.support.scripted_provider import ScriptedProvider, vtrix_body
from tests.support.task_loop import HOUR, IN_DOUBT_FOR, MINUTE, SECOND, open_environment, open_loop


async def test_list_resolves_a_lost_reply(tmp_path: Path) -> None:
    """A provider's list has the submission by its payload, and the task goes on with its id."""
    async with open_loop(tmp_path, lists=True) as loop:
        task = await loop.in_doubt()
        await loop.run_until(loop.clock.now() + 30 * SECOND, by=10 * SECOND)
        found = await loop.task(task.id)
        assert (found.status, found.upstream_id, loop.upstream.searches) == (Status.IN_PROGRESS, "up1", 1)
        assert loop.upstream.charges == {task.id: 1}


async def test_list_is_searched_with_tolerance_for_its_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A provider whose clock is minutes early or late dates the submission outside of our own times: it is found."""
    searched: list[tuple[datetime, datetime]] = []

    async def find(_: ScriptedProvider, correlation: str, *, since: datetime, until: datetime) -> None:
        assert correlation
        searched.append((since, until))

    monkeypatch.setattr(ScriptedProvider, "find", find)
    async with open_loop(tmp_path, lists=True) as loop:
        task = await loop.in_doubt()
        await loop.run_until(loop.clock.now() + 30 * SECOND, by=10 * SECOND)
        assert task.submitted_at
        since, until = searched[0]
        assert since <= task.submitted_at - 5 * MINUTE
        assert until >= task.submitted_at + 5 * MINUTE


async def test_unavailable_list_does_not_end_the_doubt(tmp_path: Path) -> None:
    """A list that cannot be read leaves the task in doubt, and is not searched in every run."""
    async with open_loop(tmp_path, lists=True) as loop:
        task = await loop.in_doubt()
        loop.upstream.list_error = ProviderUnavailable("HTML")
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 10 * MINUTE, by=5 * SECOND)
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        assert loop.upstream.searches <= 25 * 3 + 1
        loop.upstream.list_error = None
        await loop.run_until(loop.clock.now() + MINUTE)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_result_overrules_submission_unknown(tmp_path: Path) -> None:
    """After the guess that the submission is unknown, a callback and a poll still bring the result."""
    async with open_loop(tmp_path) as loop:
        task = await loop.in_doubt()
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + MINUTE)
        assert (await loop.task(task.id)).status is Status.FAILED
        loop.upstream.set_fact("up1")
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


async def test_task_in_doubt_is_resubmitted_once(tmp_path: Path) -> None:
    """ON_IN_DOUBT=resubmit queues the task again once, with a warning; after a second lost reply it fails."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        loop.upstream.creates.extend([ReplyLost("time-out")] * 5)
        task = await loop.submitted()
        await loop.run_until(loop.clock.now() + 2 * IN_DOUBT_FOR + 3 * MINUTE, by=MINUTE)
        assert loop.clock.now() < task.deadline_at
        after = await loop.task(task.id)
        assert (after.status, after.submission, after.warnings) == (Status.FAILED, 2, (RESUBMITTED_WARNING,))
        assert loop.upstream.charges == {task.id: 2}


async def test_resubmission_has_its_own_token(tmp_path: Path) -> None:
    """The tokens of the second submission differ from those of the first."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        await loop.in_doubt()
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 2 * MINUTE)
        claims = [loop.tokens.read_payload_token(order.payload) for order in loop.upstream.requests]
        assert [claim.submission for claim in claims] == [1, 2]


# ── while keys are replaced ──────────────────────────────────────────────────


@pytest.mark.parametrize("keys", [["a new key", "a key of these tests"], ["a new key"]], ids=["added", "replaced"])
async def test_list_resolves_a_lost_reply_after_a_rotation(tmp_path: Path, keys: list[str]) -> None:
    """A task whose reply was lost is found in the provider's list, whichever key signed its payload: one bill."""
    async with open_environment(tmp_path, lists=True, resubmit_in_doubt=True) as environment:
        before = environment.process()
        task = await before.in_doubt()
        loop = environment.process(tokens=Tokens(keys))
        await before.drain()
        await loop.run_until(environment.clock.now() + IN_DOUBT_FOR + 2 * MINUTE)
        after = await loop.task(task.id)
        assert (after.status, after.upstream_id, after.submission) == (Status.IN_PROGRESS, "up1", 1)
        assert environment.upstream.charges == {task.id: 1}


async def test_result_that_a_callback_named_matches_after_a_rotation(tmp_path: Path) -> None:
    """A poll by the id of a callback returns a payload that an older key signed: the result belongs to the task."""
    async with open_environment(tmp_path) as environment:
        before = environment.process()
        task = await before.in_doubt()
        loop = environment.process(tokens=Tokens(["a new key", "a key of these tests"]))
        environment.upstream.set_fact("up1")
        environment.upstream.echo_payload("up1", environment.upstream.requests[0].payload)
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert await loop.happened(task.id, "poll") == ["completed"]


@pytest.mark.parametrize("submission", [1, 2])
async def test_payload_of_another_submission_resolves_no_doubt(tmp_path: Path, submission: int) -> None:
    """The payload of an older submission in the list is not that of the newest one, which may be billed as well."""
    async with open_loop(tmp_path, lists=True) as loop:
        loop.upstream.creates.append(ReplyLost("never arrived"))
        task = await loop.submitted()
        loop.upstream.payloads.clear()
        loop.upstream.payloads[loop.tokens.payload_token(task.id, submission)] = UpstreamId("up1")
        loop.clock.move(IN_DOUBT_FOR)
        await loop.poll_due()
        assert (await loop.task(task.id)).upstream_id == ("up1" if submission == 1 else None)


# ── while nobody listens ─────────────────────────────────────────────────────


async def test_stopped_process_waits_for_the_callback_again(tmp_path: Path) -> None:
    """After a downtime in which a callback may have come, a task is not resubmitted at once."""
    async with open_environment(tmp_path, resubmit_in_doubt=True) as environment:
        before = environment.process()
        task = await before.in_doubt()
        environment.clock.move(IN_DOUBT_FOR + 20 * MINUTE)
        loop = environment.kill(before)
        await loop.run_until(environment.clock.now() + IN_DOUBT_FOR - MINUTE)
        waiting = await loop.task(task.id)
        assert (waiting.status, waiting.note) == (Status.IN_DOUBT, SECOND_WAIT_NOTE)
        environment.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert sum(environment.upstream.charges.values()) == 1


@pytest.mark.parametrize("gap", [10 * SECOND, IN_DOUBT_FOR - SECOND, 3 * HOUR // 4])
async def test_doubt_ends_after_a_downtime(tmp_path: Path, gap: timedelta) -> None:
    """After a downtime of any length the task waits for its callback once more, and not again."""
    async with open_environment(tmp_path) as environment:
        before = environment.process()
        task = await before.in_doubt()
        environment.clock.move(gap)
        loop = environment.kill(before)
        back = environment.clock.now()
        await loop.run_until(max(back, task.created_at + IN_DOUBT_FOR) + IN_DOUBT_FOR - MINUTE)
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        loop = environment.kill(loop)
        await loop.run_until(environment.clock.now() + 2 * MINUTE)
        assert (await loop.task(task.id)).status is Status.FAILED


async def test_suspended_process_waits_for_the_callback_again(tmp_path: Path) -> None:
    """A poll long after it was due means that no process listened meanwhile."""
    async with open_loop(tmp_path) as loop:
        task = await loop.in_doubt()
        loop.clock.move(IN_DOUBT_FOR + 2 * MINUTE)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        loop.clock.move(IN_DOUBT_FOR)
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.FAILED


@pytest.mark.parametrize("lists", [False, True])
async def test_doubt_ends_at_the_deadline(tmp_path: Path, lists: bool) -> None:
    """A task that was submitted shortly before its deadline is in doubt until the deadline, and not for longer."""
    async with open_loop(tmp_path, lists=lists) as loop:
        accepted = await loop.accept()
        loop.clock.at = accepted.deadline_at - IN_DOUBT_FOR // 3
        loop.upstream.creates.append(ReplyLost("time-out"))
        loop.upstream.payloads.clear()
        await loop.submit_due()
        loop.upstream.payloads.clear()  # the list does not have it
        task = await loop.task(accepted.id)
        assert task.status is Status.IN_DOUBT
        assert loop.planner.abandoned_at(task) == task.deadline_at
        await loop.run_until(task.deadline_at - SECOND, by=10 * SECOND)
        assert (await loop.task(task.id)).status is Status.IN_DOUBT
        await loop.run_until(task.deadline_at + SECOND, by=SECOND)
        assert (await loop.task(task.id)).status is not Status.IN_DOUBT


async def test_second_wait_for_a_callback_ends_at_the_deadline(tmp_path: Path) -> None:
    """After a downtime a task in doubt waits once more, at most until its deadline."""
    async with open_environment(tmp_path) as environment:
        before = environment.process()
        accepted = await before.accept()
        environment.clock.at = accepted.deadline_at - IN_DOUBT_FOR * 3 // 2
        environment.upstream.creates.append(ReplyLost("time-out"))
        await before.submit_due()
        environment.clock.move(IN_DOUBT_FOR + 2 * MINUTE)
        loop = environment.kill(before)
        await loop.poll_due()
        waiting = await loop.task(accepted.id)
        assert (waiting.note, waiting.due_at) == (SECOND_WAIT_NOTE, accepted.deadline_at)
        await loop.run_until(accepted.deadline_at, by=MINUTE)
        assert (await loop.task(accepted.id)).status is not Status.IN_DOUBT
