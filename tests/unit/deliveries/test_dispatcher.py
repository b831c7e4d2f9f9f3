"""Running deliveries: slots, independence of handlers, outcomes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from service.deliveries.handler_api import Event, Tools
from service.domain.errors import Reject, Retry
from service.domain.task_view import TaskView
from tests.support.delivery_builders import NOW, SCHEDULE, TIMEOUT, DispatcherSetup, dispatcher_setup, handler, view
from tests.support.sample_handlers import HangingHandler, RecordingHandler


async def _fail(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id
    raise KeyError("chat")


async def _retry(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id
    raise Retry("not now", after=77)


async def _reject(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id
    raise Reject("never")


@pytest.fixture
async def hanging() -> AsyncIterator[tuple[HangingHandler, DispatcherSetup]]:
    """Yield a hanging handler with two slots beside another handler; drained after the test."""
    hanging = HangingHandler()
    setup = dispatcher_setup(
        handler("hanging", hanging, concurrency=2, timeout=TIMEOUT * 10), handler("sample", RecordingHandler())
    )
    yield hanging, setup
    await setup.dispatcher.drain(0)
    assert setup.dispatcher.in_flight == 0


async def test_returning_handler_delivers() -> None:
    """A handler receives the event as it was stored, and its return is stored as delivered."""
    sample = RecordingHandler()
    setup = dispatcher_setup(handler("sample", sample))
    delivery_id = setup.queue.put("sample")
    assert await setup.run_until_idle() == 1
    assert [(result.delivery_id, result.outcome, result.attempt) for result in setup.queue.results] == [
        (delivery_id, "delivered", 1)
    ]
    assert sample.events[0].task == view()
    assert (sample.events[0].payload, sample.events[0].metadata) == ("the caller's", {"chat": 42})


async def test_nothing_due_starts_nothing() -> None:
    """A run without due rows starts nothing and leaves nothing in flight."""
    setup = dispatcher_setup(handler("sample", RecordingHandler()))
    assert await setup.run_until_idle() == 0


async def test_handler_gets_no_more_than_its_slots(hanging: tuple[HangingHandler, DispatcherSetup]) -> None:
    """With two slots taken, the third delivery stays unclaimed, whatever the number of runs."""
    hanging_handler, setup = hanging
    for _ in range(3):
        setup.queue.put("hanging")
    assert [await setup.dispatcher.run_once(), await setup.dispatcher.run_once()] == [2, 0]
    await asyncio.wait_for(hanging_handler.started.wait(), TIMEOUT)
    assert setup.queue.rows["delivery-3"].leased_until is None


async def test_hanging_handler_delays_no_other(hanging: tuple[HangingHandler, DispatcherSetup]) -> None:
    """While one handler hangs in all its slots, another's delivery is handed over in the same run."""
    _, setup = hanging
    for name in ("hanging", "hanging", "hanging", "sample"):
        setup.queue.put(name)
    assert await setup.dispatcher.run_once() == 3
    await asyncio.wait_for(setup.queue.finished.wait(), TIMEOUT)
    assert [result.delivery_id for result in setup.queue.results] == ["delivery-4"]


async def test_concurrent_runs_share_the_slots(hanging: tuple[HangingHandler, DispatcherSetup]) -> None:
    """Two runs at the same time claim together no more than the handler's slots."""
    _, setup = hanging
    for _ in range(5):
        setup.queue.put("hanging")
    assert sum(await asyncio.gather(setup.dispatcher.run_once(), setup.dispatcher.run_once())) == 2


async def test_freed_slot_notifies() -> None:
    """When a slot becomes free of a handler that had none left, `dispatch` is notified, since more may wait."""
    setup = dispatcher_setup(handler("sample", RecordingHandler(), concurrency=1))
    setup.queue.put("sample")
    setup.queue.put("sample")
    await setup.run_until_idle()
    assert setup.signals.topics == ["dispatch"]
    assert await setup.run_until_idle() == 1


