"""Places: who takes them, who waits for them, and what is born into free ones."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from service.deliveries.handler_api import Event, Handler, Tools
from service.deliveries.handler_slots import PAST_SERVED_INTERVAL, HandlerSlots, SlotReservations
from service.domain.ports.queues import HandlerCapacity
from tests.support.delivery_builders import LEASE, NOW, PATIENCE, claim_for, handler


async def _nothing(event: Event, tools: Tools) -> None:
    assert event.id
    assert tools.message_id


class Started:
    """Remembers what was started, and until when it is leased."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.until: datetime | None = None

    def __call__(self, reservations: SlotReservations) -> None:
        """Note the claims."""
        self.ids += [claim.id for claim in reservations.claims]
        self.until = reservations.until


GUEST = handler("guest", _nothing, concurrency=2, aliases=("visitor",))
OTHER = handler("other", _nothing, concurrency=1)


def _slots(*handlers: Handler) -> tuple[HandlerSlots, Started, list[str]]:
    rung: list[str] = []
    slots = HandlerSlots(handlers or (GUEST, OTHER), lease=LEASE, notify=lambda: rung.append("ring"))
    started = Started()
    slots.immediate.open(started)
    return slots, started, rung


def test_rooms_are_what_is_free() -> None:
    """A handler with a place taken has one less, one without any is not asked for; all its names count."""
    slots, _, _ = _slots()
    slots.take(GUEST)
    slots.take(OTHER)
    with slots.reserve_free(NOW) as rooms:
        assert rooms == [HandlerCapacity(names=("guest", "visitor"), slots=1)]


def test_places_are_kept_while_deliveries_are_claimed_for_them() -> None:
    """Two who look at once never get one place twice, and what was not needed is free again."""
    slots, _, _ = _slots()
    with slots.reserve_free(NOW) as first, slots.reserve_free(NOW) as second:
        assert (len(first), second) == (2, [])
    with slots.reserve_free(NOW + PAST_SERVED_INTERVAL) as again:
        assert again == first


def test_births_start_after_their_transaction() -> None:
    """A new delivery is leased for as long as any claim, and started when its block is left."""
    slots, started, _ = _slots()
    with slots.reservations() as reservations:
        assert reservations.lease("guest", NOW) == NOW + LEASE
        reservations.claims = [claim_for("guest", id="d1")]
        assert started.ids == []
    assert (started.ids, started.until) == (["d1"], NOW + LEASE)


def test_a_failed_transaction_gives_its_places_back() -> None:
    """What was not committed is not started, and its places are free again."""
    slots, started, _ = _slots()
    with suppress(ZeroDivisionError), slots.reservations() as reservations:
        reservations.lease("guest", NOW)
        reservations.claims = [claim_for("guest")]
        raise ZeroDivisionError
    assert started.ids == []
    with slots.reserve_free(NOW) as rooms:
        assert [room.slots for room in rooms] == [2, 1]


def test_no_more_are_born_than_there_are_places() -> None:
    """Two transactions at once share the places of a handler; the rest waits in the store."""
    slots, _, _ = _slots()
    with slots.reservations() as first, slots.reservations() as second:
        leases = [reservations.lease("guest", NOW) for reservations in (first, second, first, second)]
    assert leases == [NOW + LEASE, NOW + LEASE, None, None]


def test_what_waits_in_the_store_comes_first() -> None:
    """After one had to wait, none is born in hand until a round has found that no more is waiting."""
    slots, _, rung = _slots()
    slots.take(OTHER)
    with slots.reservations() as reservations:
        assert reservations.lease("other", NOW) is None
    slots.release(OTHER)
    assert rung == ["ring"]
    with slots.reservations() as reservations:
        assert reservations.lease("other", NOW) is None
    for claimed, lease in ((1, None), (0, NOW + LEASE)):
        with slots.reserve_free(NOW) as rooms:
            slots.note_waiting([claim_for("other")] * claimed, rooms)
        with slots.reservations() as reservations:
            assert reservations.lease("other", NOW) == lease


def test_a_round_that_fails_forgets_nobody() -> None:
    """What was waiting before a claim that failed is still known to be waiting."""
    slots, _, _ = _slots()
    slots.take(OTHER)
    with slots.reservations() as reservations:
        reservations.lease("other", NOW)
    slots.release(OTHER)
    with pytest.raises(ZeroDivisionError), slots.reserve_free(NOW):
        raise ZeroDivisionError
    with slots.reservations() as reservations:
        assert reservations.lease("other", NOW) is None


def test_one_that_had_to_wait_during_a_claim_is_not_forgotten() -> None:
    """A delivery that is written while the places are kept for a claim may have been missed by it."""
    slots, _, _ = _slots()
    with slots.reserve_free(NOW) as rooms:
        with slots.reservations() as reservations:
            assert reservations.lease("guest", NOW) is None
        slots.note_waiting([], rooms)
    with slots.reservations() as reservations:
        assert reservations.lease("guest", NOW) is None


