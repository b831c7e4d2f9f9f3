"""An empty account at the provider: tasks wait as for a reached budget, and one is tried now and then."""

from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from service.domain.errors import Refused, Throttled
from service.domain.task import EventType, Fact, Status, Task, TaskError
from service.tasks.credit_watch import CreditWatch
from tests.support.task_loop import HOUR, MINUTE, SECOND, Loop, open_environment, open_loop
from tests.unit.tasks.test_waiting_notes import note

EMPTY = Refused("CreditInsufficient", "the balance is insufficient")


async def submit_for(loop: Loop, time: timedelta, *, every: timedelta = SECOND) -> int:
    """Run the submit job for a time; return how many creates were sent."""
    before, end = len(loop.upstream.requests), loop.clock.now() + time
    while loop.clock.now() < end:
        loop.clock.move(every)
        await loop.submitter.sweep()
        await loop.submit_due()
    return len(loop.upstream.requests) - before


async def test_refused_task_waits_with_a_note(tmp_path: Path) -> None:
    """A task that is refused for want of credit is queued again, unbilled, with a note; no event reports a failure."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(EMPTY)
        task = await loop.submitted()
        assert (task.status, task.error) == (Status.QUEUED, None)
        assert str(await note(loop, task.id)).startswith(
            "waits: the provider's account has no credit; one task is tried at 2026-05-06T12:01:00.000Z"
        )
        assert await loop.happened(task.id) == []
        assert loop.upstream.charges == Counter()
        loop.clock.move(MINUTE)
        await loop.submit_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert loop.upstream.charges == {task.id: 1}


async def test_all_tasks_wait_while_one_is_tried(tmp_path: Path) -> None:
    """Sixty queued tasks cost one refusal for each pause; the pauses grow up to a quarter of an hour."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.extend([EMPTY] * 100)
        for _ in range(60):
            await loop.accept()
        assert await loop.submit_due() == 16
        refused = [minute for minute in range(1, 95) if await submit_for(loop, MINUTE, every=MINUTE)]
        assert refused == [1, 3, 7, 15, 30, 45, 60, 75, 90]
        assert len(loop.upstream.requests) == 16 + len(refused)


async def test_all_continue_when_one_is_accepted(tmp_path: Path) -> None:
    """The first accepted submission ends the pause for all tasks at once."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.extend([EMPTY] * 3)
        tasks = [await loop.accept() for _ in range(3)]
        await loop.submit_due()
        loop.clock.move(MINUTE)
        assert await loop.submit_due() == 1
        assert await loop.submit_due() == 2
        assert loop.upstream.charges == dict.fromkeys([task.id for task in tasks], 1)
        assert loop.submitter.credit.warnings == ()


async def test_pause_holds_for_every_process(tmp_path: Path) -> None:
    """A refusal in one process stops the submissions of another, and an acceptance there lets both continue."""
    async with open_environment(tmp_path) as environment:
        one, other = environment.process(), environment.process()
        environment.upstream.creates.append(EMPTY)
        await one.submitted()
        assert await other.submit_due() == 0
        assert "no credit" in str(await note(other, (await other.accept()).id))
        environment.clock.move(MINUTE)
        assert await other.submit_due() == 1
        assert await one.submit_due() == 1


async def test_other_tasks_are_tried_too(tmp_path: Path) -> None:
    """A task that is refused each time, because it is dear, does not stop cheaper ones of its client."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.extend([EMPTY, EMPTY])
        dear = await loop.submitted()
        cheap = await loop.accept()
        loop.clock.move(MINUTE)
        loop.upstream.creates.popleft()
        await loop.submit_due()
        assert (await loop.task(dear.id)).status is Status.QUEUED
        assert (await loop.task(cheap.id)).status is Status.IN_PROGRESS


