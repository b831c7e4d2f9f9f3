"""Between two batches of a burst: the deliveries of the second are leased at insert if the handlers are fast."""

import asyncio
from pathlib import Path

import pytest

from service.callbacks import inbox_worker
from service.callbacks.inbox_worker import SLOTS_RETRY, SLOTS_WAIT
from service.callbacks.limits import BurstDetector
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Event, Handler, Tools
from service.deliveries.handler_slots import HandlerSlots, SlotReservations
from service.deliveries.lease_ahead import RUN_WITHIN, LeaseAhead
from service.storage.delivery_queue import SqlDeliveryQueue
from tests.support.delivery_builders import LEASE, NOW, TIMEOUT, handler
from tests.support.scripted_provider import vtrix_body
from tests.support.task_loop import Loop, open_loop
from tests.support.wait_until_idle import ended
from tests.support.worker_builder import build_dispatcher, build_worker

RUNS = 200
"""Runs after which an unknown run time counts no more."""


async def _nothing(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


SAMPLE = handler("sample", _nothing, concurrency=2)


def _slots(seconds: float, one: Handler = SAMPLE) -> HandlerSlots:
    """Return the slots of a handler whose runs take `seconds`."""
    slots = HandlerSlots([one], lease=LEASE, notify=lambda: None)
    slots.immediate.open(lambda _: None)
    for _ in range(RUNS):
        slots.ahead.note(one, seconds)
    return slots


async def test_a_fast_handler_is_waited_for() -> None:
    """The wait ends when its last slot is free."""
    slots = _slots(0.0)
    slots.take(SAMPLE)
    slots.take(SAMPLE)
    waiting = asyncio.create_task(slots.free_for_batch(TIMEOUT))
    for _ in range(2):
        await asyncio.sleep(0)
        assert not waiting.done()
        slots.release(SAMPLE)
    assert await waiting


async def test_a_wait_in_vain_ends() -> None:
    """A handler that takes longer than it did before holds nothing up for longer than the limit."""
    slots = _slots(0.0)
    slots.take(SAMPLE)
    assert not await slots.free_for_batch(0.0)


async def test_waiting_deliveries_of_a_fast_handler_are_waited_for() -> None:
    """They come before new ones: while they may wait, none of these would be leased at insert."""
    slots = _slots(0.0)
    slots.put_back(SAMPLE)
    assert not await slots.free_for_batch(0.0)
    waiting = asyncio.create_task(slots.free_for_batch(TIMEOUT))
    await asyncio.sleep(0)
    with slots.reserve_free(NOW) as capacities:
        slots.note_waiting([], capacities)
    assert await waiting


@pytest.mark.parametrize("reason", ["slow", "paused", "limited", "closed"])
async def test_other_handlers_are_not_waited_for(reason: str) -> None:
    """Those that are slow, paused or limited to a rate may have deliveries for long; no more are started at the end."""
    limited = handler("sample", _nothing, concurrency=2, rate="1/s")
    slots = _slots(RUN_WITHIN if reason == "slow" else 0.0, limited if reason == "limited" else SAMPLE)
    slots.take(SAMPLE)
    if reason == "paused":
        slots.hold_all()
    if reason == "closed":
        await slots.immediate.close()
    assert await slots.free_for_batch(0.0)


async def _burst(loop: Loop, count: int) -> None:
    for _ in range(count):
        await loop.submitted()
    for number in range(count):
        await loop.call_back(vtrix_body("completed") | {"id": f"up{number + 1}"}, request=number)


async def test_deliveries_of_the_next_batch_are_leased_at_insert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst of two batches: while those of the first run, the second waits, and needs no claim."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: True)
    monkeypatch.setattr(inbox_worker, "BATCH", 2)
    claimed: list[str] = []
    leased: list[int] = []
    claim, start = SqlDeliveryQueue.claim, Dispatcher._start_reserved

    async def noting(self: SqlDeliveryQueue, *arguments: object, **options: object) -> object:
        found = await claim(self, *arguments, **options)  # type: ignore[arg-type]
        claimed.extend(each.id for each in found)
        return found

    def counting(self: Dispatcher, reservations: SlotReservations) -> None:
        leased.append(len(reservations.reserved))
        start(self, reservations)

    monkeypatch.setattr(SqlDeliveryQueue, "claim", noting)
    monkeypatch.setattr(Dispatcher, "_start_reserved", counting)
    may_end = asyncio.Event()

    async def end_in_time(event: Event, tools: Tools) -> None:
        assert tools.message_id
        if event.type == "task.completed":
            await may_end.wait()

    async def slots_free(seconds: float) -> bool:
        assert seconds == SLOTS_WAIT
        may_end.set()
        return await loop.slots.free_for_batch(TIMEOUT)

    ends = handler("log", end_in_time, concurrency=2)
    async with open_loop(tmp_path, confirm=False, handlers=("log",), local_handlers=(ends,)) as loop:
        await _burst(loop, 4)
        dispatcher = build_dispatcher(loop)
        monkeypatch.setattr(LeaseAhead, "of", lambda *_: 1)
        while await dispatcher.run_once():  # those of the submissions
            await ended(dispatcher)
        claimed.clear()
        dispatcher.open()
        loop.inbox_worker.slots_free = slots_free
        assert [await loop.inbox_worker.run_once() for _ in range(3)] == [2, 2, 0]
        assert (leased, claimed) == ([2, 2], [])
        async with asyncio.timeout(TIMEOUT):
            await ended(dispatcher)


async def test_worker_waits_for_its_own_handlers(tmp_path: Path) -> None:
    """A process that dispatches records in step with its handlers; one that only serves HTTP has none."""
    async with open_loop(tmp_path) as loop:
        worker = build_worker(loop, [])
        worker.web_jobs()
        assert worker.inbox_worker.slots_free is None
        worker.jobs()
        assert worker.inbox_worker.slots_free == worker.dispatcher.slots.free_for_batch


async def test_only_a_batch_behind_a_full_one_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lone callback never does; after a wait in vain the next batches follow at once for a while."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: True)
    monkeypatch.setattr(inbox_worker, "BATCH", 2)
    waits: list[float] = []

    async def in_vain(seconds: float) -> bool:
        waits.append(seconds)
        return False

    async with open_loop(tmp_path, confirm=False) as loop:
        worker = loop.inbox_worker
        worker.slots_free = in_vain
        await _burst(loop, 9)
        assert (await worker.run_once(), waits) == (2, [])
        assert (await worker.run_once(), waits) == (2, [SLOTS_WAIT])
        assert (await worker.run_once(), waits) == (2, [SLOTS_WAIT])
        loop.clock.move(SLOTS_RETRY)
        assert (await worker.run_once(), waits) == (2, [SLOTS_WAIT] * 2)
        loop.clock.move(SLOTS_RETRY)
        assert (await worker.run_once(), waits) == (1, [SLOTS_WAIT] * 3)
        await loop.submitted()
        await loop.call_back(vtrix_body("completed") | {"id": "up10"}, request=9)
        assert (await worker.run_once(), waits) == (1, [SLOTS_WAIT] * 3)
