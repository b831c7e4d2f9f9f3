"""The history says when a task was accepted and what it waited for, in a bounded number of entries."""

from datetime import timedelta
from pathlib import Path

from service.domain.errors import NotSent, Refused, Throttled
from service.domain.submission_limits import Limits
from service.domain.task import Json, Status
from tests.support.history import history_of
from tests.support.scripted_provider import DONE
from tests.support.task_loop import MINUTE, SECOND, START, Loop, open_loop


async def entries(loop: Loop, task_id: str, *kinds: str) -> list[Json]:
    """Return the entries of these kinds in a task's history."""
    return [row for row in await history_of(loop.store.queries, (await loop.task(task_id)).id) if row["kind"] in kinds]


async def test_acceptance_comes_first(tmp_path: Path) -> None:
    """The first entry says when the task was accepted, and from which client."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted(client="shop")
        history = await history_of(loop.store.queries, task.id)
        assert history[0] == {"at": "2026-05-06T12:00:00.000Z", "kind": "created", "client": "shop"}


async def test_a_task_that_is_throttled_forever_has_one_entry(tmp_path: Path) -> None:
    """A hundred submissions that the provider throttles are one entry with their number, first and last time."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.extend([Throttled("too many", retry_after=SECOND)] * 100)
        task = await loop.submitted()
        for _ in range(99):
            loop.clock.move(61 * SECOND)
            await loop.submit_due()
        wait, in_between = await entries(loop, task.id, "wait")
        assert in_between["reason"] == "queue"  # no process submitted it when it was due again
        assert (wait["reason"], wait["count"], wait["detail"]) == ("throttled", 100, "too many")
        assert (wait["at"], wait["last_at"]) == ("2026-05-06T12:00:00.000Z", "2026-05-06T13:40:39.000Z")


async def test_each_reason_has_an_entry(tmp_path: Path) -> None:
    """Submissions in vain for different reasons are different entries, and the rest of the queue has none."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.extend([Throttled("x"), NotSent("refused"), Refused("402", "no credit")])
        task = await loop.submitted()
        for pause in (SECOND, 2 * SECOND, MINUTE):
            loop.clock.move(pause)
            await loop.submit_due()
        other = await loop.submitted()
        waits = await entries(loop, task.id, "wait")
        assert [(row["reason"], row["count"]) for row in waits] == [("throttled", 1), ("not_sent", 1), ("no_credit", 2)]
        assert await entries(loop, other.id, "wait") == []
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS


async def test_wait_for_a_limit_is_in_the_history(tmp_path: Path) -> None:
    """A task that was submitted late has an entry with the limit that it waited for, and for how long."""
    async with open_loop(tmp_path, limits=Limits(max_in_flight=1)) as loop:
        first, second = await loop.accept(), await loop.accept()
        for _ in range(10):
            await loop.submit_due()
            loop.clock.move(6 * SECOND)
        loop.upstream.set_fact("up1", DONE)
        await loop.poll_due()
        await loop.submit_due()
        [wait] = await entries(loop, second.id, "wait")
        assert (wait["reason"], wait["count"], wait["detail"]) == ("max_in_flight", 1, "MAX_IN_FLIGHT was reached")
        assert (wait["at"], wait["last_at"]) == ("2026-05-06T12:00:00.000Z", "2026-05-06T12:01:00.000Z")
        assert await entries(loop, first.id, "wait") == []


async def test_wait_for_the_rate_is_in_the_history(tmp_path: Path) -> None:
    """A task that waited since no request was free has an entry for UPSTREAM_RATE."""
    async with open_loop(tmp_path) as loop:
        task = await loop.accept()
        loop.upstream.free = 0
        await loop.submit_due()
        loop.clock.move(30 * SECOND)
        loop.upstream.free = 16
        await loop.submit_due()
        assert [row["reason"] for row in await entries(loop, task.id, "wait")] == ["upstream_rate"]


async def test_waits_of_old_tasks_are_deleted(tmp_path: Path) -> None:
    """Waits are deleted with the polls, once the task ended longer ago than RETENTION."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.extend([Throttled("x"), DONE])
        task = await loop.submitted()
        loop.clock.move(SECOND)
        await loop.submit_due()
        assert (await loop.task(task.id)).settled
        await loop.store.retention.prune(before=START)
        assert len(await entries(loop, task.id, "wait")) == 1
        await loop.store.retention.prune(before=START + timedelta(days=1))
        assert await entries(loop, task.id, "wait", "created") == [
            {"at": "2026-05-06T12:00:00.000Z", "kind": "created", "client": "ann"}
        ]