def test_a_full_handler_is_waited_for() -> None:
    """A round that found no free place does not know what is waiting: the first that gets free rings."""
    slots, _, rung = _slots()
    slots.take(OTHER)
    with slots.reserve_free(NOW) as rooms:
        slots.note_waiting([], rooms)
    slots.release(OTHER)
    assert rung == ["ring"]


def test_nobody_rings_for_nothing() -> None:
    """A place that gets free while nothing can be waiting wakes nobody."""
    slots, _, rung = _slots()
    with slots.reserve_free(NOW) as rooms:
        slots.note_waiting([claim_for("guest")], rooms)
    slots.take(GUEST)
    slots.release(GUEST)
    assert rung == []


@pytest.mark.parametrize("name", ["gone", "guest"])
def test_nothing_is_born_where_nobody_dispatches(name: str) -> None:
    """In a process that only receives, and for a handler that is not loaded, deliveries wait in the store."""
    shut = HandlerSlots([GUEST], lease=timedelta(seconds=60), notify=lambda: None)
    slots = shut if name == "guest" else _slots()[0]
    with slots.reservations() as reservations:
        assert reservations.lease(name, NOW) is None


def test_a_former_name_has_the_same_places() -> None:
    """Deliveries under a former name take the places of the handler that it became."""
    slots, _, _ = _slots()
    with slots.reservations() as reservations:
        assert [reservations.lease(name, NOW) is None for name in ("visitor", "guest", "visitor")] == [
            False,
            False,
            True,
        ]


def test_births_leave_room_for_other_clients() -> None:
    """Of four places a client gets two for its own targets; others still find one, and what is nobody's does too."""
    slots, _, _ = _slots(replace(GUEST, concurrency=4))
    with slots.reservations() as reservations:
        clients = ("ada", "ada", "ada", "bob", "bob", None, "eve")
        born = [reservations.lease("guest", NOW, client=client) is not None for client in clients]
    assert born == [True, True, False, True, False, True, False]


def test_what_waits_for_its_share_comes_before_its_clients_next() -> None:
    """It holds up no other client, a place that gets free rings for it, and a round that takes all of it ends that."""
    slots, _, rung = _slots(GUEST)
    slots.take(GUEST, "ada")
    with slots.reservations() as reservations:
        assert reservations.lease("guest", NOW, client="ada") is None
    slots.release(GUEST, "ada")
    assert rung == ["ring"]
    with slots.reservations() as reservations:
        assert [reservations.lease("guest", NOW, client=client) is None for client in ("ada", "bob")] == [True, False]
    with slots.reserve_free(NOW) as rooms:
        slots.note_waiting([], rooms)
    with slots.reservations() as reservations:
        assert reservations.lease("guest", NOW, client="ada") == NOW + LEASE


def test_a_round_knows_who_has_its_share() -> None:
    """It is told what each client holds, and knows afterwards whose deliveries it may have passed over."""
    slots, _, _ = _slots(replace(GUEST, concurrency=4))
    slots.take(GUEST, "ada")
    with slots.reserve_free(NOW) as rooms:
        assert rooms == [HandlerCapacity(names=("guest", "visitor"), slots=3, held={"ada": 1})]
        claim = claim_for("guest", target={"url": "https://ada.example"})
        slots.note_waiting([claim], rooms)
    with slots.reservations() as reservations:
        assert [reservations.lease("guest", NOW, client=client) is None for client in ("ada", "bob")] == [True, False]


def test_looking_past_the_served_is_rare() -> None:
    """Once a second, also after the clock was set back."""
    slots, _, _ = _slots(GUEST)
    looks = []
    for moment in (
        NOW,
        NOW + PAST_SERVED_INTERVAL / 2,
        NOW + PAST_SERVED_INTERVAL,
        NOW,
        NOW + PAST_SERVED_INTERVAL / 2,
    ):
        with slots.reserve_free(moment) as [room]:
            looks.append(room.past_served)
    assert looks == [True, False, True, True, False]


async def test_closing_waits_for_births_under_way() -> None:
    """What is being committed at the end is still started, and nothing new is born."""
    slots, started, _ = _slots()
    with slots.reservations() as reservations:
        reservations.lease("guest", NOW)
        reservations.claims = [claim_for("guest", id="d1")]
        closing = asyncio.create_task(slots.immediate.close())
        await asyncio.sleep(0)
        assert not closing.done()
        assert reservations.lease("guest", NOW) is None
    await asyncio.wait_for(closing, PATIENCE)
    assert started.ids == ["d1"]


async def test_births_after_the_end_are_not_started() -> None:
    """A commit that outlasts the patience at the end starts nothing: its leases run out."""
    slots, started, _ = _slots()
    with slots.reservations() as reservations:
        reservations.lease("guest", NOW)
        reservations.claims = [claim_for("guest", id="d1")]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await slots.immediate.close()
    assert started.ids == []
