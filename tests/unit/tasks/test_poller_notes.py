"""While a task waits, its note states what the last unusable answer was, and which status word is not known."""

from datetime import timedelta
from pathlib import Path

import pytest

from service.domain.errors import ProviderUnavailable, Refused, ReplyLost, Throttled, UnknownTask
from service.domain.task import Fact, Status
from service.domain.task_view import rfc3339
from service.tasks.poller import SECOND_WAIT_NOTE
from tests.support.task_loop import IN_DOUBT_FOR, MINUTE, open_environment, open_loop

WARMING_UP = Fact(status=Status.IN_PROGRESS, word="warming_up")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ProviderUnavailable("HTTP 502: Bad Gateway"), "HTTP 502: Bad Gateway"),
        (ProviderUnavailable("HTTP 200: 402: Insufficient credits"), "402: Insufficient credits"),
        (ProviderUnavailable("the response is about another task than the requested one: up9"), "about another task"),
        (Refused("401", "bad key"), "401: bad key"),
        (Throttled("slower"), "slower"),
        (UnknownTask("no"), "does not know the id"),
        (RuntimeError("ours"), "RuntimeError"),
    ],
)
async def test_note_states_the_last_unusable_answer(tmp_path: Path, error: Exception, text: str) -> None:
    """The note comes with the answer, and goes with the next usable one; the task is not failed."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.fetches.append(error)
        loop.clock.move(MINUTE)
        await loop.poll_due()
        waiting = await loop.task(task.id)
        assert waiting.note is not None
        assert waiting.note.startswith("the last answer to a poll was not usable: ")
        assert text in waiting.note
        assert waiting.status is Status.IN_PROGRESS
        await loop.run_until(loop.clock.now() + 2 * MINUTE)
        assert (await loop.task(task.id)).note is None


async def test_note_and_gauge_state_an_unknown_word_and_since_when(tmp_path: Path) -> None:
    """The task is polled further; the time is that of the first such answer, also after an unusable one between."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1", WARMING_UP)
        loop.clock.move(MINUTE)
        await loop.poll_due()
        since = loop.clock.now()
        expected = f'the upstream reports the status "warming_up", which is not known here, since {rfc3339(since)}'
        assert (await loop.task(task.id)).note == expected
        loop.upstream.fetches.append(ProviderUnavailable("HTTP 502: Bad Gateway"))
        await loop.run_until(loop.clock.now() + 10 * MINUTE)
        waiting = await loop.task(task.id)
        assert (waiting.status, waiting.note) == (Status.IN_PROGRESS, expected)
        gauges = await loop.store.health.gauges(loop.clock.now())
        assert gauges.status_words == {"warming_up": timedelta(minutes=10)}
        loop.upstream.set_fact("up1")
        await loop.run_until(loop.clock.now() + 2 * MINUTE)
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert (await loop.store.health.gauges(loop.clock.now())).status_words == {}


async def test_another_unknown_word_begins_anew(tmp_path: Path) -> None:
    """The time belongs to the word; a known word ends it."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        for word in ("warming_up", "cooling_down"):
            loop.upstream.set_fact("up1", Fact(status=Status.IN_PROGRESS, word=word))
            loop.clock.move(MINUTE)
            await loop.poll_due()
            after = await loop.task(task.id)
            assert (after.status_word, after.status_since) == (word, loop.clock.now())
        loop.upstream.set_fact("up1", Fact(status=Status.IN_PROGRESS, progress=0.5))
        loop.clock.move(MINUTE)
        await loop.poll_due()
        after = await loop.task(task.id)
        assert (after.status_word, after.status_since, after.note) == (None, None, None)


async def test_create_reply_with_an_unknown_word_is_noted(tmp_path: Path) -> None:
    """The submission is accepted by its id."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(WARMING_UP)
        task = await loop.submitted()
        assert (task.status, task.upstream_id, task.status_word) == (Status.IN_PROGRESS, "up1", "warming_up")
        assert task.note is not None
        assert "warming_up" in task.note


async def test_note_on_a_lost_reply_states_what_came(tmp_path: Path) -> None:
    """A task in doubt states which answer was not usable."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(ReplyLost("HTTP 502: Bad Gateway"))
        task = await loop.submitted()
        assert (task.status, task.note) == (
            Status.IN_DOUBT,
            "the reply to the submission was not usable: HTTP 502: Bad Gateway",
        )


async def test_hint_keeps_the_note(tmp_path: Path) -> None:
    """A callback that a poll has to confirm does not hide what the last poll brought."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.fetches.append(ProviderUnavailable("HTTP 502: Bad Gateway"))
        loop.clock.move(MINUTE)
        await loop.poll_due()
        before = (await loop.task(task.id)).note
        await loop.call_back({"id": "up1", "status": "completed", "output": []})
        assert (await loop.task(task.id)).note == before


async def test_second_wait_is_never_repeated(tmp_path: Path) -> None:
    """The stored note on a second wait for a callback survives unusable answers: a third wait would follow."""
    async with open_environment(tmp_path) as environment:
        first = environment.process()
        task = await first.in_doubt()
        environment.clock.move(IN_DOUBT_FOR + 2 * MINUTE)
        later = environment.process()
        await later.poll_due()
        assert (await later.task(task.id)).note == SECOND_WAIT_NOTE
        environment.clock.move(IN_DOUBT_FOR + 2 * MINUTE)
        await environment.process().poll_due()
        assert (await later.task(task.id)).status is Status.FAILED
