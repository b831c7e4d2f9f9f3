"""Handler slots: which are taken, which deliveries wait, which are leased at insert."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from service.deliveries.handler_api import Event, Handler, Tools
from service.deliveries.handler_slots import PAST_SERVED_INTERVAL, HandlerSlots, SlotReservations
from service.domain.ports.queues import HandlerCapacity
from tests.support.delivery_builders import LEASE, NOW, TIMEOUT, claim_for, handler


async def _do_nothing(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


class Started:
    """Remembers what was started, and until when it is leased."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.until: datetime | None = None

    def __call__(self, reservations: SlotReservations) -> None:
        """Note the claims."""
        self.ids += [claim.id for claim in reservations.claims()]
        self.until = reservations.until


SAMPLE = handler("sample", _do_nothing, concurrency=2, aliases=("former",))
OTHER = handler("other", _do_nothing, concurrency=1)


def _slots(*handlers: Handler) -> tuple[HandlerSlots, Started, list[str]]:
    notified: list[str] = []
    slots = HandlerSlots(handlers or (SAMPLE, OTHER), lease=LEASE, notify=lambda: notified.append("notified"))
    started = Started()
    slots.immediate.open(started)
    return slots, started, notified


def test_capacities_are_the_free_slots() -> None:
    """A handler with one slot taken has one less, a full one has no capacity; all its names count."""
    slots, _, _ = _slots()
    slots.take(SAMPLE)
    slots.take(OTHER)
    with slots.reserve_free(NOW) as capacities:
        assert capacities == [HandlerCapacity(names=("sample", "former"), slots=1)]


def test_slots_are_reserved_while_deliveries_are_claimed_for_them() -> None:
    """Two concurrent claims never get the same slot, and unused slots are free again."""
    slots, _, _ = _slots()
    with slots.reserve_free(NOW) as first, slots.reserve_free(NOW) as second:
        assert (len(first), second) == (2, [])
    with slots.reserve_free(NOW + PAST_SERVED_INTERVAL) as again:
        assert again == first


def test_leased_deliveries_start_after_their_transaction() -> None:
    """A new delivery is leased for as long as any claim, and started after its block."""
    slots, started, _ = _slots()
    with slots.reservations() as reservations:
        assert reservations.lease("sample", NOW) == NOW + LEASE
        reservations.grant(lambda: [claim_for("sample", id="d1")])
        assert started.ids == []
    assert (started.ids, started.until) == (["d1"], NOW + LEASE)


def test_failed_transaction_releases_its_slots() -> None:
    """Deliveries that were not committed are not started, and their slots are free again."""
    slots, started, _ = _slots()
    with suppress(ZeroDivisionError), slots.reservations() as reservations:
        reservations.lease("sample", NOW)
        reservations.grant(lambda: [claim_for("sample")])
        raise ZeroDivisionError
    assert started.ids == []
    with slots.reserve_free(NOW) as capacities:
        assert [capacity.slots for capacity in capacities] == [2, 1]


def test_no_more_are_leased_than_there_are_slots() -> None:
    """Two open transactions share the slots of a handler; the rest waits in the store."""
    slots, _, _ = _slots()
    with slots.reservations() as first, slots.reservations() as second:
        leases = [reservations.lease("sample", NOW) for reservations in (first, second, first, second)]
    assert leases == [NOW + LEASE, NOW + LEASE, None, None]


def test_delivery_to_a_host_with_a_rate_waits_for_a_claim() -> None:
    """Only a claim can take a token of the host's bucket; a delivery without an address is leased at once."""
    slots, _, _ = _slots()
    slots.destination_rate = 5.0
    with slots.reservations() as reservations:
        assert reservations.lease("sample", NOW, of="anna", target={"url": "https://hooks.example/"}) is None
        assert reservations.lease("sample", NOW, of="anna", target={"chat": 7}) == NOW + LEASE


