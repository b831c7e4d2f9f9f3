"""Running deliveries: places, independence, outcomes."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta

import pytest

from service.deliveries.handler_api import Event, Tools
from service.domain.errors import Reject, Retry
from service.domain.task_view import TaskView
from tests.support.delivery_builders import NOW, PATIENCE, SCHEDULE, Stage, handler, stage, view
from tests.support.sample_handlers import BlackHole, Guest


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
async def black_hole() -> AsyncIterator[tuple[BlackHole, Stage]]:
    """Give a black hole with two places beside a guest, both of whose deliveries are due; ended after the test."""
    hole = BlackHole()
    made = stage(handler("hole", hole, concurrency=2, timeout=PATIENCE * 10), handler("guest", Guest()))
    yield hole, made
    await made.dispatch.drain(0)
    assert made.dispatch.in_flight == 0


async def test_a_returning_handler_delivers() -> None:
    """A handler gets the event as it was stored, and its return is stored as delivered."""
    guest = Guest()
    made = stage(handler("guest", guest))
    delivery_id = made.queue.put("guest")
    assert await made.run_until_idle() == 1
    assert [(result.delivery_id, result.outcome, result.attempt) for result in made.queue.results] == [
        (delivery_id, "delivered", 1)
    ]
    assert guest.events[0].task == view()
    assert (guest.events[0].payload, guest.events[0].metadata) == ("the caller's", {"chat": 42})


async def test_nothing_due_starts_nothing() -> None:
    """A round without due rows starts nothing and leaves nothing in hand."""
    made = stage(handler("guest", Guest()))
    assert await made.run_until_idle() == 0


async def test_a_handler_gets_no_more_than_its_places(black_hole: tuple[BlackHole, Stage]) -> None:
    """With two places taken, the third delivery stays unclaimed, whatever number of rounds."""
    hole, made = black_hole
    for _ in range(3):
        made.queue.put("hole")
    assert [await made.dispatch.run_once(), await made.dispatch.run_once()] == [2, 0]
    await asyncio.wait_for(hole.news.wait(), PATIENCE)
    assert made.queue.rows["delivery-3"].leased_until is None


async def test_a_black_hole_delays_no_other(black_hole: tuple[BlackHole, Stage]) -> None:
    """While one handler hangs in all its places, another's delivery is handed over in the same round."""
    _, made = black_hole
    for name in ("hole", "hole", "hole", "guest"):
        made.queue.put(name)
    assert await made.dispatch.run_once() == 3
    await asyncio.wait_for(made.queue.finished.wait(), PATIENCE)
    assert [result.delivery_id for result in made.queue.results] == ["delivery-4"]


async def test_concurrent_rounds_share_the_places(black_hole: tuple[BlackHole, Stage]) -> None:
    """Two rounds at the same time claim together no more than the handler's places."""
    _, made = black_hole
    for _ in range(5):
        made.queue.put("hole")
    assert sum(await asyncio.gather(made.dispatch.run_once(), made.dispatch.run_once())) == 2


async def test_an_end_asks_for_another_round() -> None:
    """When a place gets free of a handler that had none left, `dispatch` rings, since more may be waiting."""
    made = stage(handler("guest", Guest(), concurrency=1))
    made.queue.put("guest")
    made.queue.put("guest")
    await made.run_until_idle()
    assert made.bell.rung == ["dispatch"]
    assert await made.run_until_idle() == 1


async def test_a_delivery_of_an_unknown_handler_is_left_alone() -> None:
    """Nothing claims a delivery whose handler is not loaded, so that it is there when the handler comes back."""
    made = stage(handler("guest", Guest()))
    made.queue.put("gone")
    assert await made.run_until_idle() == 0
    assert made.queue.rows["delivery-1"].leased_until is None


async def test_a_former_name_is_honoured() -> None:
    """A renamed handler takes the deliveries that carry its former name."""
    made = stage(handler("guest", Guest(), aliases=("visitor",)))
    made.queue.put("visitor")
    assert await made.run_until_idle() == 1
    assert made.queue.results[0].outcome == "delivered"


async def test_a_handler_never_sees_an_event_that_it_does_not_want() -> None:
    """What was recorded where the handler was not loaded, and nobody knew its events, is through at once."""
    guest = Guest()
    made = stage(replace(handler("guest", guest), events=frozenset({"task.failed"})))
    made.queue.put("guest")
    assert await made.run_until_idle() == 1
    assert [result.outcome for result in made.queue.results] == ["delivered"]
    assert guest.events == []


