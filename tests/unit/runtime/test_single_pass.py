"""One full round for whoever sleeps in between: all that is due, once, and no longer than it takes."""

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from pathlib import Path
from typing import TypeVar
from unittest.mock import patch

import pytest

from service.deliveries import dispatcher as dispatch
from service.domain.errors import StoreUnavailable, Throttled
from service.domain.task import Status
from service.runtime.worker import Worker
from service.tasks.poller import Poller
from service.tasks.submitter import Submitter
from tests.support.delivery_builders import handler
from tests.support.sample_handlers import unresponsive_handler
from tests.support.scripted_provider import DONE
from tests.support.task_loop import MINUTE, TIMEOUT, open_loop
from tests.support.wait_until_idle import ended
from tests.support.worker_builder import build_worker

T = TypeVar("T")


async def _in_time(work: Awaitable[T]) -> T:
    async with asyncio.timeout(TIMEOUT):
        return await work


async def _once(rounds: Worker) -> dict[str, int]:
    return await _in_time(rounds.reconcile_once())


async def test_one_full_round_takes_everything_that_is_due(tmp_path: Path) -> None:
    """Queued tasks are submitted, due ones polled, and what follows is dispatched, in one go."""
    async with open_loop(tmp_path) as loop:
        seen: list[str] = []
        rounds = build_worker(loop, seen)
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        loop.clock.move(MINUTE)
        await loop.accept()
        done = await _once(rounds)
        assert done == {"swept": 0, "submitted": 1, "polled": 1, "dispatched": 3}
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert sorted(seen) == ["task.completed", "task.submitted", "task.submitted"]
        assert sum((await _once(rounds)).values()) == 0
        await rounds.drain(0)


async def test_full_round_is_given_up_while_the_upstream_pauses(tmp_path: Path) -> None:
    """A pause of an hour ends the round at once and says so; what it kept from leaving is queued again, unbilled."""
    async with open_loop(tmp_path, rate=1000) as loop:
        seen: list[str] = []
        rounds = build_worker(loop, seen)
        loop.upstream.creates.append(DONE)
        await loop.submitted()
        loop.upstream.creates.append(Throttled("slow down", retry_after=timedelta(hours=1)))
        tasks = [await loop.accept() for _ in range(3)]
        done = await _once(rounds)
        assert 3590 <= done.pop("upstream_pause_seconds") <= 3600
        assert done["dispatched"] == 2
        await _in_time(ended(loop.submitter))
        assert [(await loop.task(task.id)).status for task in tasks] == [Status.QUEUED] * 3
        assert sum(loop.upstream.charges.values()) == 1


async def test_full_round_waits_for_what_was_in_hand_and_takes_what_that_makes_due(tmp_path: Path) -> None:
    """The clock of a process that was just woken may be faster: its work is not put to sleep half-way."""
    async with open_loop(tmp_path) as loop:
        seen: list[str] = []
        rounds, gate, under_way = build_worker(loop, seen), asyncio.Event(), loop.submitter.running
        loop.upstream.send_gate = gate
        await loop.accept()
        assert await loop.submitter.run_once() == 1

        def looked_at() -> set[asyncio.Task[None]]:
            gate.set()
            return under_way()

        with patch.object(Submitter, "running", lambda _: looked_at()):
            done = await _once(rounds)
        assert (done["submitted"], done["dispatched"], seen) == (0, 1, ["task.submitted"])


async def test_full_round_answers_though_work_comes_in_steadily(tmp_path: Path) -> None:
    """What another round of the process begins meanwhile holds up no answer, however long it takes."""
    async with open_loop(tmp_path) as loop:
        rounds, first, later = build_worker(loop, []), asyncio.Event(), asyncio.Event()
        loop.upstream.send_gate = first
        await loop.accept()
        asked = asyncio.create_task(rounds.reconcile_once())
        await _in_time(loop.upstream.arrived.wait())
        loop.upstream.send_gate = later
        await loop.accept()
        assert await loop.submitter.run_once() == 1
        first.set()
        assert (await _in_time(asked))["submitted"] == 1
        later.set()


async def test_full_round_waits_for_no_handler_that_is_deaf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that took no notice of its timeout holds up neither this answer nor the next ones."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    async with open_loop(tmp_path) as loop:
        with unresponsive_handler() as deaf:
            rounds = build_worker(loop, [], handler("log", deaf, timeout=0.001))
            await loop.submitted()
            assert (await _once(rounds))["dispatched"] == 1
            assert rounds.dispatcher.in_flight == 1
            assert (await _once(rounds))["dispatched"] == 0
        await rounds.drain(TIMEOUT)


async def test_who_asks_meanwhile_gets_the_result_of_the_round_that_is_running(tmp_path: Path) -> None:
    """Two who ask at once are told the same; one who goes away takes nothing from the other."""
    async with open_loop(tmp_path) as loop:
        rounds, gate = build_worker(loop, []), asyncio.Event()
        loop.upstream.send_gate = gate
        await loop.accept()
        first, second, third = (asyncio.create_task(rounds.reconcile_once()) for _ in range(3))
        await _in_time(loop.upstream.arrived.wait())
        first.cancel()
        gate.set()
        assert await _in_time(second) == await _in_time(third)
        assert (await second)["submitted"] == 1
        assert (await _once(rounds))["submitted"] == 0


async def test_full_round_begins_nothing_more_once_its_time_is_over(tmp_path: Path) -> None:
    """Who waits for an answer gets one: what is left is for the next round."""
    async with open_loop(tmp_path) as loop:
        rounds = build_worker(loop, [])
        await loop.accept()
        assert (await _in_time(rounds.reconcile_once(start_within=timedelta())))["submitted"] == 0
        assert (await _once(rounds))["submitted"] == 1


async def test_full_round_begins_nothing_more_once_the_process_stops(tmp_path: Path) -> None:
    """A stop cuts the round short; it answers with what was done, and later ones do nothing."""
    async with open_loop(tmp_path, concurrency=1) as loop:
        rounds, gate = build_worker(loop, []), asyncio.Event()
        loop.upstream.reply_gate = gate
        for _ in range(3):
            await loop.accept()
        asked = asyncio.create_task(rounds.reconcile_once())
        await _in_time(loop.upstream.arrived.wait())
        stopping = asyncio.create_task(rounds.drain(TIMEOUT))
        assert (await _in_time(asked))["submitted"] == 1
        gate.set()
        await _in_time(stopping)
        assert (await _once(rounds))["submitted"] == 0
        assert sum(loop.upstream.charges.values()) == 1


async def test_full_round_that_breaks_off_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asked is told why; the next round has its chance."""
    async with open_loop(tmp_path) as loop:
        rounds = build_worker(loop, [])

        async def gone(_: Poller) -> None:
            raise StoreUnavailable("the database is away")

        with monkeypatch.context() as patched:
            patched.setattr(Poller, "update_estimates", gone)
            with pytest.raises(StoreUnavailable):
                await _once(rounds)
        assert (await _once(rounds))["submitted"] == 0
