"""What queued tasks wait for: in their note when they are shown, and once in the log."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from structlog.testing import capture_logs

from service.domain.errors import NotSent, Throttled
from service.domain.submission_limits import ClientLimit, Limits
from service.domain.task import Status
from service.storage.task_queue import SqlTaskQueue
from service.tasks import submitter as submit
from service.tasks.waiting_notes import WaitingNotes
from tests.support.scripted_provider import DONE
from tests.support.task_loop import MINUTE, SECOND, Loop, open_loop


def notes_of(loop: Loop) -> WaitingNotes:
    """Return the notes of a loop, with its limits."""
    return WaitingNotes(
        reader=loop.store.tasks, provider=loop.rate_limited, clock=loop.clock, limits=loop.options.limits
    )


async def note(loop: Loop, task_id: str) -> str | None:
    """Return the note that a client sees."""
    [task] = await notes_of(loop).noted([await loop.task(task_id)])
    return task.note


async def test_max_in_flight_is_noted(tmp_path: Path) -> None:
    """Beyond MAX_IN_FLIGHT tasks wait in the queue with a note, which is gone when they are submitted."""
    async with open_loop(tmp_path, limits=Limits(max_in_flight=1)) as loop:
        first, second = await loop.accept(), await loop.accept()
        await loop.submit_due()
        assert (await loop.task(second.id)).status is Status.QUEUED
        assert await note(loop, second.id) == "waits: MAX_IN_FLIGHT, 1 unfinished tasks at the upstream, is reached"
        assert await note(loop, first.id) is None
        loop.upstream.set_fact("up1")
        loop.clock.move(MINUTE)
        await loop.poll_due()
        assert (await loop.task(first.id)).settled
        await loop.submit_due()
        assert await note(loop, second.id) is None


async def test_budget_is_noted(tmp_path: Path) -> None:
    """Beyond the day's BUDGET tasks wait in the queue with a note, and are submitted on the next day."""
    async with open_loop(tmp_path, limits=Limits(budget=0.35)) as loop:
        loop.upstream.creates.append(DONE)
        await loop.submitted()
        loop.clock.move(11 * 60 * MINUTE)
        task = await loop.submitted()
        assert await note(loop, task.id) == "waits: the day's BUDGET of 0.35 dollars is reached"
        loop.clock.move(65 * MINUTE)
        await loop.submit_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_small_rest_of_the_budget_is_noted(tmp_path: Path) -> None:
    """The note says what such a task counts as, and whether its price is known."""
    async with open_loop(tmp_path, limits=Limits(budget=1.5)) as loop:
        await loop.submitted()
        task = await loop.submitted()
        assert await note(loop, task.id) == (
            "waits: the rest of the day's BUDGET of 1.5 dollars is too small: "
            "a task like this counts as 1 until its price is known"
        )


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        (
            Limits(client_max_in_flight=ClientLimit(default=1)),
            "waits: CLIENT_MAX_IN_FLIGHT, 1 unfinished tasks of this client at the upstream, is reached",
        ),
        (
            Limits(client_rate=ClientLimit(default=9, exceptions={"ann": 1})),
            "waits: CLIENT_RATE, 1 submissions of this client a minute, is reached",
        ),
        (
            Limits(client_budget=ClientLimit(default=1.0)),
            "waits: the day's CLIENT_BUDGET of 1 dollars is reached",
        ),
    ],
)
async def test_limit_of_a_client_is_noted(tmp_path: Path, limits: Limits, expected: str) -> None:
    """The note names the client's own limit; another client's task is submitted and has no note."""
    async with open_loop(tmp_path, limits=limits) as loop:
        await loop.submitted()
        own, others = await loop.accept(), await loop.accept(client="bob")
        await loop.submit_due()
        assert await note(loop, own.id) == expected
        assert (await loop.task(others.id)).status is Status.IN_PROGRESS


async def test_limit_of_a_full_minute_ends(tmp_path: Path) -> None:
    """A task that waits for CLIENT_RATE is submitted once the minute is over."""
    async with open_loop(tmp_path, limits=Limits(client_rate=ClientLimit(default=1))) as loop:
        await loop.submitted()
        task = await loop.submitted()
        assert task.status is Status.QUEUED
        loop.clock.move(MINUTE)
        await loop.submit_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_stored_note_stays_until_the_task_is_due(tmp_path: Path) -> None:
    """A task that waits for its next attempt keeps the reason, also while a limit is reached."""
    async with open_loop(tmp_path, limits=Limits(max_in_flight=1)) as loop:
        loop.upstream.creates.append(NotSent("refused"))
        task = await loop.submitted()
        assert await note(loop, task.id) == "waits to be submitted again: refused"
        loop.clock.move(SECOND)
        await loop.submit_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_pause_of_the_provider_is_noted(tmp_path: Path) -> None:
    """A due task that waits because the provider throttled another one says so."""
    async with open_loop(tmp_path, rate=10.0) as loop:
        loop.upstream.creates.append(Throttled("too many requests", retry_after=timedelta(seconds=90)))
        await loop.submitted()
        task = await loop.submitted()
        assert task.status is Status.QUEUED
        assert "the provider asked for a pause until 2026-05-06T12:01:" in str(await note(loop, task.id))


async def test_rate_of_requests_is_noted_after_a_while(tmp_path: Path) -> None:
    """A due task without any limit waits for a free request, and says so after five seconds."""
    async with open_loop(tmp_path) as loop:
        task = await loop.accept()
        assert await note(loop, task.id) is None
        loop.clock.move(5 * SECOND)
        assert str(await note(loop, task.id)).startswith("waits: UPSTREAM_RATE or UPSTREAM_CONCURRENCY")


async def test_usage_is_counted_once_for_many_requests(tmp_path: Path) -> None:
    """Clients that ask for their queued tasks again and again cost one count in two seconds, also all at once."""
    async with open_loop(tmp_path, limits=Limits(max_in_flight=1)) as loop:
        await loop.submitted()
        task, notes = await loop.submitted(), notes_of(loop)
        with patch.object(SqlTaskQueue, "limit_usage", autospec=True, side_effect=SqlTaskQueue.limit_usage) as count:
            found = await asyncio.gather(*(notes.noted([task]) for _ in range(50)))
            assert count.call_count == 1
            await notes.noted([replace(task, bucket="another")])
            await notes.noted([task])
            assert count.call_count == 2
            loop.clock.move(2 * SECOND)
            await notes.noted([task])
            assert count.call_count == 3
        assert {str(one.note)[:21] for [one] in found} == {"waits: MAX_IN_FLIGHT,"}


async def test_reached_limit_is_logged_once(tmp_path: Path) -> None:
    """An operator sees that all submissions wait: once for each time that a limit is reached."""
    async with open_loop(tmp_path, limits=Limits(max_in_flight=1)) as loop:
        await loop.submitted()
        with capture_logs() as lines, patch.object(submit, "log", structlog.get_logger()):
            for _ in range(3):
                await loop.submitted()
                loop.clock.move(5 * SECOND)
        waits = [line for line in lines if line["event"] == "submissions wait for a limit"]
        assert [line["limit"] for line in waits] == ["MAX_IN_FLIGHT"]
