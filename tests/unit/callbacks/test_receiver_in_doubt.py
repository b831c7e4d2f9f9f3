"""Callbacks of tasks whose submission is in doubt, over a real store."""

from pathlib import Path

from service.domain.errors import NotSent, ProviderUnavailable
from service.domain.task import Status
from tests.support.scripted_provider import DONE, TOKENS, vtrix_body
from tests.support.task_loop import DEADLINE, IN_DOUBT_FOR, MINUTE, SECOND, open_loop


async def test_callback_is_confirmed_with_the_id_that_it_names(tmp_path: Path) -> None:
    """The id in the callback is polled, and the poll gives the task its id and its end."""
    async with open_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        after = await loop.task(task_id)
        assert (after.status, after.upstream_id, after.unconfirmed) == (Status.COMPLETED, "up1", False)
        assert loop.upstream.charges == {task_id: 1}


async def test_unknown_id_with_our_payload_is_accepted(tmp_path: Path) -> None:
    """If the provider does not know the id and both tokens are valid, the body is accepted as unconfirmed."""
    async with open_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        payload = loop.upstream.requests[0].payload
        await loop.call_back(vtrix_body("completed", "of-vidu", payload=payload))
        await loop.poll_due()
        after = await loop.task(task_id)
        assert (after.status, after.settled_by, after.unconfirmed) == (Status.COMPLETED, "callback", True)
        assert (after.upstream_id, after.output) == (None, DONE.output)


async def test_end_without_an_id_with_our_payload_is_accepted(tmp_path: Path) -> None:
    """An end without an id cannot be polled: with our payload token it is accepted as unconfirmed."""
    async with open_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        payload = loop.upstream.requests[0].payload
        await loop.call_back(vtrix_body("failed", None, payload=payload, error="out of credit"))
        await loop.poll_due()
        after = await loop.task(task_id)
        assert (after.status, after.guessed, after.unconfirmed) == (Status.FAILED, False, True)


async def test_unknown_id_without_our_payload_is_not_accepted(tmp_path: Path) -> None:
    """Without the payload token an unconfirmed body settles nothing, and the deadline still holds."""
    async with open_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        await loop.call_back(vtrix_body("completed", "of-vidu"))
        await loop.poll_due()
        waiting = await loop.task(task_id)
        assert (waiting.status, waiting.output) == (Status.IN_DOUBT, ())
        await loop.run_until(loop.clock.now() + DEADLINE + MINUTE, by=5 * MINUTE)
        after = await loop.task(task_id)
        assert (after.status, after.guessed) == (Status.FAILED, True)


async def test_id_of_another_task_is_not_accepted(tmp_path: Path) -> None:
    """If the provider returns the payload of another task, a task in doubt does not take its result."""
    async with open_loop(tmp_path) as loop:
        other = await loop.submitted()
        task_id = (await loop.in_doubt()).id
        loop.upstream.set_fact("up9", DONE)
        loop.upstream.echo_payload("up9", TOKENS.payload_token(other.id, 1))
        await loop.call_back(vtrix_body("completed", "up9"))
        await loop.poll_due()
        assert (await loop.task(task_id)).status is Status.IN_DOUBT
        assert await loop.happened(task_id, "poll") == ["foreign"]


async def test_id_that_another_task_has_is_not_polled(tmp_path: Path) -> None:
    """A task in doubt does not take an id from a callback that is known to belong to another task."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        task_id = (await loop.in_doubt()).id
        loop.upstream.set_fact("up1", DONE)
        await loop.call_back(vtrix_body("completed", "up1"))
        await loop.poll_due()
        assert (await loop.task(task_id)).status is Status.IN_DOUBT
        assert (await loop.task(task_id)).hinted_id is None


async def test_progress_callback_gives_a_task_in_doubt_its_id(tmp_path: Path) -> None:
    """A callback of "processing" names an id that is polled at once; then the task is polled as any other."""
    async with open_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        await loop.call_back(vtrix_body("processing"))
        assert (await loop.task(task_id)).due_at == loop.clock.now()
        await loop.poll_due()
        after = await loop.task(task_id)
        assert (after.status, after.upstream_id) == (Status.IN_PROGRESS, "up1")
        assert after.due_at is not None
        loop.upstream.set_fact("up1")
        await loop.run_until(loop.clock.now() + MINUTE)
        assert (await loop.task(task_id)).settled_by == "poll"


async def test_progress_callback_with_an_unknown_id_is_polled_until_the_deadline(tmp_path: Path) -> None:
    """A callback of "processing" with an id that the provider does not know keeps the task in doubt."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        task_id = (await loop.in_doubt()).id
        await loop.call_back(vtrix_body("processing", "of-vidu"))
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 5 * MINUTE)
        waiting = await loop.task(task_id)
        assert waiting.status is Status.IN_DOUBT
        assert waiting.due_at is not None
        await loop.run_until(waiting.deadline_at + MINUTE, by=5 * MINUTE)
        assert (await loop.task(task_id)).status in {Status.FAILED, Status.EXPIRED}
        assert loop.upstream.charges == {task_id: 1}


async def test_queued_task_with_a_callback_is_not_sent_again(tmp_path: Path) -> None:
    """A create that seemed not to be sent, but has a callback, is in doubt: polled, and charged once."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(NotSent("so it seemed"))
        task = await loop.submitted()
        assert task.status is Status.QUEUED
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        loop.clock.move(MINUTE)
        assert await loop.submit_due() == 0
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert not loop.upstream.charges


async def test_failure_of_an_older_submission_is_ignored(tmp_path: Path) -> None:
    """After a second submission a callback with the failure of the first one is stored, and the task goes on."""
    async with open_loop(tmp_path, confirm=False, resubmit_in_doubt=True) as loop:
        task_id = (await loop.in_doubt()).id
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 2 * MINUTE)
        second = await loop.task(task_id)
        assert (second.status, second.submission) == (Status.IN_PROGRESS, 2)
        await loop.call_back(vtrix_body("failed"), request=0)
        assert (await loop.task(task_id)).status is Status.IN_PROGRESS
        await loop.call_back(vtrix_body("completed"), request=0)
        assert (await loop.task(task_id)).status is Status.COMPLETED


async def test_unavailable_provider_settles_nothing(tmp_path: Path) -> None:
    """HTML instead of a task says nothing about the task: it is polled again soon."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.fetches.extend([ProviderUnavailable("HTML"), ProviderUnavailable("half a body")])
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        await loop.run_until(loop.clock.now() + 10 * SECOND, by=SECOND)
        assert (await loop.task(task.id)).settled_by == "callback"
        assert await loop.happened(task.id, "poll") == ["unwell", "unwell", "completed"]
