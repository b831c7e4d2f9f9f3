"""Deliveries that are leased ahead of their handler: how many, and what happens to those whose turn does not come."""

import asyncio
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest

from service.deliveries import dispatcher as dispatch
from service.deliveries.handler_api import Event, Handler, Tools
from service.deliveries.lease_ahead import MAX_AHEAD, MIN_ATTEMPTS, RUN_WITHIN, LeaseAhead
from service.domain.errors import StoreUnavailable
from tests.support.delivery_builders import TIMEOUT, DispatcherSetup, dispatcher_setup, handler
from tests.support.sample_handlers import RecordingHandler
from tests.support.wait_until_idle import ended

ENOUGH_RUNS = 200
"""Runs after which a slow one is forgotten."""


async def _nothing(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


class GatedHandler:
    """Counts the runs at once, and holds them while `may_end` is cleared."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.may_end = asyncio.Event()
        self.began: Counter[str] = Counter()

    async def __call__(self, event: Event, tools: Tools) -> None:
        """Wait for `may_end`."""
        assert tools.message_id
        self.running += 1
        self.began[event.client] += 1
        self.most = max(self.most, self.running)
        try:
            await self.may_end.wait()
        finally:
            self.running -= 1

    async def wait_for(self, running: int) -> None:
        """Wait until this many run."""
        async with asyncio.timeout(TIMEOUT):
            while self.running < running:  # noqa: ASYNC110 - some turns of the event loop
                await asyncio.sleep(0)


def _quick(setup: DispatcherSetup, one: Handler) -> None:
    for _ in range(ENOUGH_RUNS):
        setup.slots.ahead.note(one, 0.0)


def test_a_handler_of_unknown_run_time_leases_none_ahead() -> None:
    """Another process may be idle while a slow handler's deliveries wait in this one."""
    assert LeaseAhead().of(handler("new", _nothing)) == 0


@pytest.mark.parametrize(("seconds", "ahead"), [(0.0, MAX_AHEAD), (RUN_WITHIN / 5, 64), (RUN_WITHIN, 0), (30.0, 0)])
def test_the_slowest_recent_run_bounds_what_is_leased_ahead(seconds: float, ahead: int) -> None:
    """As many as the 16 slots run within RUN_WITHIN, if all take as long as the slowest recent one."""
    limits, one = LeaseAhead(), handler("one", _nothing)
    for _ in range(ENOUGH_RUNS):
        limits.note(one, 0.0)
    limits.note(one, seconds)
    assert limits.of(one) == ahead


def test_a_slow_run_is_forgotten_after_quick_ones() -> None:
    """One slow answer of a receiver does not slow a handler down for good."""
    limits, one = LeaseAhead(), handler("one", _nothing)
    limits.note(one, 30.0)
    for _ in range(ENOUGH_RUNS):
        limits.note(one, 0.0)
    assert limits.of(one) == MAX_AHEAD


@pytest.mark.parametrize(("attempts", "ahead"), [(MIN_ATTEMPTS - 1, 0), (MIN_ATTEMPTS, MAX_AHEAD), (None, MAX_AHEAD)])
def test_handlers_with_few_attempts_lease_none_ahead(attempts: int | None, ahead: int) -> None:
    """A crash counts an attempt of each leased delivery, and so could use up the attempts of one that never ran."""
    limits, one = LeaseAhead(), handler("one", _nothing, attempts=attempts)
    for _ in range(ENOUGH_RUNS):
        limits.note(one, 0.0)
    assert limits.of(one) == ahead


@pytest.mark.parametrize(("own", "common", "ahead"), [(1, 3, 0), (3, 1, MAX_AHEAD), (None, 2, 0), (None, 3, MAX_AHEAD)])
def test_a_short_schedule_leases_none_ahead(own: int | None, common: int, ahead: int) -> None:
    """A handler without attempts of its own has as many as its schedule, or RETRY_SCHEDULE, has delays."""
    one = handler("one", _nothing)
    schedules = {} if own is None else {"one": (timedelta(),) * own}
    setup = dispatcher_setup(one, schedule=(timedelta(),) * common, schedules=schedules)
    _quick(setup, one)
    assert setup.slots.ahead.of(one) == ahead


async def test_one_claim_leases_more_than_run_at_once() -> None:
    """All of them are leased by one claim and stored in few commits, and only the concurrency runs at once."""
    gated = GatedHandler()
    one = handler("gated", gated, concurrency=4)
    setup = dispatcher_setup(one)
    _quick(setup, one)
    for _ in range(100):
        setup.queue.put("gated")
    assert await setup.dispatcher.run_once() == 100
    await gated.wait_for(4)
    gated.may_end.set()
    async with asyncio.timeout(TIMEOUT):
        await ended(setup.dispatcher)
    assert (gated.most, [result.outcome for result in setup.queue.results]) == (4, ["delivered"] * 100)


async def test_deliveries_whose_turn_does_not_come_are_released_uncounted(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are due again as the same attempt, and none is leased ahead while the handler is that slow."""
    monkeypatch.setattr(dispatch, "AHEAD_TIMEOUT", 0.01)
    gated = GatedHandler()
    one = handler("gated", gated, concurrency=2)
    setup = dispatcher_setup(one)
    _quick(setup, one)
    ids = [setup.queue.put("gated") for _ in range(5)]
    started = await setup.dispatcher.start_due()
    async with asyncio.timeout(TIMEOUT):
        await asyncio.wait(started[2:])
    assert (sorted(setup.queue.released), setup.queue.results) == (ids[2:], [])
    assert [setup.queue.rows[delivery].attempts for delivery in ids[2:]] == [0, 0, 0]
    setup.slots.ahead.note(one, 1.0)
    assert await setup.dispatcher.run_once() == 0
    gated.may_end.set()
    await setup.dispatcher.drain(TIMEOUT)


async def test_what_is_not_begun_is_released_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that expires would count an attempt, though the handler was never started."""
    monkeypatch.setattr(dispatch, "AHEAD_TIMEOUT", 0.01)
    gated = GatedHandler()
    one = handler("gated", gated, concurrency=2)
    setup = dispatcher_setup(one, store_retry_delays=(0.0,) * 50)
    _quick(setup, one)
    ids = [setup.queue.put("gated") for _ in range(5)]
    started = await setup.dispatcher.start_due()
    setup.queue.broken = StoreUnavailable("gone")
    async with asyncio.timeout(TIMEOUT):
        await setup.queue.refused.wait()
    setup.queue.broken = None
    async with asyncio.timeout(TIMEOUT):
        await asyncio.wait(started[2:])
    assert sorted(setup.queue.released) == ids[2:]
    gated.may_end.set()
    await setup.dispatcher.drain(TIMEOUT)


async def test_a_stop_releases_at_once_what_has_not_begun() -> None:
    """Another process starts it while this one still waits for its running handlers."""
    gated = GatedHandler()
    one = handler("gated", gated, concurrency=2)
    setup = dispatcher_setup(one)
    _quick(setup, one)
    ids = [setup.queue.put("gated") for _ in range(5)]
    await setup.dispatcher.run_once()
    draining = asyncio.create_task(setup.dispatcher.drain(TIMEOUT))
    async with asyncio.timeout(TIMEOUT):
        while len(setup.queue.released) < 3:  # noqa: ASYNC110 - some turns of the event loop
            await asyncio.sleep(0)
    assert (sorted(setup.queue.released), gated.running) == (ids[2:], 2)
    gated.may_end.set()
    await draining
    assert [result.delivery_id for result in setup.queue.results] == ids[:2]


async def test_the_timeout_of_a_handler_counts_from_its_start() -> None:
    """Waiting for its turn is not the handler's time."""
    gated = GatedHandler()
    one = handler("gated", gated, concurrency=1, timeout=TIMEOUT * 10)
    setup = dispatcher_setup(one)
    _quick(setup, one)
    for _ in range(2):
        setup.queue.put("gated")
    await setup.dispatcher.run_once()
    await asyncio.sleep(0)
    first, second = setup.dispatcher._in_flight.values()
    assert (first.begun, second.begun) == (True, False)
    assert not second.overdue(asyncio.get_running_loop().time() + TIMEOUT * 100)
    gated.may_end.set()
    await setup.dispatcher.drain(TIMEOUT)


async def test_a_client_with_slow_receivers_leaves_turns_to_others() -> None:
    """Of 4 at once its deliveries get 2, however many of them are leased ahead."""
    gated = GatedHandler()
    one = handler("gated", gated, concurrency=4)
    setup = dispatcher_setup(one)
    _quick(setup, one)
    for client in ["slow"] * 20 + ["other"]:
        event = setup.queue.rows[setup.queue.put("gated", target={"url": "https://example.org"})]
        event.claim = replace(event.claim, event=replace(event.claim.event, client=client))
    await setup.dispatcher.run_once()
    await gated.wait_for(3)
    assert gated.began == {"slow": 2, "other": 1}
    gated.may_end.set()
    await setup.dispatcher.drain(TIMEOUT)


async def test_claims_wait_until_half_of_what_is_leased_ahead_has_run() -> None:
    """So that a claim takes many at once, and the handler still never runs out of work."""
    recording = RecordingHandler()
    one = handler("one", recording, concurrency=16)
    setup = dispatcher_setup(one)
    _quick(setup, one)
    for _ in range(16 + MAX_AHEAD // 2 + 1):
        setup.slots.take(one)
    setup.queue.put("one")
    assert await setup.dispatcher.run_once() == 0
    setup.slots.release(one)
    assert setup.signals.topics == ["dispatch"]
    assert await setup.run_until_idle() == 1
