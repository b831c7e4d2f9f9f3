"""Running deliveries: what happens to leases, late results, and what is in hand when the process ends."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from service.deliveries import dispatcher as dispatch
from service.deliveries.handler_api import Event, Tools
from service.domain.errors import StoreUnavailable
from tests.support.delivery_builders import LEASE, NOW, PATIENCE, SCHEDULE, Stage, handler, stage
from tests.support.sample_handlers import BlackHole, Deaf, Guest, outcomes_logged
from tests.support.wait_until_idle import ended


@pytest.fixture
async def black_hole() -> AsyncIterator[tuple[BlackHole, Stage]]:
    """Give a black hole with two places beside a guest, both of whose deliveries are due; ended after the test."""
    hole = BlackHole()
    made = stage(handler("hole", hole, concurrency=2, timeout=PATIENCE * 10), handler("guest", Guest()))
    yield hole, made
    await made.dispatch.drain(0)
    assert made.dispatch.in_flight == 0


async def test_a_result_waits_for_the_database() -> None:
    """A result that could not be stored is stored once the database is back; the handler runs once."""
    guest = Guest()
    made = stage(handler("guest", guest), store_retry_delays=(0.0,) * 50)
    made.queue.put("guest")
    await made.dispatch.run_once()
    made.queue.broken = StoreUnavailable("locked")
    await asyncio.wait_for(made.queue.refused.wait(), PATIENCE)
    made.queue.broken = None
    async with asyncio.timeout(PATIENCE):
        await ended(made.dispatch)
    assert [result.outcome for result in made.queue.results] == ["delivered"]
    assert len(guest.events) == 1


async def test_a_result_that_is_never_stored_leaves_the_place() -> None:
    """When the database stays away the place becomes free, and the lease brings the delivery back."""
    guest = Guest()
    made = stage(handler("guest", guest), store_retry_delays=())
    made.queue.put("guest")
    await made.dispatch.run_once()
    made.queue.broken = StoreUnavailable("gone")
    async with asyncio.timeout(PATIENCE):
        await ended(made.dispatch)
    made.queue.broken = None
    for wait in (LEASE, SCHEDULE[1]):
        made.clock.at += wait
        await made.run_until_idle()
    assert len(guest.events) == 2
    assert made.queue.rows["delivery-1"].status == "delivered"


async def test_renewal_prolongs_what_is_in_hand(black_hole: tuple[BlackHole, Stage]) -> None:
    """A renewal moves the end of every lease in hand to a whole lease from now."""
    _, made = black_hole
    made.queue.put("hole")
    await made.dispatch.run_once()
    made.clock.at += LEASE / 2
    await made.dispatch._lease_pool.renew()
    assert made.queue.rows["delivery-1"].leased_until == made.clock.at + LEASE


async def test_leases_are_renewed_in_the_background() -> None:
    """While a handler runs, its lease is renewed again and again without anybody's doing."""
    made = stage(handler("hole", BlackHole()), lease=timedelta(milliseconds=30))
    made.queue.put("hole")
    await made.dispatch.run_once()
    for _ in range(2):
        made.queue.renewed.clear()
        await asyncio.wait_for(made.queue.renewed.wait(), PATIENCE)
    await made.dispatch.drain(0)


async def test_a_renewal_that_fails_is_tried_again() -> None:
    """The database's absence stops neither the handler nor the renewing."""
    made = stage(handler("hole", BlackHole()), lease=timedelta(milliseconds=30))
    made.queue.put("hole")
    await made.dispatch.run_once()
    made.queue.broken = StoreUnavailable("gone")
    await asyncio.wait_for(made.queue.refused.wait(), PATIENCE)
    made.queue.broken = None
    await asyncio.wait_for(made.queue.renewed.wait(), PATIENCE)
    assert made.dispatch.in_flight == 1
    await made.dispatch.drain(0)


async def test_a_lost_lease_stops_the_handler(black_hole: tuple[BlackHole, Stage]) -> None:
    """A handler whose delivery is another's now is stopped, and nothing of it is stored."""
    _, made = black_hole
    made.queue.put("hole")
    await made.dispatch.run_once()
    made.queue.rows["delivery-1"].fence += 1
    await made.dispatch._lease_pool.renew()
    async with asyncio.timeout(PATIENCE):
        await ended(made.dispatch)
    assert made.queue.results == []
    assert made.queue.released == []