@pytest.mark.parametrize(
    "refusal",
    [
        Refused("402", "Payment Required"),
        Refused("40203", "no"),
        Refused("403", "insufficient balance"),
        Refused("insufficient_quota", "You exceeded your current quota, please check your plan"),
        Fact(status=Status.FAILED, error=TaskError(code="402", message="Insufficient credits")),
    ],
    ids=repr,
)
async def test_every_refusal_for_credit_waits(tmp_path: Path, refusal: Refused | Fact) -> None:
    """A status 402, a code of the gateway, a 403 with such words and a failed reply without an id all mean it."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.reply_without_id = True
        loop.upstream.creates.append(refusal)
        assert (await loop.submitted()).status is Status.QUEUED


async def test_refusal_with_an_id_is_not_sent_again(tmp_path: Path) -> None:
    """A refusal that may name a task leaves it unknown whether there is one: the task fails, and the others wait."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(Refused("402", "Insufficient credits", names_task=True))
        task = await loop.submitted()
        assert (task.status, task.submission) == (Status.FAILED, 1)
        await loop.accept()
        assert await loop.submit_due() == 0


async def test_failed_task_with_an_id_is_a_task(tmp_path: Path) -> None:
    """A reply that names a failed task is that task's end, whatever its reason: it may have been billed."""
    async with open_loop(tmp_path) as loop:
        error = TaskError(code="CreditInsufficient", message="no")
        loop.upstream.creates.append(Fact(status=Status.FAILED, error=error))
        task = await loop.submitted()
        assert (task.status, task.upstream_id, task.error) == (Status.FAILED, "up1", error)


async def test_caller_cannot_stop_the_submissions_of_all(tmp_path: Path) -> None:
    """A refusal that repeats the caller's prompt fails its task, and other clients are served."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(Refused("400", "invalid prompt: insufficient credit"))
        params = {"prompt": "insufficient credit", "images": ["https://files.example/cat.png"]}
        assert (await loop.submitted(params=params)).status is Status.FAILED
        assert (await loop.submitted(client="bob")).status is Status.IN_PROGRESS


async def test_on_no_credit_fail(tmp_path: Path) -> None:
    """With ON_NO_CREDIT=fail the task fails with the provider's code, and nothing pauses."""
    async with open_loop(tmp_path, credit_waits=False) as loop:
        loop.upstream.creates.append(EMPTY)
        task = await loop.submitted()
        assert (task.status, task.error and task.error.code) == (Status.FAILED, "CreditInsufficient")
        assert (await loop.submitted()).status is Status.IN_PROGRESS


async def test_operator_sees_it_once(tmp_path: Path) -> None:
    """Readiness has a warning in every process while the pause lasts."""
    async with open_environment(tmp_path) as environment:
        one, other = environment.process(), environment.process()
        environment.upstream.creates.append(EMPTY)
        await one.submitted()
        await other.submitter.sweep()
        for each in (one, other):
            assert "the provider's account has no credit" in each.submitter.credit.warnings[0]


async def test_deadline_holds_while_a_task_waits(tmp_path: Path) -> None:
    """As with a reached budget, a task that waits past its deadline expires; it was never billed."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.extend([EMPTY] * 100)
        task = await loop.submitted()
        await loop.run_until(loop.clock.now() + 2 * HOUR + MINUTE)
        assert (await loop.task(task.id)).status is Status.EXPIRED
        assert await loop.happened(task.id) == [EventType.EXPIRED]


async def test_throttled_probe_keeps_the_pause(tmp_path: Path) -> None:
    """A probe that shows nothing about the account leaves the pause; another task is tried two minutes later."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.extend([EMPTY, Throttled("too many")])
        await loop.submitted()
        loop.clock.move(MINUTE)
        assert await loop.submit_due() == 1
        await loop.accept()
        loop.clock.move(MINUTE)
        assert await loop.submit_due() == 0
        loop.clock.move(MINUTE)
        assert await loop.submit_due() == 1


async def test_pause_is_stored_before_the_task_is_queued_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise another process would claim it in between, and be refused at once."""
    refused, seen = CreditWatch.refused, list[Status]()
    async with open_loop(tmp_path) as loop:

        async def observed(watch: CreditWatch, task: Task, code: str) -> None:
            seen.append((await loop.task(task.id)).status)
            await refused(watch, task, code)

        monkeypatch.setattr(CreditWatch, "refused", observed)
        loop.upstream.creates.append(EMPTY)
        assert (await loop.submitted()).status is Status.QUEUED
    assert seen == [Status.SUBMITTING]