async def test_a_failure_follows_the_schedule_and_then_is_dead() -> None:
    """A bug is tried again after each pause of the schedule, and is a dead letter of ours after the last."""
    made = stage(handler("guest", _fail))
    made.queue.put("guest")
    for _ in SCHEDULE:
        await made.run_until_idle()
        made.clock.at += timedelta(seconds=30)
    assert [(result.outcome, result.fault) for result in made.queue.results] == [
        ("retry", None),
        ("retry", None),
        ("dead", "ours"),
    ]
    assert made.queue.results[0].due_at == NOW + timedelta(seconds=5)
    assert made.queue.results[2].error == "KeyError: 'chat'"


async def test_a_handlers_own_limit_counts() -> None:
    """A handler with one attempt is dead after its first failure."""
    made = stage(handler("guest", _fail, attempts=1))
    made.queue.put("guest")
    await made.run_until_idle()
    assert made.queue.results[0].outcome == "dead"


async def test_retry_names_its_pause() -> None:
    """A handler that raises Retry is run again when it asked to be."""
    made = stage(handler("guest", _retry))
    made.queue.put("guest")
    await made.run_until_idle()
    assert (made.queue.results[0].outcome, made.queue.results[0].due_at) == ("retry", NOW + timedelta(seconds=77))


async def test_reject_is_dead_at_once() -> None:
    """A handler that raises Reject is not run again; the destination is to blame."""
    made = stage(handler("guest", _reject))
    made.queue.put("guest")
    await made.run_until_idle()
    assert (made.queue.results[0].outcome, made.queue.results[0].fault) == ("dead", "destination")


async def test_a_silent_handler_times_out() -> None:
    """A handler that does not end within its time is a failed attempt that the destination is to blame for."""
    made = stage(handler("hole", BlackHole(), timeout=0.01, attempts=1))
    made.queue.put("hole")
    await made.run_until_idle()
    result = made.queue.results[0]
    assert (result.outcome, result.fault) == ("dead", "destination")
    assert result.error == "TimeoutError: no end within 0.01 s"


class Panic(BaseException):
    """What an extension module raises that is no ordinary exception."""


@pytest.mark.parametrize("raised", [SystemExit(2), asyncio.CancelledError(), Panic("index out of bounds")])
async def test_a_handler_cannot_take_the_service_down(raised: BaseException) -> None:
    """A handler that leaves the process or cancels itself has only failed an attempt."""

    async def leave(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id
        raise raised

    made = stage(handler("guest", leave))
    made.queue.put("guest")
    await made.run_until_idle()
    assert made.queue.results[0].outcome == "retry"


@pytest.mark.parametrize("goes_on", [True, False])
async def test_a_handler_that_cancels_its_own_task_has_failed_an_attempt(goes_on: bool) -> None:
    """Whether it is still to wait for anything or ends at once, it is counted like any failure, and says why."""

    async def give_in(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        if goes_on:
            await asyncio.sleep(0)

    made = stage(handler("guest", give_in))
    made.queue.put("guest")
    for _ in SCHEDULE:
        await made.run_until_idle()
        made.clock.at += timedelta(seconds=30)
    assert [result.outcome for result in made.queue.results] == ["retry", "retry", "dead"]
    assert {result.error for result in made.queue.results} == {"CancelledError: the handler cancelled itself"}
    assert made.queue.results[2].fault == "ours"


async def test_a_handler_that_ended_just_before_it_is_stopped_has_delivered() -> None:
    """What it did is not done once more because the process ends in the moment after."""

    async def end_in_time(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id
        [hand] = made.dispatch._in_flight.values()
        assert hand.task is not None
        asyncio.get_running_loop().call_soon(hand.task.cancel)

    made = stage(handler("guest", end_in_time))
    made.queue.put("guest")
    await made.run_until_idle()
    assert [result.outcome for result in made.queue.results] == ["delivered"]


async def test_an_event_that_cannot_be_read_is_a_failed_attempt() -> None:
    """A stored event that this version cannot read is tried again and in the end a dead letter of ours."""
    made = stage(handler("guest", Guest(), attempts=1))
    made.queue.put("guest")
    made.queue.rows["delivery-1"].claim.event.data.clear()
    await made.run_until_idle()
    assert (made.queue.results[0].outcome, made.queue.results[0].fault) == ("dead", "ours")


async def test_an_event_of_a_newer_version_is_read() -> None:
    """Fields that only a newer version knows do not keep this one from delivering."""
    guest = Guest()
    made = stage(handler("guest", guest))
    made.queue.put("guest")
    made.queue.rows["delivery-1"].claim.event.data["colour"] = "green"
    await made.run_until_idle()
    assert isinstance(guest.events[0].task, TaskView)


async def test_ends_share_one_commit() -> None:
    """Attempts that end together are stored together."""
    made = stage(handler("guest", Guest(), concurrency=10))
    for _ in range(10):
        made.queue.put("guest")
    await made.run_until_idle()
    assert made.queue.batches == [10]
