"""Running deliveries: how dispatch comes to its end, whatever handlers and the database do."""

import asyncio

import pytest

from service.deliveries import dispatcher as dispatch
from tests.support.delivery_builders import PATIENCE, handler, stage
from tests.support.sample_handlers import Guest, a_deaf_one, outcomes_logged
from tests.support.wait_until_idle import ended


async def test_handlers_that_are_deaf_are_named_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """What keeps a process from ending is told once; the leases are given back all the same."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    with a_deaf_one() as unresponsive:
        made = stage(handler("deaf", unresponsive, concurrency=2, timeout=PATIENCE * 10), handler("guest", Guest()))
        for name in ("deaf", "deaf", "guest"):
            made.queue.put(name)
        await made.dispatch.run_once()
        with outcomes_logged() as lines:
            await made.dispatch.drain(0.01)
        told = [line for line in lines if line["log_level"] == "error"]
        assert [(line["handlers"], line["deliveries"]) for line in told] == [(["deaf"], 2)]
        assert sorted(made.queue.released) == ["delivery-1", "delivery-2"]


async def test_the_attempt_of_a_handler_that_is_past_its_time_counts_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Given back uncounted, it would be run again by each process that does one round, and never be a dead letter."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    with a_deaf_one() as unresponsive:
        made = stage(handler("deaf", unresponsive, timeout=0.001))
        made.queue.put("deaf")
        await made.dispatch.run_once()
        async with asyncio.timeout(PATIENCE):
            while made.dispatch.running():  # noqa: ASYNC110 - the event loop's own time passes, a millisecond of it
                await asyncio.sleep(0)
        await made.dispatch.drain(0)
        assert ([result.outcome for result in made.queue.results], made.queue.released) == (["retry"], [])


async def test_nothing_is_born_in_hand_while_a_claim_holds_up_the_end() -> None:
    """A stop that waits for a slow database begins nothing on a place that gets free; what is claimed is given back."""
    with a_deaf_one() as unresponsive:
        made = stage(handler("deaf", unresponsive, concurrency=2, timeout=PATIENCE * 10))
        made.dispatch.open()
        made.queue.put("deaf")
        await made.dispatch.run_once()
        made.queue.put("deaf")
        made.queue.held.clear()
        claiming = asyncio.create_task(made.dispatch.run_once())
        await asyncio.sleep(0)
        draining = asyncio.create_task(made.dispatch.drain(PATIENCE))
        unresponsive.may_end.set()
        async with asyncio.timeout(PATIENCE):
            await ended(made.dispatch)
        with made.slots.reservations() as reservations:
            assert reservations.lease("deaf", made.clock.now()) is None
        made.queue.held.set()
        assert await claiming == 0
        await draining
        assert made.queue.released == ["delivery-2"]
