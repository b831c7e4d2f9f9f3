"""Submitting over a real store: persisted before sending, and charged once."""

import asyncio
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from structlog.testing import capture_logs

from service.concurrency import batcher
from service.domain.errors import NotSent, Refused, ReplyLost, Throttled
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Fact, Status, TaskError, UpstreamId
from service.tasks import submitter as submit
from service.tasks.submission_request import meta_data
from tests.support.sample_media import image, uri
from tests.support.scripted_provider import DONE, token_of, vtrix_body
from tests.support.task_loop import GOOD, IN_DOUBT_FOR, MINUTE, SECOND, TIMEOUT, open_environment, open_loop


async def test_submitting_is_durable_before_sending(tmp_path: Path) -> None:
    """Another process sees the task submitting, with its submission counted, while the create runs."""
    async with open_environment(tmp_path) as environment:
        loop, other = environment.process(), environment.process()
        seen: list[tuple[Status, int]] = []

        async def note_status(_request: ProviderRequest, _id: UpstreamId) -> None:
            there = await other.task(task.id)
            seen.append((there.status, there.submission))

        environment.upstream.before_reply = note_status
        task = await loop.accept()
        await loop.submit_due()
        assert seen == [(Status.SUBMITTING, 1)]
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_callback_before_the_reply(tmp_path: Path) -> None:
    """A callback before the reply finds its task, and the id of the reply is stored."""
    async with open_loop(tmp_path) as loop:

        async def overtake(_request: ProviderRequest, upstream_id: UpstreamId) -> None:
            await loop.call_back(vtrix_body("completed", "behind-the-gateway"))
            loop.upstream.set_fact(upstream_id, DONE)

        loop.upstream.before_reply = overtake
        task = await loop.submitted()
        after = await loop.task(task.id)
        assert (after.status, after.upstream_id) == (Status.COMPLETED, "up1")
        assert await loop.callbacks() == {"accepted": 1}
        assert loop.upstream.charges == {task.id: 1}


async def test_accepted_callback_before_the_reply_settles(tmp_path: Path) -> None:
    """Without confirmation the early callback settles the task; the late reply only adds the id."""
    async with open_loop(tmp_path, confirm=False) as loop:

        async def overtake(_request: ProviderRequest, _id: UpstreamId) -> None:
            await loop.call_back(vtrix_body("completed", "behind-the-gateway"))

        loop.upstream.before_reply = overtake
        task = await loop.submitted()
        assert (task.status, task.settled_by, task.upstream_id) == (Status.COMPLETED, "callback", "up1")
        assert await loop.happened(task.id) == ["task.completed"]


async def test_replies_of_one_claim_share_a_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first replies wait for the last one: it comes a moment later, as the requests were sent together."""
    monkeypatch.setattr(batcher, "COMMIT_DELAY", 60)
    async with open_loop(tmp_path) as loop:
        pauses = iter([0.0, 0.01, 0.02, 0.03])

        async def reply_in_turn(_request: ProviderRequest, _id: UpstreamId) -> None:
            await asyncio.sleep(next(pauses))

        loop.upstream.before_reply = reply_in_turn
        for _ in range(4):
            await loop.accept()
        before = loop.units_of_work.transactions
        assert await loop.submit_due() == 4
        assert loop.units_of_work.transactions == before + 1


async def test_reply_waits_for_no_slow_one(tmp_path: Path) -> None:
    """A reply is recorded although the provider does not answer another request."""
    async with open_loop(tmp_path) as loop:
        answer, waiting = asyncio.Event(), iter([True, False])

        async def first_hangs(_request: ProviderRequest, _id: UpstreamId) -> None:
            if next(waiting):
                await answer.wait()

        loop.upstream.before_reply = first_hangs
        for _ in range(2):
            await loop.accept()
        await loop.submitter.run_once()
        ended, _ = await asyncio.wait(loop.submitter.running(), timeout=TIMEOUT, return_when=asyncio.FIRST_COMPLETED)
        assert len(ended) == 1
        answer.set()
        await loop.submit_due()


async def test_refusal_is_logged_by_its_code(tmp_path: Path) -> None:
    """The provider's message may repeat a prompt, and is stored in the task only."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(Refused("AuditSubmitIllegal", "not enough for 'a secret cat'"))
        with capture_logs() as lines, patch.object(submit, "log", structlog.get_logger()):
            task = await loop.submitted()
        assert (task.status, task.error) == (
            Status.FAILED,
            TaskError(code="AuditSubmitIllegal", message="not enough for 'a secret cat'"),
        )
        assert [line["error"] for line in lines if line["event"] == "submission"] == ["AuditSubmitIllegal"]
        assert "secret cat" not in str(lines)


async def test_unsent_submission_is_retried_with_growing_pauses(tmp_path: Path) -> None:
    """Refused connections queue the task again after 1, 2, 4 seconds; the create that succeeds is charged once."""
    async with open_loop(tmp_path) as loop:
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
        assert loop.upstream.charges == {task.id: 1}


async def test_retry_after_is_respected(tmp_path: Path) -> None:
    """Retry-After delays the next attempt by its seconds."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(Throttled("too many requests", retry_after=timedelta(seconds=90)))
        task = await loop.submitted()
        assert (task.status, task.due_at) == (Status.QUEUED, loop.clock.now() + timedelta(seconds=90))
        loop.clock.move(timedelta(seconds=89))
        assert await loop.submit_due() == 0
        loop.clock.move(SECOND)
        assert await loop.submit_due() == 1
        assert loop.upstream.charges == {task.id: 1}


async def test_final_refusal_fails_the_task(tmp_path: Path) -> None:
    """A refusal ends the task at once with the provider's code and message, and nothing was charged."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(Refused("AuditSubmitIllegal", "top up your account"))
        task = await loop.submitted()
        assert (task.status, task.settled_by, task.guessed) == (Status.FAILED, "submit", False)
        assert task.error == TaskError(code="AuditSubmitIllegal", message="top up your account")
        assert not loop.upstream.charges


