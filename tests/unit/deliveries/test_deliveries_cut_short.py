"""Deliveries that are ended because the process may stop: a slow one counts, a short one does not."""

import asyncio
from datetime import timedelta

import pytest

from service.deliveries import dispatcher as dispatch
from tests.support.delivery_builders import NOW, TIMEOUT, dispatcher_setup, handler
from tests.support.sample_handlers import HangingHandler, RecordingHandler, unresponsive_handler
from tests.support.wait_until_idle import ended

SECOND = timedelta(seconds=1)
LIMIT = 10 * SECOND


async def test_a_slow_attempt_counts_and_a_short_one_is_released() -> None:
    """What ran for ten seconds has failed for the given reason; what began later is due at once, uncounted."""
    slow, short = HangingHandler(), HangingHandler()
    setup = dispatcher_setup(handler("slow", slow), handler("short", short))
    setup.queue.put("slow")
    await setup.dispatcher.run_once()
    async with asyncio.timeout(TIMEOUT):
        await slow.started.wait()
    setup.clock.at = NOW + LIMIT
    setup.queue.put("short")
    await setup.dispatcher.run_once()
    async with asyncio.timeout(TIMEOUT):
        await short.started.wait()
        await setup.dispatcher.end_running("cut short", counted_after=LIMIT)
        await ended(setup.dispatcher)
    assert [(one.delivery_id, one.outcome, one.error) for one in setup.queue.results] == [
        ("delivery-1", "retry", "TimeoutError: cut short")
    ]
    assert setup.queue.released == ["delivery-2"]
    assert setup.dispatcher.in_flight == 0


async def test_work_goes_on_after_that() -> None:
    """The slots are free again: the next claim starts what is due."""
    seen = RecordingHandler()
    hanging = HangingHandler()
    setup = dispatcher_setup(handler("hanging", hanging, concurrency=1), handler("log", seen))
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    async with asyncio.timeout(TIMEOUT):
        await hanging.started.wait()
        await setup.dispatcher.end_running("cut short", counted_after=LIMIT)
    setup.queue.put("log")
    assert await setup.dispatcher.run_once() == 2
    assert hanging.calls + 1 == 2


async def test_a_handler_that_ignores_its_end_keeps_its_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attempt counts all the same, and nothing waits for it."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    with unresponsive_handler() as unresponsive:
        setup = dispatcher_setup(handler("log", unresponsive, concurrency=1, timeout=TIMEOUT * 10))
        setup.queue.put("log")
        await setup.dispatcher.run_once()
        await asyncio.sleep(0)
        setup.clock.at = NOW + LIMIT
        await setup.dispatcher.end_running("cut short", counted_after=LIMIT)
        assert [one.outcome for one in setup.queue.results] == ["retry"]
        assert (setup.dispatcher.running(), setup.dispatcher.in_flight, setup.slots.full) == (set(), 1, True)


async def test_the_loop_is_not_watched_between_the_requests() -> None:
    """A process that is stopped for a while does not report that a handler blocked it; the next work is watched."""
    hanging = HangingHandler()
    setup = dispatcher_setup(handler("hanging", hanging))
    for _ in range(2):
        setup.queue.put("hanging")
        await setup.dispatcher.run_once()
        assert setup.dispatcher._lease_pool._renewer
        await setup.dispatcher.end_running("cut short", counted_after=LIMIT)
        assert setup.dispatcher._lease_pool._renewer is None


async def test_the_tasks_of_running_deliveries_are_known() -> None:
    """A request finds out whether its task is still worked on."""
    hanging = HangingHandler()
    setup = dispatcher_setup(handler("log", hanging))
    setup.queue.put("log")
    assert setup.dispatcher.task_ids() == set()
    await setup.dispatcher.run_once()
    assert setup.dispatcher.task_ids() == {"task-1"}
    await setup.dispatcher.drain(0)