async def test_delivery_of_an_unknown_handler_is_not_claimed() -> None:
    """A delivery whose handler is not loaded stays pending until the handler is loaded again."""
    setup = dispatcher_setup(handler("sample", RecordingHandler()))
    setup.queue.put("gone")
    assert await setup.run_until_idle() == 0
    assert setup.queue.rows["delivery-1"].leased_until is None


async def test_former_name_is_accepted() -> None:
    """A renamed handler runs the deliveries with its former name."""
    setup = dispatcher_setup(handler("sample", RecordingHandler(), aliases=("former",)))
    setup.queue.put("former")
    assert await setup.run_until_idle() == 1
    assert setup.queue.results[0].outcome == "delivered"


async def test_handler_never_receives_an_event_outside_its_subscription() -> None:
    """A delivery that was recorded without knowledge of the handler's events is delivered without a call."""
    sample = RecordingHandler()
    setup = dispatcher_setup(replace(handler("sample", sample), events=frozenset({"task.failed"})))
    setup.queue.put("sample")
    assert await setup.run_until_idle() == 1
    assert [result.outcome for result in setup.queue.results] == ["delivered"]
    assert sample.events == []


async def test_handler_with_its_own_schedule_follows_it() -> None:
    """Its length is the number of attempts; the others keep the common one."""
    schedules = {"sample": (timedelta(), timedelta(seconds=77))}
    setup = dispatcher_setup(handler("sample", _fail), handler("other", _fail), schedules=schedules)
    for name in ("sample", "other"):
        setup.queue.put(name)
    await setup.run_until_idle()
    due = {result.delivery_id: result.due_at for result in setup.queue.results}
    assert due == {"delivery-1": NOW + timedelta(seconds=77), "delivery-2": NOW + SCHEDULE[1]}
    setup.clock.at += timedelta(seconds=77)
    await setup.run_until_idle()
    outcomes = {result.delivery_id: result.outcome for result in setup.queue.results}
    assert outcomes["delivery-1"] == "dead"
    reasons = {result.delivery_id: result.end_reason for result in setup.queue.results}
    assert reasons["delivery-1"] == "2 attempts failed, as many as RETRY_SCHEDULE_SAMPLE has"


async def test_failure_follows_the_schedule_and_then_is_dead() -> None:
    """A bug is retried after each delay of the schedule, and is a dead letter with the fault `ours` after the last."""
    setup = dispatcher_setup(handler("sample", _fail))
    setup.queue.put("sample")
    for _ in SCHEDULE:
        await setup.run_until_idle()
        setup.clock.at += timedelta(seconds=30)
    assert [(result.outcome, result.fault) for result in setup.queue.results] == [
        ("retry", None),
        ("retry", None),
        ("dead", "ours"),
    ]
    assert setup.queue.results[0].due_at == NOW + timedelta(seconds=5)
    assert setup.queue.results[2].error == "KeyError: 'chat'"


async def test_handlers_own_limit_counts() -> None:
    """A handler with one attempt is dead after its first failure."""
    setup = dispatcher_setup(handler("sample", _fail, attempts=1))
    setup.queue.put("sample")
    await setup.run_until_idle()
    assert setup.queue.results[0].outcome == "dead"


async def test_retry_sets_its_delay() -> None:
    """A handler that raises Retry runs again after the delay that it named."""
    setup = dispatcher_setup(handler("sample", _retry))
    setup.queue.put("sample")
    await setup.run_until_idle()
    assert (setup.queue.results[0].outcome, setup.queue.results[0].due_at) == ("retry", NOW + timedelta(seconds=77))


async def test_reject_is_dead_at_once() -> None:
    """A handler that raises Reject does not run again; the destination is responsible."""
    setup = dispatcher_setup(handler("sample", _reject))
    setup.queue.put("sample")
    await setup.run_until_idle()
    assert (setup.queue.results[0].outcome, setup.queue.results[0].fault) == ("dead", "destination")


async def test_hanging_handler_times_out() -> None:
    """A handler that does not end within its timeout is a failed attempt, and the destination is responsible."""
    setup = dispatcher_setup(handler("hanging", HangingHandler(), timeout=0.01, attempts=1))
    setup.queue.put("hanging")
    await setup.run_until_idle()
    result = setup.queue.results[0]
    assert (result.outcome, result.fault) == ("dead", "destination")
    assert result.error == "TimeoutError: no end within 0.01 s"