async def test_a_delivery_claimed_twice_is_held_by_its_newer_claim(black_hole: tuple[BlackHole, Stage]) -> None:
    """After a stall longer than its lease a process may find its own attempt abandoned: the handler is stopped."""
    _, made = black_hole
    made.queue.put("hole")
    await made.dispatch.run_once()
    made.clock.at += LEASE
    await made.dispatch.run_once()
    assert made.dispatch.in_flight == 2
    await made.dispatch._lease_pool.renew()
    async with asyncio.timeout(PATIENCE):
        await ended(made.dispatch)
    assert [(result.outcome, result.fence) for result in made.queue.results] == [("retry", 2)]


async def test_a_late_claim_of_what_was_abandoned_still_counts() -> None:
    """An attempt whose process ended is noted even by a claim that is too late to run anything."""
    made = stage(handler("guest", Guest()))
    made.queue.put("guest")
    row = made.queue.rows["delivery-1"]
    row.leased_until = NOW
    made.queue.held.clear()
    running = asyncio.create_task(made.dispatch.run_once())
    await asyncio.wait_for(made.queue.claiming.wait(), PATIENCE)
    made.clock.at += LEASE
    made.queue.held.set()
    assert await running == 1
    await ended(made.dispatch)
    assert (made.queue.released, row.attempts, row.due_at) == ([], 1, made.clock.at + SCHEDULE[1])


async def test_a_late_result_meets_the_fence() -> None:
    """A result that comes after the lease was lost changes nothing, and its log line says so."""
    made = stage(handler("guest", Guest()))
    made.queue.put("guest")
    await made.dispatch.run_once()
    made.queue.rows["delivery-1"].fence += 1
    with outcomes_logged() as lines:
        await ended(made.dispatch)
    assert made.queue.results == []
    assert [line["outcome"] for line in lines] == ["discarded"]


@pytest.mark.parametrize(("waited", "started"), [(0.4, 1), (0.6, 0), (1.0, 0)])
async def test_a_claim_that_took_half_its_lease_is_given_back(waited: float, started: int) -> None:
    """What is left of such a lease may run out before it is renewed, and another claim would run it once more."""
    guest = Guest()
    made = stage(handler("guest", guest))
    made.queue.held.clear()
    made.queue.put("guest")
    running = asyncio.create_task(made.dispatch.run_once())
    await asyncio.wait_for(made.queue.claiming.wait(), PATIENCE)
    made.clock.at += waited * LEASE
    made.queue.held.set()
    assert await running == started
    await ended(made.dispatch)
    assert len(guest.events) == started
    assert len(made.queue.released) == 1 - started


async def test_drain_waits_for_what_ends_in_time() -> None:
    """A handler that ends within the grace is stored as delivered, and nothing is claimed any more."""
    made = stage(handler("guest", Guest()))
    made.queue.put("guest")
    await made.dispatch.run_once()
    await made.dispatch.drain(PATIENCE)
    assert [result.outcome for result in made.queue.results] == ["delivered"]
    made.queue.put("guest")
    assert await made.dispatch.run_once() == 0


async def test_drain_gives_up_the_rest_uncounted() -> None:
    """A handler that still runs after the grace is stopped, and its delivery is due again as the same attempt."""
    hole = BlackHole()
    made = stage(handler("hole", hole))
    made.queue.put("hole")
    await made.dispatch.run_once()
    await asyncio.wait_for(hole.news.wait(), PATIENCE)
    await made.dispatch.drain(0.01)
    assert made.queue.released == ["delivery-1"]
    assert made.queue.results == []
    assert (made.queue.rows["delivery-1"].attempts, made.dispatch.in_flight) == (0, 0)


