"""Running deliveries: leases and late results."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from service.deliveries import dispatcher as dispatch
from service.deliveries.handler_api import Event, Tools
from service.domain.errors import StoreUnavailable
from tests.support.delivery_builders import LEASE, NOW, SCHEDULE, TIMEOUT, DispatcherSetup, dispatcher_setup, handler
from tests.support.sample_handlers import HangingHandler, RecordingHandler, UnresponsiveHandler, captured_logs
from tests.support.wait_until_idle import ended


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


async def test_result_is_stored_once_the_database_is_back() -> None:
    """A result that could not be stored is stored once the database is back; the handler runs once."""
    sample = RecordingHandler()
    setup = dispatcher_setup(handler("sample", sample), store_retry_delays=(0.0,) * 50)
    setup.queue.put("sample")
    await setup.dispatcher.run_once()
    setup.queue.broken = StoreUnavailable("locked")
    await asyncio.wait_for(setup.queue.refused.wait(), TIMEOUT)
    setup.queue.broken = None
    async with asyncio.timeout(TIMEOUT):
        await ended(setup.dispatcher)
    assert [result.outcome for result in setup.queue.results] == ["delivered"]
    assert len(sample.events) == 1


async def test_result_that_is_never_stored_frees_the_slot() -> None:
    """When the database stays unavailable the slot becomes free, and after the lease the delivery is made again."""
    sample = RecordingHandler()
    setup = dispatcher_setup(handler("sample", sample), store_retry_delays=())
    setup.queue.put("sample")
    await setup.dispatcher.run_once()
    setup.queue.broken = StoreUnavailable("gone")
    async with asyncio.timeout(TIMEOUT):
        await ended(setup.dispatcher)
    setup.queue.broken = None
    for wait in (LEASE, SCHEDULE[1]):
        setup.clock.at += wait
        await setup.run_until_idle()
    assert len(sample.events) == 2
    assert setup.queue.rows["delivery-1"].status == "delivered"


async def test_lease_is_not_renewed_after_the_handler_has_ended() -> None:
    """A result that cannot be stored does not hold its delivery: the lease expires while the result is tried again."""
    setup = dispatcher_setup(handler("sample", RecordingHandler()), store_retry_delays=(TIMEOUT,))
    setup.queue.put("sample")
    await setup.dispatcher.run_once()
    setup.queue.broken = StoreUnavailable("gone")
    await asyncio.wait_for(setup.queue.refused.wait(), TIMEOUT)
    setup.queue.broken = None
    setup.clock.at += LEASE / 2
    await setup.dispatcher._lease_pool.renew()
    assert setup.queue.rows["delivery-1"].leased_until == NOW + LEASE
    await setup.dispatcher.drain(0)


async def test_renewal_extends_the_leases_of_running_deliveries(
    hanging: tuple[HangingHandler, DispatcherSetup],
) -> None:
    """A renewal moves the end of every lease to a whole lease from now."""
    _, setup = hanging
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    setup.clock.at += LEASE / 2
    await setup.dispatcher._lease_pool.renew()
    assert setup.queue.rows["delivery-1"].leased_until == setup.clock.at + LEASE


async def test_leases_are_renewed_in_the_background() -> None:
    """While a handler runs, its lease is renewed again and again."""
    setup = dispatcher_setup(handler("hanging", HangingHandler()), lease=timedelta(milliseconds=30))
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    for _ in range(2):
        setup.queue.renewed.clear()
        await asyncio.wait_for(setup.queue.renewed.wait(), TIMEOUT)
    await setup.dispatcher.drain(0)


async def test_failed_renewal_is_retried() -> None:
    """An unavailable database stops neither the handler nor the renewals."""
    setup = dispatcher_setup(handler("hanging", HangingHandler()), lease=timedelta(milliseconds=30))
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    setup.queue.broken = StoreUnavailable("gone")
    await asyncio.wait_for(setup.queue.refused.wait(), TIMEOUT)
    setup.queue.broken = None
    await asyncio.wait_for(setup.queue.renewed.wait(), TIMEOUT)
    assert setup.dispatcher.in_flight == 1
    await setup.dispatcher.drain(0)


async def test_lost_lease_cancels_the_handler(hanging: tuple[HangingHandler, DispatcherSetup]) -> None:
    """A handler whose delivery another process has claimed is cancelled, and nothing of it is stored."""
    _, setup = hanging
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    setup.queue.rows["delivery-1"].fence += 1
    await setup.dispatcher._lease_pool.renew()
    async with asyncio.timeout(TIMEOUT):
        await ended(setup.dispatcher)
    assert setup.queue.results == []
    assert setup.queue.released == []


async def test_delivery_claimed_twice_is_held_by_its_newer_claim(
    hanging: tuple[HangingHandler, DispatcherSetup],
) -> None:
    """After a stall a process may claim its own delivery as abandoned: the older handler is cancelled."""
    _, setup = hanging
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    setup.clock.at += LEASE
    await setup.dispatcher.run_once()
    assert setup.dispatcher.in_flight == 2
    await setup.dispatcher._lease_pool.renew()
    async with asyncio.timeout(TIMEOUT):
        await ended(setup.dispatcher)
    assert [(result.outcome, result.fence) for result in setup.queue.results] == [("retry", 2)]


async def test_late_claim_of_an_abandoned_attempt_still_counts() -> None:
    """An attempt whose process exited is recorded even by a claim that is too late to run anything."""
    setup = dispatcher_setup(handler("sample", RecordingHandler()))
    setup.queue.put("sample")
    row = setup.queue.rows["delivery-1"]
    row.leased_until = NOW
    setup.queue.may_claim.clear()
    running = asyncio.create_task(setup.dispatcher.run_once())
    await asyncio.wait_for(setup.queue.claiming.wait(), TIMEOUT)
    setup.clock.at += LEASE
    setup.queue.may_claim.set()
    assert await running == 1
    await ended(setup.dispatcher)
    assert (setup.queue.released, row.attempts, row.due_at) == ([], 1, setup.clock.at + SCHEDULE[1])


async def test_fence_rejects_a_late_result() -> None:
    """A result after the lease was lost changes nothing, and its log line says so."""
    setup = dispatcher_setup(handler("sample", RecordingHandler()))
    setup.queue.put("sample")
    await setup.dispatcher.run_once()
    setup.queue.rows["delivery-1"].fence += 1
    with captured_logs() as lines:
        await ended(setup.dispatcher)
    assert setup.queue.results == []
    assert [line["outcome"] for line in lines] == ["discarded"]


@pytest.mark.parametrize(("waited", "started"), [(0.4, 1), (0.6, 0), (1.0, 0)])
async def test_claim_that_took_half_its_lease_is_released(waited: float, started: int) -> None:
    """The rest of such a lease may expire before its renewal, and another claim would run the handler again."""
    sample = RecordingHandler()
    setup = dispatcher_setup(handler("sample", sample))
    setup.queue.may_claim.clear()
    setup.queue.put("sample")
    running = asyncio.create_task(setup.dispatcher.run_once())
    await asyncio.wait_for(setup.queue.claiming.wait(), TIMEOUT)
    setup.clock.at += waited * LEASE
    setup.queue.may_claim.set()
    assert await running == started
    await ended(setup.dispatcher)
    assert len(sample.events) == started
    assert len(setup.queue.released) == 1 - started


async def test_internal_error_is_logged() -> None:
    """An error outside the handler is logged and its slot freed; after the lease the delivery is made again."""

    def broken() -> float:
        raise ZeroDivisionError("no jitter")

    async def failing(event: Event, tools: Tools) -> None:
        raise ValueError(f"attempt {tools.attempt} of {event.id} failed")

    setup = dispatcher_setup(handler("sample", failing), jitter=broken)
    setup.queue.put("sample")
    with captured_logs() as lines:
        await setup.run_until_idle()
    assert [(line["event"], line["log_level"]) for line in lines] == [("delivery failed unexpectedly", "error")]
    assert setup.dispatcher.in_flight == 0


async def test_handler_that_ignores_its_timeout_holds_no_delivery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its attempt ends as timed out; its slot stays taken, and its own late end changes nothing."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    unresponsive = UnresponsiveHandler()
    setup = dispatcher_setup(handler("unresponsive", unresponsive, timeout=0.001))
    setup.queue.put("unresponsive")
    await setup.dispatcher.run_once()
    async with asyncio.timeout(TIMEOUT):
        while not setup.queue.results:
            await setup.dispatcher.abandon_unresponsive()
            await asyncio.sleep(0)
    [result] = setup.queue.results
    assert (result.outcome, setup.dispatcher.in_flight) == ("retry", 1)
    unresponsive.may_end.set()
    await ended(setup.dispatcher)
    assert len(setup.queue.results) == 1
    await setup.dispatcher.drain(0)


async def test_error_while_an_attempt_is_abandoned_ends_no_renewals(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error while the attempt of an unresponsive handler is ended costs no other handler its lease."""
    monkeypatch.setattr(dispatch, "CANCEL_GRACE", 0.0)
    broke = asyncio.Event()

    def broken() -> float:
        broke.set()
        raise ZeroDivisionError("no jitter")

    unresponsive = UnresponsiveHandler()
    handlers = (handler("unresponsive", unresponsive, timeout=0.001), handler("hanging", HangingHandler()))
    setup = dispatcher_setup(*handlers, lease=timedelta(milliseconds=30), jitter=broken)
    setup.queue.put("unresponsive")
    setup.queue.put("hanging")
    await setup.dispatcher.run_once()
    try:
        await asyncio.wait_for(broke.wait(), TIMEOUT)
        setup.queue.renewed.clear()
        await asyncio.wait_for(setup.queue.renewed.wait(), TIMEOUT)
    finally:
        unresponsive.may_end.set()
        await setup.dispatcher.drain(0)


async def test_claim_is_requested_for_what_gets_no_lease_at_insert() -> None:
    """A slot was free for it, but an earlier delivery of its lane waits: a claim must not wait for the next tick."""
    setup = dispatcher_setup(handler("sample", RecordingHandler()))
    setup.dispatcher.open()
    with setup.slots.reservations() as reservations:
        assert reservations.lease("sample", setup.clock.now())
        reservations.grant(list)
    assert setup.signals.topics == ["dispatch"]
