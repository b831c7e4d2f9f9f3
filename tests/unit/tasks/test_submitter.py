"""Submitting over the real store: written down before it is sent, and paid for once."""

from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from structlog.testing import capture_logs

from service.domain.errors import NotSent, Refused, ReplyLost, Throttled
from service.domain.ports.provider import ProviderRequest
from service.domain.ports.queues import Limits
from service.domain.task import Fact, Status, TaskError, UpstreamId
from service.tasks import submitter as submit
from service.tasks.submission_request import meta_data
from tests.support.sample_media import image, uri
from tests.support.scripted_provider import DONE, vtrix_body
from tests.support.task_loop import GOOD, IN_DOUBT_FOR, MINUTE, SECOND, a_loop, a_world


async def test_task_is_durably_submitting_before_it_is_sent(tmp_path: Path) -> None:
    """Another process sees the task submitting, with its submission counted, while the create is being carried out."""
    async with a_world(tmp_path) as world:
        loop, other = world.process(), world.process()
        seen: list[tuple[Status, int]] = []

        async def look(_order: ProviderRequest, _id: UpstreamId) -> None:
            there = await other.task(task.id)
            seen.append((there.status, there.submission))

        world.upstream.before_reply = look
        task = await loop.accept()
        await loop.submit_due()
        assert seen == [(Status.SUBMITTING, 1)]
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_callback_overtakes_the_reply(tmp_path: Path) -> None:
    """A callback that comes before the reply finds its task, and the reply's id is the one that is kept."""
    async with a_loop(tmp_path) as loop:

        async def overtake(_order: ProviderRequest, upstream_id: UpstreamId) -> None:
            await loop.call_back(vtrix_body("completed", "behind-the-gateway"))
            loop.upstream.tell(upstream_id, DONE)

        loop.upstream.before_reply = overtake
        task = await loop.submitted()
        after = await loop.task(task.id)
        assert (after.status, after.upstream_id) == (Status.COMPLETED, "up1")
        assert await loop.callbacks() == {"accepted": 1}
        assert loop.upstream.bills == {task.id: 1}


async def test_believed_callback_before_the_reply_settles_and_the_reply_brings_the_id(tmp_path: Path) -> None:
    """Without confirmation the overtaking callback settles; the late reply only adds the id to ask about."""
    async with a_loop(tmp_path, confirm=False) as loop:

        async def overtake(_order: ProviderRequest, _id: UpstreamId) -> None:
            await loop.call_back(vtrix_body("completed", "behind-the-gateway"))

        loop.upstream.before_reply = overtake
        task = await loop.submitted()
        assert (task.status, task.settled_by, task.upstream_id) == (Status.COMPLETED, "callback", "up1")
        assert await loop.happened(task.id) == ["task.completed"]


async def test_the_log_says_why_a_task_was_refused(tmp_path: Path) -> None:
    """By the error's code: the provider's own words may repeat a prompt, and stand in the task alone."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.creates.append(Refused("CreditInsufficient", "not enough for 'a secret cat'"))
        with capture_logs() as lines, patch.object(submit, "log", structlog.get_logger()):
            task = await loop.submitted()
        assert (task.status, task.error) == (
            Status.FAILED,
            TaskError(code="CreditInsufficient", message="not enough for 'a secret cat'"),
        )
        assert [line["why"] for line in lines if line["event"] == "submission"] == ["CreditInsufficient"]
        assert "secret cat" not in str(lines)


async def test_what_never_left_is_sent_again_later_and_later(tmp_path: Path) -> None:
    """Refused connections queue the task again after 1, 2, 4 seconds; the create that is carried out is billed once."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.creates.extend([NotSent("refused")] * 3)
        task = await loop.accept()
        for pause in (1, 2, 4):
            await loop.submit_due()
            waiting = await loop.task(task.id)
            assert (waiting.status, waiting.due_at) == (Status.QUEUED, loop.clock.now() + pause * SECOND)
            assert waiting.note == "waits to be submitted again: refused"
            assert await loop.submit_due() == 0
            loop.clock.move(pause * SECOND)
        await loop.submit_due()
        after = await loop.task(task.id)
        assert (after.status, after.submission, after.tries, after.note) == (Status.IN_PROGRESS, 4, 0, None)
        assert loop.upstream.bills == {task.id: 1}


