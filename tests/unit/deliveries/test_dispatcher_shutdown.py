"""Running deliveries: how the dispatcher stops, whatever handlers and the database do."""

import asyncio

import pytest

from service.deliveries import dispatcher as dispatch
from tests.support.delivery_builders import TIMEOUT, dispatcher_setup, handler
from tests.support.sample_handlers import RecordingHandler, captured_logs, unresponsive_handler
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
