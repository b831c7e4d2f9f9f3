"""Callbacks about tasks whose submission is in doubt, over the real store."""

from pathlib import Path

from service.domain.errors import NotSent, ProviderUnavailable
from service.domain.task import Status
from tests.support.scripted_provider import DONE, TOKENS, vtrix_body
from tests.support.task_loop import DEADLINE, IN_DOUBT_FOR, MINUTE, SECOND, a_loop


async def test_callback_for_a_doubtful_task_is_confirmed_under_the_id_that_it_names(tmp_path: Path) -> None:
    """The id that the callback names is asked about, and with the GET's word the task has its id and its end."""
    async with a_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        loop.upstream.tell("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        after = await loop.task(task_id)
        assert (after.status, after.upstream_id, after.unconfirmed) == (Status.COMPLETED, "up1", False)
        assert loop.upstream.bills == {task_id: 1}


async def test_foreign_id_is_believed_when_the_payload_is_ours(tmp_path: Path) -> None:
    """Where the GET does not know the id and both tokens fit, the body is believed, and the task says unconfirmed."""
    async with a_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        payload = loop.upstream.orders[0].payload
        await loop.call_back(vtrix_body("completed", "of-vidu", payload=payload))
        await loop.poll_due()
        after = await loop.task(task_id)
        assert (after.status, after.settled_by, after.unconfirmed) == (Status.COMPLETED, "callback", True)
        assert (after.upstream_id, after.output) == (None, DONE.output)


async def test_end_without_any_id_is_believed_when_the_payload_is_ours(tmp_path: Path) -> None:
    """An end that names no id cannot be asked about: with our payload token it stands, unconfirmed."""
    async with a_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        payload = loop.upstream.orders[0].payload
        await loop.call_back(vtrix_body("failed", None, payload=payload, error="out of credit"))
        await loop.poll_due()
        after = await loop.task(task_id)
        assert (after.status, after.guessed, after.unconfirmed) == (Status.FAILED, False, True)


async def test_foreign_id_without_our_payload_is_not_believed(tmp_path: Path) -> None:
    """Without the payload token a body that no GET confirms settles nothing, and the deadline still stands."""
    async with a_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        await loop.call_back(vtrix_body("completed", "of-vidu"))
        await loop.poll_due()
        waiting = await loop.task(task_id)
        assert (waiting.status, waiting.output) == (Status.IN_DOUBT, ())
        await loop.run_until(loop.clock.now() + DEADLINE + MINUTE, by=5 * MINUTE)
        after = await loop.task(task_id)
        assert (after.status, after.guessed) == (Status.FAILED, True)


async def test_id_of_another_task_is_not_taken_over(tmp_path: Path) -> None:
    """Where the GET echoes the payload of another task of ours, a doubtful task does not take its result."""
    async with a_loop(tmp_path) as loop:
        other = await loop.submitted()
        task_id = (await loop.in_doubt()).id
        loop.upstream.tell("up9", DONE)
        loop.upstream.correlate("up9", TOKENS.payload_token(other.id, 1))
        await loop.call_back(vtrix_body("completed", "up9"))
        await loop.poll_due()
        assert (await loop.task(task_id)).status is Status.IN_DOUBT
        assert await loop.happened(task_id, "poll") == ["foreign"]


async def test_id_that_another_task_holds_is_not_even_asked_about(tmp_path: Path) -> None:
    """Where we know ourselves whose id it is, a doubtful task does not take it from a callback's hint."""
    async with a_loop(tmp_path) as loop:
        await loop.submitted()
        task_id = (await loop.in_doubt()).id
        loop.upstream.tell("up1", DONE)
        await loop.call_back(vtrix_body("completed", "up1"))
        await loop.poll_due()
        assert (await loop.task(task_id)).status is Status.IN_DOUBT
        assert (await loop.task(task_id)).hinted_id is None


async def test_news_of_progress_gives_a_doubtful_task_its_id(tmp_path: Path) -> None:
    """A callback of "processing" names an id to ask about at once; then the task is polled as any other."""
    async with a_loop(tmp_path) as loop:
        task_id = (await loop.in_doubt()).id
        await loop.call_back(vtrix_body("processing"))
        assert (await loop.task(task_id)).due_at == loop.clock.now()
        await loop.poll_due()
        after = await loop.task(task_id)
        assert (after.status, after.upstream_id) == (Status.IN_PROGRESS, "up1")
        assert after.due_at is not None
        loop.upstream.tell("up1")
        await loop.run_until(loop.clock.now() + MINUTE)
        assert (await loop.task(task_id)).settled_by == "poll"


async def test_news_of_progress_under_an_unknown_id_leaves_a_next_step(tmp_path: Path) -> None:
    """A callback of "processing" under an id that no GET knows keeps the task in doubt, asked about to its deadline."""
    async with a_loop(tmp_path, resubmit_in_doubt=True) as loop:
        task_id = (await loop.in_doubt()).id
        await loop.call_back(vtrix_body("processing", "of-vidu"))
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 5 * MINUTE)
        waiting = await loop.task(task_id)
        assert waiting.status is Status.IN_DOUBT
        assert waiting.due_at is not None
        await loop.run_until(waiting.deadline_at + MINUTE, by=5 * MINUTE)
        assert (await loop.task(task_id)).status in {Status.FAILED, Status.EXPIRED}
        assert loop.upstream.bills == {task_id: 1}


async def test_queued_task_that_a_callback_speaks_of_is_not_sent_again(tmp_path: Path) -> None:
    """A create that seemed never to have left, and of which a callback comes, is in doubt: asked about, billed once."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.creates.append(NotSent("so it seemed"))
        task = await loop.submitted()
        assert task.status is Status.QUEUED
        loop.upstream.tell("up1")
        await loop.call_back(vtrix_body("completed"))
        loop.clock.move(MINUTE)
        assert await loop.submit_due() == 0
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert not loop.upstream.bills


async def test_failure_of_an_older_submission_says_nothing_about_the_newer_one(tmp_path: Path) -> None:
    """After a second submission a believed callback of the first one's failure is kept, and the task goes on."""
    async with a_loop(tmp_path, confirm=False, resubmit_in_doubt=True) as loop:
        task_id = (await loop.in_doubt()).id
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 2 * MINUTE)
        second = await loop.task(task_id)
        assert (second.status, second.submission) == (Status.IN_PROGRESS, 2)
        await loop.call_back(vtrix_body("failed"), order=0)
        assert (await loop.task(task_id)).status is Status.IN_PROGRESS
        await loop.call_back(vtrix_body("completed"), order=0)
        assert (await loop.task(task_id)).status is Status.COMPLETED


async def test_upstream_that_is_unwell_settles_nothing(tmp_path: Path) -> None:
    """HTML instead of a task says something about the upstream: the hinted task is asked about again, soon."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.fetches.extend([ProviderUnavailable("HTML"), ProviderUnavailable("half a body")])
        loop.upstream.tell("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        await loop.run_until(loop.clock.now() + 10 * SECOND, by=SECOND)
        assert (await loop.task(task.id)).settled_by == "callback"
        assert await loop.happened(task.id, "poll") == ["unwell", "unwell", "completed"]