async def test_lost_reply_is_in_doubt_and_not_sent_again(tmp_path: Path) -> None:
    """A lost reply leaves the task in doubt; after IN_DOUBT_FOR it fails as a guess, charged once."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(ReplyLost("time-out"))
        task = await loop.submitted()
        assert task.status is Status.IN_DOUBT
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR - SECOND)
        await loop.run_until(loop.clock.now() + MINUTE)
        after = await loop.task(task.id)
        assert after.error is not None
        assert (after.status, after.guessed, after.error.code) == (Status.FAILED, True, "submission_unknown")
        assert loop.upstream.charges == {task.id: 1}
        assert await loop.happened(task.id) == ["task.in_doubt", "task.failed"]


async def test_reply_may_settle(tmp_path: Path) -> None:
    """A create that answers with the result, or with a failure without an id, settles by submit."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(DONE)
        done = await loop.submitted()
        assert (done.status, done.settled_by, done.upstream_id) == (Status.COMPLETED, "submit", "up1")
        assert await loop.happened(done.id) == ["task.submitted", "task.completed"]


async def test_unexpected_error_while_sending_is_in_doubt(tmp_path: Path) -> None:
    """No error while a create may run is a reason to send it again."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(RuntimeError("an internal error"))
        assert (await loop.submitted()).status is Status.IN_DOUBT


async def test_an_error_before_sending_queues_again(tmp_path: Path) -> None:
    """An error while the request is prepared means that nothing was sent: queued again, and not in doubt."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.capacity_error = RuntimeError("no capacity")
        task = await loop.submitted()
        assert (task.status, task.note) == (
            Status.QUEUED,
            "waits to be submitted again: it could not be prepared (RuntimeError)",
        )


async def test_expired_blobs_fail_the_task(tmp_path: Path) -> None:
    """A task whose inline media are no longer stored cannot be submitted; the error contains the fix."""
    async with open_loop(tmp_path) as loop:
        inline = {"prompt": "a cat", "images": [uri("image/png", image())]}
        task = await loop.accept(params=inline)
        async with loop.store._database.writing() as write:
            await write.connection.exec_driver_sql("DELETE FROM input_references")
        await loop.submit_due()
        after = await loop.task(task.id)
        assert after.error is not None
        assert (after.status, after.error.code) == (Status.FAILED, "inputs_gone")
        assert not loop.upstream.requests


# ── limits ───────────────────────────────────────────────────────────────────


async def test_no_more_is_claimed_than_can_be_sent_now(tmp_path: Path) -> None:
    """What the rate limiter delays stays queued, where a crash leaves no doubt."""
    async with open_loop(tmp_path) as loop:
        for _ in range(3):
            await loop.accept()
        loop.upstream.free = 2
        assert await loop.submit_due() == 2
        loop.upstream.free = 0
        assert await loop.submit_due() == 0


# ── what goes up ─────────────────────────────────────────────────────────────


async def test_request_carries_our_tokens_and_not_the_callers(tmp_path: Path) -> None:
    """The callback address and the payload are ours; the caller's payload and callback_url are not sent."""
    async with open_loop(tmp_path) as loop:
        params = GOOD | {"payload": "the caller's own", "callback_url": "https://caller.example/hook"}
        task = await loop.submitted(params=params)
        order = loop.upstream.requests[0]
        assert order.payload == loop.tokens.payload_token(task.id, 1)
        assert order.callback_url is not None
        assert order.callback_url.startswith("https://boomerang.example/callbacks/")
        assert "callback_url" not in order.params
        assert "payload" not in order.params
        assert await loop.store.blobs.payload(task.id) == "the caller's own"


async def test_without_a_public_address_no_callback_is_requested(tmp_path: Path) -> None:
    """Only polling: no address is sent, and the poll finishes the task."""
    async with open_loop(tmp_path, public_url=None) as loop:
        task = await loop.submitted()
        assert loop.upstream.requests[0].callback_url is None
        loop.upstream.set_fact("up1")
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
async def test_meta_data_gets_our_key_or_is_unchanged(tmp_path: Path, given: str | None, sent: str) -> None:
    """A JSON object gets our key beside the caller's; any other string is sent as it is."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted(params=GOOD if given is None else GOOD | {"meta_data": given})
        assert loop.upstream.requests[0].meta_data == sent.replace('"t"', f'"{task.id}"')
        assert str(meta_data(None, task.id, task.model)).startswith("{")
        assert meta_data(None, task.id, "viduq2_reference2image") is None


async def test_failure_without_an_id_settles(tmp_path: Path) -> None:
    """A reply that reports a failure without an id settles the task with the provider's error."""
    async with open_loop(tmp_path) as loop:
        error = TaskError(code="002014001", message="video generation failed")
        loop.upstream.reply_without_id = True
        loop.upstream.creates.append(Fact(status=Status.FAILED, error=error))
        task = await loop.submitted()
        assert (task.status, task.upstream_id, task.error) == (Status.FAILED, None, error)
        assert task.due_at is None


async def test_callback_address_outlives_the_deadline(tmp_path: Path) -> None:
    """A result that comes late is still accepted: the token is valid for a week after the deadline."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        token = token_of(loop.upstream.requests[-1])
        claims = loop.tokens.read_callback_token(token, task.deadline_at + timedelta(days=6))
        assert (claims.task_id, claims.submission) == (task.id, task.submission)