async def test_drain_does_not_count_what_a_stopped_handler_raises() -> None:
    """A handler that answers its cancellation with an error of its own is given back like any other."""
    entered = asyncio.Event()

    async def stubborn(event: Event, tools: Tools) -> None:
        assert event.id
        assert tools.message_id
        entered.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise ValueError("I was busy") from None

    made = stage(handler("stubborn", stubborn))
    made.queue.put("stubborn")
    await made.dispatch.run_once()
    await asyncio.wait_for(entered.wait(), PATIENCE)
    await made.dispatch.drain(0)
    assert (made.queue.released, made.queue.results) == (["delivery-1"], [])


async def test_drain_ends_without_the_database() -> None:
    """When the database is gone the process still ends; the leases it could not give back run out."""
    hole = BlackHole()
    made = stage(handler("hole", hole))
    made.queue.put("hole")
    await made.dispatch.run_once()
    await asyncio.wait_for(hole.news.wait(), PATIENCE)
    made.queue.broken = StoreUnavailable("gone")
    await made.dispatch.drain(0)
    assert (made.queue.released, made.dispatch.in_flight) == ([], 0)


async def test_drain_does_not_wait_for_a_claim_that_hangs() -> None:
    """A claim that the database does not answer keeps the process from ending no longer than the grace."""
    made = stage(handler("guest", Guest()))
    made.queue.held.clear()
    made.queue.put("guest")
    running = asyncio.create_task(made.dispatch.run_once())
    await asyncio.wait_for(made.queue.claiming.wait(), PATIENCE)
    await asyncio.wait_for(made.dispatch.drain(0.01), PATIENCE)
    made.queue.held.set()
    assert await running == 0
    assert made.queue.released == ["delivery-1"]


async def test_a_fault_of_dispatch_itself_is_not_silent() -> None:
    """What breaks beside the handler is logged with its place freed, and the lease brings the delivery back."""

    def broken() -> float:
        raise ZeroDivisionError("no dice")

    made = stage(handler("guest", Guest()), jitter=broken)
    made.queue.put("guest")
    with outcomes_logged() as lines:
        await made.run_until_idle()
    assert [(line["event"], line["log_level"]) for line in lines] == [("delivery failed unexpectedly", "error")]
    assert made.dispatch.in_flight == 0


async def test_a_handler_that_swallows_its_timeout_holds_no_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attempt ends as one that timed out; its place stays taken, and its own late end changes nothing."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    unresponsive = Deaf()
    made = stage(handler("deaf", unresponsive, timeout=0.001))
    made.queue.put("deaf")
    await made.dispatch.run_once()
    async with asyncio.timeout(PATIENCE):
        while not made.queue.results:
            await made.dispatch.abandon_unresponsive()
            await asyncio.sleep(0)
    [result] = made.queue.results
    assert (result.outcome, made.dispatch.in_flight) == ("retry", 1)
    unresponsive.may_end.set()
    await ended(made.dispatch)
    assert len(made.queue.results) == 1
    await made.dispatch.drain(0)


async def test_a_fault_at_a_stuck_handlers_end_ends_no_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """What breaks while a stuck attempt is ended takes the lease of no other handler."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    broke = asyncio.Event()

    def broken() -> float:
        broke.set()
        raise ZeroDivisionError("no dice")

    unresponsive = Deaf()
    handlers = (handler("deaf", unresponsive, timeout=0.001), handler("hole", BlackHole()))
    made = stage(*handlers, lease=timedelta(milliseconds=30), jitter=broken)
    made.queue.put("deaf")
    made.queue.put("hole")
    await made.dispatch.run_once()
    try:
        await asyncio.wait_for(broke.wait(), PATIENCE)
        made.queue.renewed.clear()
        await asyncio.wait_for(made.queue.renewed.wait(), PATIENCE)
    finally:
        unresponsive.may_end.set()
        await made.dispatch.drain(0)


async def test_what_is_given_back_at_the_end_is_told() -> None:
    """A handler that did not end in time leaves a line, as every outcome does."""
    made = stage(handler("hole", BlackHole(), timeout=PATIENCE * 10))
    made.queue.put("hole")
    await made.dispatch.run_once()
    with outcomes_logged() as lines:
        await made.dispatch.drain(0)
    assert [(line["event"], line["handler"]) for line in lines] == [("delivery released", "hole")]
