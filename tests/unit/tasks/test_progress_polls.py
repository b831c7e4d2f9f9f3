"""Polls for those who watch: only then, only with requests that nothing else needs, and beside the usual schedule."""

from contextlib import ExitStack
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.domain.errors import ProviderUnavailable, Throttled, UnknownTask
from service.domain.event_routing import Subscription, wants_progress
from service.domain.task import EventType, Fact, Status, Task
from service.tasks.progress_polls import ProgressPolls
from service.tasks.watched_tasks import TaskWatch
from tests.support.scripted_provider import DONE, vtrix_body
from tests.support.task_loop import MINUTE, SECOND, Loop, open_environment, open_loop
from tests.support.wait_until_idle import ended

EVERY = 5 * SECOND


def progress_of(loop: Loop) -> ProgressPolls:
    """Return the progress polls of a process."""
    return ProgressPolls(
        watched=loop.store.watched_tasks,
        submitter=loop.submitter,
        poller=loop.poller,
        provider=loop.rate_limited,
        clock=loop.clock,
        every=EVERY,
    )


def watch_of(loop: Loop) -> TaskWatch:
    """Return the registry of a process."""
    return TaskWatch(store=loop.store.watched_tasks, clock=loop.clock)


async def run(polls: ProgressPolls, loop: Loop) -> int:
    """Start the progress polls that may start, and wait for their end."""
    count = await polls.run_once()
    await ended(loop.poller)
    return count


def report(loop: Loop, task: Task, progress: float) -> None:
    """Let the provider report this progress."""
    loop.upstream.set_fact(task.upstream_id or "", Fact(status=Status.IN_PROGRESS, progress=progress))


async def test_watched_task_progresses(tmp_path: Path) -> None:
    """While somebody watches, a task is polled every five seconds and its progress is recorded; then no more."""
    async with open_loop(tmp_path) as loop:
        task, polls, watch = await loop.submitted(), progress_of(loop), watch_of(loop)
        due_at = task.due_at
        with watch.watching(task.id):
            for step in range(1, 3):
                loop.clock.move(EVERY)
                report(loop, task, step / 10)
                await watch.renew()
                assert [await run(polls, loop), await run(polls, loop)] == [1, 0]
        assert (await loop.happened(task.id)).count(EventType.PROGRESSED) == 2
        after = await loop.task(task.id)
        assert (after.progress, after.due_at, after.polls) == (0.2, due_at, 0)
        assert await loop.happened(task.id, "poll") == []
        loop.clock.move(MINUTE)
        assert await run(polls, loop) == 0