async def test_timeout_is_named_although_the_handler_ends_otherwise() -> None:
    """A handler that turns the cancellation at its timeout into another error has exceeded its timeout."""

    async def wrap(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id
        try:
            await asyncio.sleep(TIMEOUT)
        except asyncio.CancelledError:
            raise RuntimeError("upload failed") from None

    setup = dispatcher_setup(handler("wrapping", wrap, timeout=0.01, attempts=1))
    setup.queue.put("wrapping")
    await setup.run_until_idle()
    [result] = setup.queue.results
    assert result.error == "TimeoutError: no end within 0.01 s; the handler ended with RuntimeError"
    assert result.last_error == f"{result.error} (not tried again: 1 attempt failed, as many as the handler allows)"


class Panic(BaseException):
    """What an extension module raises that is no ordinary exception."""


@pytest.mark.parametrize("raised", [SystemExit(2), asyncio.CancelledError(), Panic("index out of bounds")])
async def test_handler_cannot_stop_the_service(raised: BaseException) -> None:
    """A handler that exits the process or cancels itself has only failed an attempt."""

    async def leave(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id
        raise raised

    setup = dispatcher_setup(handler("sample", leave))
    setup.queue.put("sample")
    await setup.run_until_idle()
    assert setup.queue.results[0].outcome == "retry"


@pytest.mark.parametrize("awaits", [True, False])
async def test_handler_that_cancels_its_own_task_has_failed_an_attempt(awaits: bool) -> None:
    """It counts like any failure, with its reason, whether or not the handler awaits anything afterwards."""

    async def give_in(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if awaits:
            await asyncio.sleep(0)

    setup = dispatcher_setup(handler("sample", give_in))
    setup.queue.put("sample")
    for _ in SCHEDULE:
        await setup.run_until_idle()
        setup.clock.at += timedelta(seconds=30)
    assert [result.outcome for result in setup.queue.results] == ["retry", "retry", "dead"]
    assert {result.error for result in setup.queue.results} == {"CancelledError: the handler cancelled itself"}
    assert setup.queue.results[2].fault == "ours"


async def test_handler_that_ended_just_before_its_cancellation_has_delivered() -> None:
    """Its work is not repeated because the process stops a moment later."""

    async def end_in_time(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id
        [delivery] = setup.dispatcher._in_flight.values()
        assert delivery.task is not None
        asyncio.get_running_loop().call_soon(delivery.task.cancel)

    setup = dispatcher_setup(handler("sample", end_in_time))
    setup.queue.put("sample")
    await setup.run_until_idle()
    assert [result.outcome for result in setup.queue.results] == ["delivered"]


async def test_unreadable_event_is_a_failed_attempt() -> None:
    """A stored event that this version cannot read is retried and becomes a dead letter with the fault `ours`."""
    setup = dispatcher_setup(handler("sample", RecordingHandler(), attempts=1))
    setup.queue.put("sample")
    setup.queue.rows["delivery-1"].claim.event.data.clear()
    await setup.run_until_idle()
    assert (setup.queue.results[0].outcome, setup.queue.results[0].fault) == ("dead", "ours")


async def test_event_of_a_newer_version_is_read() -> None:
    """Fields that only a newer version knows do not prevent a delivery."""
    sample = RecordingHandler()
    setup = dispatcher_setup(handler("sample", sample))
    setup.queue.put("sample")
    setup.queue.rows["delivery-1"].claim.event.data["colour"] = "green"
    await setup.run_until_idle()
    assert isinstance(sample.events[0].task, TaskView)


async def test_attempts_that_end_together_share_one_commit() -> None:
    """Attempts that end together are stored together."""
    setup = dispatcher_setup(handler("sample", RecordingHandler(), concurrency=10))
    for _ in range(10):
        setup.queue.put("sample")
    await setup.run_until_idle()
    assert setup.queue.batches == [10]