async def test_the_upstreams_pause_is_honoured(tmp_path: Path) -> None:
    """Retry-After puts the next sending off for as long as it says."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.creates.append(Throttled("slow down", retry_after=timedelta(seconds=90)))
        task = await loop.submitted()
        assert (task.status, task.due_at) == (Status.QUEUED, loop.clock.now() + timedelta(seconds=90))
        loop.clock.move(timedelta(seconds=89))
        assert await loop.submit_due() == 0
        loop.clock.move(SECOND)
        assert await loop.submit_due() == 1
        assert loop.upstream.bills == {task.id: 1}


async def test_final_refusal_fails_in_the_upstreams_words(tmp_path: Path) -> None:
    """A refusal ends the task at once with the upstream's own code and message, and nothing was billed."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.creates.append(Refused("CreditInsufficient", "top up your account"))
        task = await loop.submitted()
        assert (task.status, task.settled_by, task.guessed) == (Status.FAILED, "submit", False)
        assert task.error == TaskError(code="CreditInsufficient", message="top up your account")
        assert not loop.upstream.bills


async def test_lost_reply_is_in_doubt_and_never_sent_again_by_itself(tmp_path: Path) -> None:
    """A reply that was lost leaves the task in doubt; after IN_DOUBT_FOR it fails as a guess, with one bill."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.creates.append(ReplyLost("time-out"))
        task = await loop.submitted()
        assert task.status is Status.IN_DOUBT
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR - SECOND)
        await loop.run_until(loop.clock.now() + MINUTE)
        after = await loop.task(task.id)
        assert after.error is not None
        assert (after.status, after.guessed, after.error.code) == (Status.FAILED, True, "submission_unknown")
        assert loop.upstream.bills == {task.id: 1}
        assert await loop.happened(task.id) == ["task.in_doubt", "task.failed"]


async def test_reply_that_is_already_an_end_is_understood(tmp_path: Path) -> None:
    """A create that answers with the result, or with a failure without an id, settles by submit."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.creates.append(DONE)
        done = await loop.submitted()
        assert (done.status, done.settled_by, done.upstream_id) == (Status.COMPLETED, "submit", "up1")
        assert await loop.happened(done.id) == ["task.submitted", "task.completed"]


async def test_an_unforeseen_error_while_sending_is_in_doubt(tmp_path: Path) -> None:
    """Whatever breaks while a create may be under way is no reason to send it again."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.creates.append(RuntimeError("a fault of ours"))
        assert (await loop.submitted()).status is Status.IN_DOUBT


async def test_an_error_before_sending_queues_again(tmp_path: Path) -> None:
    """What breaks while the request is being prepared surely never left: queued again, and not in doubt."""
    async with a_loop(tmp_path) as loop:
        loop.upstream.unprepared = RuntimeError("no room")
        task = await loop.submitted()
        assert (task.status, task.note) == (
            Status.QUEUED,
            "waits to be submitted again: it could not be prepared (RuntimeError)",
        )


async def test_inputs_that_are_gone_fail_the_task(tmp_path: Path) -> None:
    """A task whose inline media are no longer stored cannot be submitted, and says what to do."""
    async with a_loop(tmp_path) as loop:
        inline = {"prompt": "a cat", "images": [uri("image/png", image())]}
        task = await loop.accept(params=inline)
        async with loop.store._database.writing() as write:
            await write.connection.exec_driver_sql("DELETE FROM inputs")
        await loop.submit_due()
        after = await loop.task(task.id)
        assert after.error is not None
        assert (after.status, after.error.code) == (Status.FAILED, "inputs_gone")
        assert not loop.upstream.orders


# ── limits ───────────────────────────────────────────────────────────────────


async def test_no_more_is_claimed_than_can_go_at_once(tmp_path: Path) -> None:
    """What the upstream's budget does not let through stays queued, where a crash leaves it in no doubt."""
    async with a_loop(tmp_path) as loop:
        for _ in range(3):
            await loop.accept()
        loop.upstream.free = 2
        assert await loop.submit_due() == 2
        loop.upstream.free = 0
        assert await loop.submit_due() == 0