async def test_nobody_watches(tmp_path: Path) -> None:
    """A task that nobody watches is not polled before its time."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        loop.clock.move(EVERY)
        assert await run(progress_of(loop), loop) == 0
        assert loop.upstream.polled == []


async def test_wait_in_another_process(tmp_path: Path) -> None:
    """A wait in a web process reaches the worker through the database."""
    async with open_environment(tmp_path) as environment:
        web, worker = environment.process(), environment.process()
        task, watch = await worker.submitted(), watch_of(web)
        with watch.watching(task.id):
            await watch.renew()
        environment.clock.move(EVERY)
        assert await run(progress_of(worker), worker) == 1


async def test_end_is_found_by_the_way(tmp_path: Path) -> None:
    """A progress poll that finds the end settles the task like any other poll."""
    async with open_loop(tmp_path) as loop:
        task, watch = await loop.submitted(), watch_of(loop)
        loop.upstream.set_fact("up1", DONE)
        with watch.watching(task.id):
            await watch.renew()
        loop.clock.move(EVERY)
        await run(progress_of(loop), loop)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by, after.due_at) == (Status.COMPLETED, "poll", None)
        assert await loop.happened(task.id, "poll") == ["completed"]


@pytest.mark.parametrize("error", [Throttled("x"), ProviderUnavailable("x"), UnknownTask("x"), ValueError("x")])
async def test_failed_progress_poll_changes_nothing(tmp_path: Path, error: Exception) -> None:
    """An error of a progress poll leaves task, note and schedule as they were, and releases the lease."""
    async with open_loop(tmp_path) as loop:
        task, watch = await loop.submitted(), watch_of(loop)
        loop.upstream.fetches.append(error)
        with watch.watching(task.id):
            await watch.renew()
        loop.clock.move(EVERY)
        assert await run(progress_of(loop), loop) == 1
        after = await loop.task(task.id)
        assert replace(after, fence=task.fence) == task
        assert await loop.happened(task.id, "poll") == []


async def test_callback_during_a_progress_poll_is_not_delayed(tmp_path: Path) -> None:
    """A callback that comes while a progress poll runs makes the task due, and the poll does not change that."""
    async with open_loop(tmp_path) as loop:
        task, watch = await loop.submitted(), watch_of(loop)

        class Gate:
            async def wait(self) -> None:
                await loop.call_back(vtrix_body("completed"))

        gate: Any = Gate()
        loop.upstream.poll_gate = gate
        with watch.watching(task.id):
            await watch.renew()
        loop.clock.move(EVERY)
        await run(progress_of(loop), loop)
        assert (await loop.task(task.id)).due_at == loop.clock.now()


async def test_many_watched_tasks_share_what_is_left(tmp_path: Path) -> None:
    """With more watched tasks than requests, all are polled in turn, at longer intervals."""
    async with open_loop(tmp_path) as loop:
        tasks = [await loop.submitted() for _ in range(9)]
        polls, watch = progress_of(loop), watch_of(loop)
        loop.upstream.free = 2
        with ExitStack() as stack:
            for task in tasks:
                stack.enter_context(watch.watching(task.id))
            await watch.renew()
            for _ in range(9):
                loop.clock.move(EVERY / 5)
                await run(polls, loop)
        assert len(set(loop.upstream.polled)) == len(tasks)


async def test_nothing_is_polled_while_submissions_wait(tmp_path: Path) -> None:
    """Progress polls take no request while submissions wait for one."""
    async with open_loop(tmp_path) as loop:
        task, polls, watch = await loop.submitted(), progress_of(loop), watch_of(loop)
        with watch.watching(task.id):
            await watch.renew()
        for _ in range(3):
            await loop.accept()
        loop.clock.move(EVERY)
        loop.upstream.free = 1
        await loop.submit_due()
        assert await run(polls, loop) == 0
        loop.upstream.free = 16
        await loop.submit_due()
        assert await run(polls, loop) == 1


async def test_due_polls_come_first(tmp_path: Path) -> None:
    """A task whose usual poll is due is polled by that alone."""
    async with open_loop(tmp_path) as loop:
        task, watch = await loop.submitted(), watch_of(loop)
        loop.clock.move(MINUTE)
        with watch.watching(task.id):
            await watch.renew()
        assert await run(progress_of(loop), loop) == 0
        assert await loop.poll_due() == 1


async def test_400_waits_cost_few_writes(tmp_path: Path) -> None:
    """Four hundred waits on as many tasks are stored together, and renewed every quarter of a minute."""
    async with open_loop(tmp_path) as loop:
        tasks, watch = [await loop.accept() for _ in range(40)], watch_of(loop)
        ids = [task.id for task in tasks]
        written = []
        with ExitStack() as stack:
            for task_id in ids * 10:
                stack.enter_context(watch.watching(task_id))
            for _ in range(24):
                written.append(await watch.renew())
                loop.clock.move(timedelta(seconds=2.5))
        assert written == ([40] + [0] * 5) * 4


async def test_rows_of_ended_tasks_are_deleted(tmp_path: Path) -> None:
    """What is stored about watched tasks does not grow: it is deleted when they end, or nobody watches any more."""
    async with open_loop(tmp_path) as loop:
        watch, store = watch_of(loop), loop.store.watched_tasks
        first, second = await loop.submitted(), await loop.submitted()
        with watch.watching(first.id), watch.watching(second.id):
            await watch.renew()
        loop.upstream.set_fact("up1", DONE)
        loop.clock.move(20 * SECOND)
        await loop.poll_due()
        assert await store.prune(now=loop.clock.now()) == 1
        loop.clock.move(20 * SECOND)
        assert await store.prune(now=loop.clock.now()) == 1


async def test_notify_for_progress_watches(tmp_path: Path) -> None:
    """A `notify` entry that names task.progressed makes the worker poll its task, until its deadline."""
    async with open_loop(tmp_path) as loop:
        entry = {"handler": "webhook", "url": "https://shop.example/hook", "events": ["task.progressed"]}
        await loop.submitted()
        task = await loop.submitted(notify=[entry])
        loop.clock.move(EVERY)
        report(loop, task, 0.5)
        assert await run(progress_of(loop), loop) == 1
        assert EventType.PROGRESSED in await loop.happened(task.id)


def test_who_wants_progress() -> None:
    """Handlers and entries that name the event ask for it; those that take every event do not."""
    every = frozenset(event.value for event in EventType)
    one = frozenset({EventType.PROGRESSED.value})
    assert not wants_progress([{"handler": "webhook"}], [Subscription(name="log", events=every)])
    assert wants_progress([], [Subscription(name="bar", events=one)])
    assert not wants_progress([], [Subscription(name="bar", events=one, by_request=True)])
    assert wants_progress([{"handler": "webhook", "events": sorted(one)}], [])
