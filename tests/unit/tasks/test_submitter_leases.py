"""Submissions whose worker crashes, stops or finds the database unavailable: charged once, over a real store."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from service.domain.errors import NotSent
from service.domain.ports.provider import ProviderRequest
from service.domain.task import Status, Task, UpstreamId
from service.tasks import recorder as record_module
from tests.support.task_loop import LEASE, MINUTE, SECOND, TIMEOUT, open_environment, open_loop
from tests.support.wait_until_idle import ended


async def test_abandoned_submission_is_in_doubt_and_its_late_reply_counts(tmp_path: Path) -> None:
    """After its lease a submission is in doubt, not sent again; a late reply is still recorded."""
    async with open_environment(tmp_path) as environment:
        slow, other = environment.process(), environment.process()
        environment.upstream.reply_gate = asyncio.Event()
        task = await slow.accept()
        await slow.submitter.run_once()
        await _arrival(environment.upstream.arrived)
        assert await other.submitter.sweep() == 0
        environment.clock.move(LEASE + SECOND)
        assert await other.submitter.sweep() == 1
        assert (await other.task(task.id)).status is Status.IN_DOUBT
        assert await other.submit_due() == 0
        environment.upstream.reply_gate.set()
        await ended(slow.submitter)
        after = await other.task(task.id)
        assert (after.status, after.upstream_id, after.leased_until) == (Status.IN_PROGRESS, "up1", None)
        assert environment.upstream.charges == {task.id: 1}


async def test_suspended_process_does_not_doubt_its_own_submissions(tmp_path: Path) -> None:
    """Leases that expired while the machine was suspended are renewed before the sweep."""
    async with open_environment(tmp_path) as environment:
        loop, other = environment.process(), environment.process()
        environment.upstream.send_gate = asyncio.Event()
        task = await loop.accept()
        await loop.submitter.run_once()
        await _arrival(environment.upstream.arrived)
        environment.clock.move(LEASE + SECOND)
        assert await loop.submitter.sweep() == 0
        assert await other.submitter.sweep() == 0
        environment.upstream.send_gate.set()
        await ended(loop.submitter)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert await loop.happened(task.id) == ["task.submitted"]


async def test_late_not_sent_has_no_effect_after_another_claim(tmp_path: Path) -> None:
    """After another worker has claimed the task in doubt, conclusions of the first one have no effect."""
    async with open_environment(tmp_path, lists=True) as environment:
        slow, other = environment.process(), environment.process()
        environment.upstream.send_gate = asyncio.Event()
        environment.upstream.creates.append(NotSent("refused after a long while"))
        task = await slow.accept()
        await slow.submitter.run_once()
        await _arrival(environment.upstream.arrived)
        environment.clock.move(LEASE + SECOND)
        await other.submitter.sweep()
        environment.clock.move(MINUTE)
        assert await other.poll_due() == 1
        before = await other.task(task.id)
        environment.upstream.send_gate.set()
        await ended(slow.submitter)
        assert await other.task(task.id) == before
        assert before.status is Status.IN_DOUBT


async def test_shutdown_requeues_what_was_not_sent(tmp_path: Path) -> None:
    """A submission cancelled before it was sent is queued and due at once; the next process sends it, charged once."""
    async with open_environment(tmp_path) as environment:
        first = environment.process()
        environment.upstream.send_gate = asyncio.Event()
        task = await first.accept()
        await first.submitter.run_once()
        await _arrival(environment.upstream.arrived)
        await first.submitter.drain(0)
        after = await first.task(task.id)
        assert (after.status, after.leased_until, after.due_at) == (Status.QUEUED, None, environment.clock.now())
        environment.upstream.send_gate = None
        await environment.process().submit_due()
        assert (await first.task(task.id)).status is Status.IN_PROGRESS
        assert environment.upstream.charges == {task.id: 1}


async def test_nothing_is_sent_once_the_shutdown_began(tmp_path: Path) -> None:
    """A submission whose turn comes during the shutdown is queued instead of sent: its reply might come too late."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.send_gate = asyncio.Event()
        task = await loop.accept()
        await loop.submitter.run_once()
        await _arrival(loop.upstream.arrived)
        stopping = asyncio.create_task(loop.submitter.drain(10))
        await asyncio.sleep(0)
        loop.upstream.send_gate.set()
        await stopping
        after = await loop.task(task.id)
        assert (after.status, after.leased_until, after.tries) == (Status.QUEUED, None, task.tries)
        assert not loop.upstream.charges


async def test_shutdown_leaves_in_doubt_what_may_have_been_sent(tmp_path: Path) -> None:
    """A submission cancelled while it waits for its reply is in doubt, without a lease."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.reply_gate = asyncio.Event()
        task = await loop.accept()
        await loop.submitter.run_once()
        await _arrival(loop.upstream.arrived)
        await loop.submitter.drain(0)
        after = await loop.task(task.id)
        assert (after.status, after.leased_until) == (Status.IN_DOUBT, None)


async def test_shutdown_waits_for_the_commit_of_a_reply(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of a shutdown's time a received reply is recorded first: only it may name the provider's id."""
    async with open_loop(tmp_path) as loop:
        transaction, entered, goes_on = loop.units_of_work.transaction, asyncio.Event(), asyncio.Event()

        @asynccontextmanager
        async def slow() -> AsyncIterator[Any]:
            entered.set()
            await goes_on.wait()
            async with transaction() as inner:
                yield inner

        monkeypatch.setattr(loop.units_of_work, "transaction", slow)
        task = await loop.accept()
        await loop.submitter.run_once()
        await _arrival(entered)
        stop = asyncio.create_task(loop.submitter.drain(0))
        await anyio.wait_all_tasks_blocked()
        goes_on.set()
        await stop
        after = await loop.task(task.id)
        assert (after.status, after.upstream_id) == (Status.IN_PROGRESS, "up1")


async def test_reply_is_recorded_once_the_store_is_available(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reply that comes while the database is unavailable is recorded later: nothing is in doubt."""
    monkeypatch.setattr(record_module, "RETRY_PAUSE", 0.01)
    async with open_loop(tmp_path) as loop:
        file, away = tmp_path / "loop.db", tmp_path / "away.db"

        async def lose_the_file(_order: ProviderRequest, _id: UpstreamId) -> None:
            file.rename(away)

        loop.upstream.before_reply = lose_the_file
        task = await loop.accept()
        await loop.submitter.run_once()
        await _arrival(loop.units_of_work.number(loop.units_of_work.transactions + 3))
        away.rename(file)
        await ended(loop.submitter)
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert await loop.happened(task.id) == ["task.submitted"]


async def _arrival(event: asyncio.Event) -> None:
    async with asyncio.timeout(TIMEOUT):
        await event.wait()


async def test_what_is_claimed_when_the_shutdown_begins_is_queued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim may be committed just then: without its release the task would wait for the sweep, and be in doubt."""
    async with open_loop(tmp_path) as loop:
        claim = loop.store.tasks.claim_submissions

        async def claim_late(**given: Any) -> list[Task]:
            claimed = await claim(**given)
            loop.submitter._lease_pool.close()
            return claimed

        monkeypatch.setattr(loop.store.tasks, "claim_submissions", claim_late)
        task = await loop.accept()
        assert await loop.submit_due() == 0
        after = await loop.task(task.id)
        assert (after.status, after.leased_until, after.due_at) == (Status.QUEUED, None, loop.clock.now())
        assert loop.upstream.charges == {}