async def test_what_waits_for_a_place_in_flight_says_so(tmp_path: Path) -> None:
    """Past MAX_IN_FLIGHT tasks wait in the queue with a note, which is gone when they are submitted."""
    async with a_loop(tmp_path, limits=Limits(max_in_flight=1)) as loop:
        first, second = await loop.accept(), await loop.accept()
        await loop.submit_due()
        waiting = await loop.task(second.id)
        assert waiting.status is Status.QUEUED
        assert waiting.note == "waits: MAX_IN_FLIGHT, 1 unfinished tasks at the upstream, is reached"
        loop.upstream.tell("up1")
        loop.clock.move(MINUTE)
        await loop.poll_due()
        assert (await loop.task(first.id)).settled
        await loop.submit_due()
        assert (await loop.task(second.id)).note is None


async def test_what_waits_for_the_budget_says_so(tmp_path: Path) -> None:
    """Past the day's BUDGET tasks wait in the queue with a note, and go up on the next day."""
    async with a_loop(tmp_path, limits=Limits(budget=0.35)) as loop:
        loop.upstream.creates.append(DONE)
        await loop.submitted()
        loop.clock.move(11 * 60 * MINUTE)
        task = await loop.submitted()
        assert (task.status, task.note) == (Status.QUEUED, "waits: the day's BUDGET of 0.35 dollars is reached")
        loop.clock.move(65 * MINUTE)
        await loop.submit_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_notes_are_not_written_in_every_round(tmp_path: Path) -> None:
    """A second look within five seconds writes nothing: the new task gets its note a little later."""
    async with a_loop(tmp_path, limits=Limits(max_in_flight=0)) as loop:
        await loop.submitted()
        late = await loop.submitted()
        assert late.note is None
        loop.clock.move(5 * SECOND)
        await loop.submit_due()
        assert (await loop.task(late.id)).note is not None


# ── what goes up ─────────────────────────────────────────────────────────────


async def test_order_carries_our_tokens_and_not_the_callers(tmp_path: Path) -> None:
    """The address and the payload are ours; the caller's payload and callback_url stay here."""
    async with a_loop(tmp_path) as loop:
        params = GOOD | {"payload": "the caller's own", "callback_url": "https://caller.example/hook"}
        task = await loop.submitted(params=params)
        order = loop.upstream.orders[0]
        assert order.payload == loop.tokens.payload_token(task.id, 1)
        assert order.callback_url is not None
        assert order.callback_url.startswith("https://boomerang.example/callbacks/")
        assert "callback_url" not in order.params
        assert "payload" not in order.params
        assert await loop.store.blobs.payload(task.id) == "the caller's own"


async def test_without_a_public_address_no_callback_is_asked_for(tmp_path: Path) -> None:
    """Poll-only: no address goes up, and the poll finishes the task."""
    async with a_loop(tmp_path, public_url=None) as loop:
        task = await loop.submitted()
        assert loop.upstream.orders[0].callback_url is None
        loop.upstream.tell("up1")
        loop.clock.move(MINUTE)
        await loop.poll_due()
        after = await loop.task(task.id)
        assert (after.status, after.settled_by) == (Status.COMPLETED, "poll")


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        (None, '{"boomerang_task": "t"}'),
        ('{"a": 1, "boomerang_task": "theirs"}', '{"a": 1, "boomerang_task": "t"}'),
        ("[1]", "[1]"),
        ("just words", "just words"),
        ("{", "{"),
        ("", ""),
    ],
)
async def test_meta_data_is_an_object_with_our_key_or_untouched(tmp_path: Path, given: str | None, sent: str) -> None:
    """A JSON object gets our key beside the caller's; any other string goes up as it is."""
    async with a_loop(tmp_path) as loop:
        task = await loop.submitted(params=GOOD if given is None else GOOD | {"meta_data": given})
        assert loop.upstream.orders[0].meta_data == sent.replace('"t"', f'"{task.id}"')
        assert meta_data(None, task.id).startswith("{")


async def test_failure_without_an_id_settles(tmp_path: Path) -> None:
    """A reply that says failed and names no task ends the task in the upstream's words."""
    async with a_loop(tmp_path) as loop:
        error = TaskError(code="002014001", message="video generation failed")
        loop.upstream.nameless = True
        loop.upstream.creates.append(Fact(status=Status.FAILED, error=error))
        task = await loop.submitted()
        assert (task.status, task.upstream_id, task.error) == (Status.FAILED, None, error)
        assert task.due_at is None