def test_waiting_deliveries_come_first() -> None:
    """After one had to wait, none is leased at insert until a claim has found that no more waits."""
    slots, _, notified = _slots()
    slots.take(OTHER)
    with slots.reservations() as reservations:
        assert reservations.lease("other", NOW) is None
    slots.release(OTHER)
    assert notified == ["notified"]
    with slots.reservations() as reservations:
        assert reservations.lease("other", NOW) is None
    for claimed, lease in ((1, None), (0, NOW + LEASE)):
        with slots.reserve_free(NOW) as capacities:
            slots.note_waiting([claim_for("other")] * claimed, capacities)
        with slots.reservations() as reservations:
            assert reservations.lease("other", NOW) == lease


def test_failed_claim_keeps_the_waiting_ones() -> None:
    """Deliveries that waited before a failed claim are still known to wait."""
    slots, _, _ = _slots()
    slots.take(OTHER)
    with slots.reservations() as reservations:
        reservations.lease("other", NOW)
    slots.release(OTHER)
    with pytest.raises(ZeroDivisionError), slots.reserve_free(NOW):
        raise ZeroDivisionError
    with slots.reservations() as reservations:
        assert reservations.lease("other", NOW) is None


def test_delivery_written_during_a_claim_is_known_to_wait() -> None:
    """A delivery that is written while the slots are reserved for a claim may have been missed by it."""
    slots, _, _ = _slots()
    with slots.reserve_free(NOW) as capacities:
        with slots.reservations() as reservations:
            assert reservations.lease("sample", NOW) is None
        slots.note_waiting([], capacities)
    with slots.reservations() as reservations:
        assert reservations.lease("sample", NOW) is None


def test_freed_slot_of_a_full_handler_notifies() -> None:
    """A claim without a free slot does not know what waits: the first freed slot notifies."""
    slots, _, notified = _slots()
    slots.take(OTHER)
    with slots.reserve_free(NOW) as capacities:
        slots.note_waiting([], capacities)
    slots.release(OTHER)
    assert notified == ["notified"]


def test_freed_slot_does_not_notify_without_need() -> None:
    """A slot that becomes free while nothing can wait notifies nobody."""
    slots, _, notified = _slots()
    with slots.reserve_free(NOW) as capacities:
        slots.note_waiting([claim_for("sample")], capacities)
    slots.take(SAMPLE)
    slots.release(SAMPLE)
    assert notified == []


@pytest.mark.parametrize("name", ["gone", "sample"])
def test_do_nothing_is_leased_where_do_nothing_dispatches(name: str) -> None:
    """In a web process, and for a handler that is not loaded, deliveries wait in the store."""
    closed = HandlerSlots([SAMPLE], lease=timedelta(seconds=60), notify=lambda: None)
    slots = closed if name == "sample" else _slots()[0]
    with slots.reservations() as reservations:
        assert reservations.lease(name, NOW) is None


def test_former_name_shares_the_slots() -> None:
    """Deliveries under a former name take the slots of the renamed handler."""
    slots, _, _ = _slots()
    with slots.reservations() as reservations:
        assert [reservations.lease(name, NOW) is None for name in ("former", "sample", "former")] == [
            False,
            False,
            True,
        ]


def test_leases_at_insert_leave_slots_for_other_clients() -> None:
    """Of four slots a client gets two for its own targets; others and deliveries without a target still get one."""
    slots, _, _ = _slots(replace(SAMPLE, concurrency=4))
    with slots.reservations() as reservations:
        clients = ("ada", "ada", "ada", "bob", "bob", None, "eve")
        leased = [reservations.lease("sample", NOW, client=client) is not None for client in clients]
    assert leased == [True, True, False, True, False, True, False]


def test_delivery_that_waits_for_its_share_comes_before_newer_ones_of_its_client() -> None:
    """It delays no other client, a freed slot notifies, and a claim that takes all of them ends the wait."""
    slots, _, notified = _slots(SAMPLE)
    slots.take(SAMPLE, "ada")
    with slots.reservations() as reservations:
        assert reservations.lease("sample", NOW, client="ada") is None
    slots.release(SAMPLE, "ada")
    assert notified == ["notified"]
    with slots.reservations() as reservations:
        assert [reservations.lease("sample", NOW, client=client) is None for client in ("ada", "bob")] == [True, False]
    with slots.reserve_free(NOW) as capacities:
        slots.note_waiting([], capacities)
    with slots.reservations() as reservations:
        assert reservations.lease("sample", NOW, client="ada") == NOW + LEASE


