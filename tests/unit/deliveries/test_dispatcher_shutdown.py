"""Running deliveries: how the dispatcher stops, whatever handlers and the database do."""

import asyncio

import pytest

from service.deliveries import dispatcher as dispatch
from service.deliveries.handler_api import Event, Tools
from service.domain.errors import StoreUnavailable
from tests.support.delivery_builders import TIMEOUT, dispatcher_setup, handler
from tests.support.sample_handlers import HangingHandler, RecordingHandler, captured_logs, unresponsive_handler
from tests.support.wait_until_idle import ended


async def test_unresponsive_handlers_are_logged_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Handlers that block the exit of the process are logged once; their leases are released all the same."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    with unresponsive_handler() as unresponsive:
        setup = dispatcher_setup(
            handler("unresponsive", unresponsive, concurrency=2, timeout=TIMEOUT * 10),
            handler("sample", RecordingHandler()),
        )
        for name in ("unresponsive", "unresponsive", "sample"):
            setup.queue.put(name)
        await setup.dispatcher.run_once()
        with captured_logs() as lines:
            await setup.dispatcher.drain(0.01)
        errors = [line for line in lines if line["log_level"] == "error"]
        assert [(line["handlers"], line["deliveries"]) for line in errors] == [(["unresponsive"], 2)]
        assert sorted(setup.queue.released) == ["delivery-1", "delivery-2"]


async def test_attempt_past_its_timeout_counts_at_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Released uncounted, it would run again in each process that does a single pass, and never be a dead letter."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    with unresponsive_handler() as unresponsive:
        setup = dispatcher_setup(handler("unresponsive", unresponsive, timeout=0.001))
        setup.queue.put("unresponsive")
        await setup.dispatcher.run_once()
        async with asyncio.timeout(TIMEOUT):
            while setup.dispatcher.running():  # noqa: ASYNC110 - the event loop's own time passes, a millisecond of it
                await asyncio.sleep(0)
        await setup.dispatcher.drain(0)
        assert ([result.outcome for result in setup.queue.results], setup.queue.released) == (["retry"], [])


async def test_nothing_is_leased_at_insert_while_a_claim_delays_the_shutdown() -> None:
    """A drain that waits for a slow database starts nothing in a freed slot; the claimed deliveries are released."""
    with unresponsive_handler() as unresponsive:
        setup = dispatcher_setup(handler("unresponsive", unresponsive, concurrency=2, timeout=TIMEOUT * 10))
        setup.dispatcher.open()
        setup.queue.put("unresponsive")
        await setup.dispatcher.run_once()
        setup.queue.put("unresponsive")
        setup.queue.may_claim.clear()
        claiming = asyncio.create_task(setup.dispatcher.run_once())
        await asyncio.sleep(0)
        draining = asyncio.create_task(setup.dispatcher.drain(TIMEOUT))
        unresponsive.may_end.set()
        async with asyncio.timeout(TIMEOUT):
            await ended(setup.dispatcher)
        with setup.slots.reservations() as reservations:
            assert reservations.lease("unresponsive", setup.clock.now()) is None
        setup.queue.may_claim.set()
        assert await claiming == 0
        await draining
        assert setup.queue.released == ["delivery-2"]


async def test_drain_waits_for_handlers_that_end_in_time() -> None:
    """A handler that ends within the drain is stored as delivered, and nothing more is claimed."""
    setup = dispatcher_setup(handler("sample", RecordingHandler()))
    setup.queue.put("sample")
    await setup.dispatcher.run_once()
    await setup.dispatcher.drain(TIMEOUT)
    assert [result.outcome for result in setup.queue.results] == ["delivered"]
    setup.queue.put("sample")
    assert await setup.dispatcher.run_once() == 0


async def test_drain_releases_the_rest_uncounted() -> None:
    """A handler that still runs after the drain is cancelled, and its delivery is due again as the same attempt."""
    hanging = HangingHandler()
    setup = dispatcher_setup(handler("hanging", hanging))
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    await asyncio.wait_for(hanging.started.wait(), TIMEOUT)
    await setup.dispatcher.drain(0.01)
    assert setup.queue.released == ["delivery-1"]
    assert setup.queue.results == []
    assert (setup.queue.rows["delivery-1"].attempts, setup.dispatcher.in_flight) == (0, 0)


async def test_drain_does_not_count_errors_of_cancelled_handlers() -> None:
    """A handler that raises its own error when it is cancelled is released like any other."""
    entered = asyncio.Event()

    async def stubborn(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("I was busy") from None

    setup = dispatcher_setup(handler("stubborn", stubborn))
    setup.queue.put("stubborn")
    await setup.dispatcher.run_once()
    await asyncio.wait_for(entered.wait(), TIMEOUT)
    await setup.dispatcher.drain(0)
    assert (setup.queue.released, setup.queue.results) == (["delivery-1"], [])


async def test_drain_ends_without_the_database() -> None:
    """When the database is unavailable the drain still ends; the leases that it could not release expire."""
    hanging = HangingHandler()
    setup = dispatcher_setup(handler("hanging", hanging))
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    await asyncio.wait_for(hanging.started.wait(), TIMEOUT)
    setup.queue.broken = StoreUnavailable("gone")
    await setup.dispatcher.drain(0)
    assert (setup.queue.released, setup.dispatcher.in_flight) == ([], 0)


async def test_drain_does_not_wait_for_a_hanging_claim() -> None:
    """A claim that the database does not answer delays the shutdown no longer than the drain's time."""
    setup = dispatcher_setup(handler("sample", RecordingHandler()))
    setup.queue.may_claim.clear()
    setup.queue.put("sample")
    running = asyncio.create_task(setup.dispatcher.run_once())
    await asyncio.wait_for(setup.queue.claiming.wait(), TIMEOUT)
    await asyncio.wait_for(setup.dispatcher.drain(0.01), TIMEOUT)
    setup.queue.may_claim.set()
    assert await running == 0
    assert setup.queue.released == ["delivery-1"]


async def test_released_delivery_is_logged() -> None:
    """A handler that did not end in time has a log line, as every outcome has."""
    setup = dispatcher_setup(handler("hanging", HangingHandler(), timeout=TIMEOUT * 10))
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    with captured_logs() as lines:
        await setup.dispatcher.drain(0)
    assert [(line["event"], line["handler"]) for line in lines] == [("delivery released", "hanging")]