def test_claim_knows_which_clients_hold_their_share() -> None:
    """It receives what each client holds, and notes afterwards whose deliveries it may have passed over."""
    slots, _, _ = _slots(replace(SAMPLE, concurrency=4))
    slots.take(SAMPLE, "ada")
    with slots.reserve_free(NOW) as capacities:
        assert capacities == [HandlerCapacity(names=("sample", "former"), slots=3, held={"ada": 1})]
        claim = claim_for("sample", target={"url": "https://ada.example"})
        slots.note_waiting([claim], capacities)
    with slots.reservations() as reservations:
        assert [reservations.lease("sample", NOW, client=client) is None for client in ("ada", "bob")] == [True, False]


def test_search_past_served_clients_is_rare() -> None:
    """Once a second, also after the clock moved backwards."""
    slots, _, _ = _slots(SAMPLE)
    past_served = []
    for moment in (
        NOW,
        NOW + PAST_SERVED_INTERVAL / 2,
        NOW + PAST_SERVED_INTERVAL,
        NOW,
        NOW + PAST_SERVED_INTERVAL / 2,
    ):
        with slots.reserve_free(moment) as [capacity]:
            past_served.append(capacity.past_served)
    assert past_served == [True, False, True, True, False]


async def test_close_waits_for_open_transactions() -> None:
    """Deliveries that are being committed at shutdown are still started, and nothing new is leased."""
    slots, started, _ = _slots()
    with slots.reservations() as reservations:
        reservations.lease("sample", NOW)
        reservations.grant(lambda: [claim_for("sample", id="d1")])
        closing = asyncio.create_task(slots.immediate.close())
        await asyncio.sleep(0)
        assert not closing.done()
        assert reservations.lease("sample", NOW) is None
    await asyncio.wait_for(closing, TIMEOUT)
    assert started.ids == ["d1"]


async def test_commit_after_close_starts_do_nothing() -> None:
    """A commit that outlasts the drain starts nothing: its leases expire."""
    slots, started, _ = _slots()
    with slots.reservations() as reservations:
        reservations.lease("sample", NOW)
        reservations.grant(lambda: [claim_for("sample", id="d1")])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await slots.immediate.close()
    assert started.ids == []


# ── paused handlers ──────────────────────────────────────────────────────────


def test_paused_handler_gets_nothing_until_it_is_resumed() -> None:
    """Neither a claim nor an insert leases for it, under any of its names; the resume looks for what waits."""
    slots, _, notified = _slots()
    slots.hold(frozenset({"former"}))
    with slots.reserve_free(NOW) as capacities:
        assert [each.names for each in capacities] == [("other",)]
    with slots.reservations() as reservations:
        assert reservations.lease("sample", NOW) is None
        assert reservations.lease("other", NOW) is not None
    assert notified == []
    slots.hold(frozenset())
    assert notified == ["notified"]
    with slots.reserve_free(NOW) as capacities:
        assert ("sample", "former") in [each.names for each in capacities]


async def test_delivery_leased_ahead_does_not_begin_while_its_handler_is_paused() -> None:
    """It goes back to the store at once, uncounted."""
    slots, _, _ = _slots()
    slots.hold(frozenset({"former"}))
    with pytest.raises(TimeoutError):
        async with slots.run(SAMPLE, None, 60):
            raise AssertionError


def test_nothing_starts_before_the_pauses_are_known() -> None:
    """A process that has just started leases for no handler until it has read them."""
    slots, _, notified = _slots()
    slots.hold_all()
    with slots.reserve_free(NOW) as capacities:
        assert capacities == []
    slots.hold(frozenset())
    assert notified == ["notified"]
