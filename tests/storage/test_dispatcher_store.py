"""Dispatch over the real stores: order within a lane, several processes, abandoned leases."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from service.deliveries.attempt import LEAST_ATTEMPTS
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Event, Handler, Tools
from service.deliveries.handler_slots import HandlerSlots
from service.domain.ports.tasks import DeliveryView
from service.domain.task import TaskId
from service.storage import Store
from tests.storage.builders import NOW, a_delivery, a_task, add_tasks, an_event, claim_deliveries
from tests.storage.conftest import OpenStore
from tests.support.delivery_builders import LEASE, PATIENCE, SCHEDULE, MovedClock, handler, tools, view
from tests.support.wait_until_idle import ended


@dataclass
class Crew:
    """Dispatches that share one database and one moved clock, and what their handlers saw."""

    open_store: OpenStore
    clock: MovedClock = field(default_factory=lambda: MovedClock(NOW))
    seen: list[str] = field(default_factory=list)
    members: list[Dispatcher] = field(default_factory=list)

    def hire(self, *handlers: Handler) -> Dispatcher:
        """Return one more dispatch, as in another process."""
        store = self.open_store()
        member = Dispatcher(
            queue=store.deliveries,
            slots=HandlerSlots(handlers, lease=LEASE, notify=lambda: store.signals.notify("dispatch")),
            tools=lambda _claim, _handler: tools(),
            clock=self.clock,
            schedule=SCHEDULE,
            jitter=lambda: 0.0,
        )
        self.members.append(member)
        return member

    async def note(self, event: Event, _: Tools) -> None:
        """Remember the event."""
        await asyncio.sleep(0)
        self.seen.append(event.id)

    async def work_off(self) -> int:
        """Let all members run rounds until nothing is due; return how many deliveries were started."""
        total = 0
        async with asyncio.timeout(PATIENCE * 4):
            while started := sum(await asyncio.gather(*(member.run_once() for member in self.members))):
                total += started
                await asyncio.gather(*(ended(member) for member in self.members))
        return total


@pytest.fixture
async def crew(open_another: OpenStore) -> AsyncIterator[Crew]:
    """Yield a crew without members; they are drained at the end."""
    made = Crew(open_another)
    yield made
    for member in made.members:
        await member.drain(0)


async def _add(store: Store, *events: str, task_id: str = "t1", handlers: tuple[str, ...] = ("guest",)) -> None:
    data = view(id=task_id).to_json()
    rows = [an_event(event_id, task_id=TaskId(task_id), data=data) for event_id in events]
    await add_tasks(store, a_task(task_id))
    async with store.units_of_work.transaction() as transaction:
        await transaction.append(rows, [a_delivery(row, name) for row in rows for name in handlers])


async def test_events_of_a_lane_come_in_order(store: Store, crew: Crew) -> None:
    """One handler gets the events of one task one after the other, in their order, by however many processes."""
    events = [f"e{number}" for number in range(6)]
    await _add(store, *events)
    for _ in range(2):
        crew.hire(handler("guest", crew.note))
    assert await crew.work_off() == 6
    assert crew.seen == events


async def test_each_delivery_is_run_once_by_many_processes(store: Store, crew: Crew) -> None:
    """Three processes share the due deliveries, and none of them is run twice."""
    for number in range(12):
        await _add(store, f"e{number}", task_id=f"t{number}")
    for _ in range(3):
        crew.hire(handler("guest", crew.note, concurrency=2))
    await crew.work_off()
    assert Counter(crew.seen) == Counter({f"e{number}": 1 for number in range(12)})


async def test_a_failure_is_kept_with_its_reason(store: Store, crew: Crew) -> None:
    """After the schedule's last pause the delivery is a dead letter of ours that tells the error."""

    async def fail(event: Event, _: Tools) -> None:
        raise KeyError(event.id)

    await _add(store, "e1")
    crew.hire(handler("guest", fail))
    for _ in SCHEDULE:
        assert await crew.work_off() == 1
        crew.clock.at += timedelta(minutes=1)
    delivery = await store.deliveries.delivery("e1-guest")
    assert delivery is not None
    assert (delivery.status, delivery.fault, delivery.attempts) == ("dead", "ours", len(SCHEDULE))
    assert delivery.last_error == "KeyError: 'e1'"


async def test_a_replay_starts_over(store: Store, crew: Crew) -> None:
    """A dead letter that is replayed is handed over with its attempts counted from 1 again."""
    await _add(store, "e1")
    crew.hire(handler("guest", crew.note))
    await crew.work_off()
    assert await store.deliveries.replay(["e1-guest"], now=NOW) == ["e1-guest"]
    assert await crew.work_off() == 1
    assert crew.seen == ["e1", "e1"]


async def test_an_abandoned_delivery_is_taken_over(store: Store, crew: Crew) -> None:
    """Past the lease another process notes that the attempt is lost, and after the schedule's delay makes the next.

    What the first one says of it later changes nothing.
    """
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(_: Event, __: Tools) -> None:
        entered.set()
        await go.wait()
        raise KeyError("too late")

    await _add(store, "e1")
    first = crew.hire(handler("guest", slow))
    await first.run_once()
    await asyncio.wait_for(entered.wait(), PATIENCE)
    crew.clock.at += LEASE + timedelta(seconds=1)
    second = crew.hire(handler("guest", crew.note))
    assert await second.run_once() == 1
    await ended(second)
    assert crew.seen == []
    crew.clock.at += SCHEDULE[1]
    assert await second.run_once() == 1
    await ended(second)
    go.set()
    await ended(first)
    delivery = await store.deliveries.delivery("e1-guest")
    assert delivery is not None
    assert (delivery.status, delivery.attempts, delivery.last_error, crew.seen) == ("delivered", 2, None, ["e1"])


@pytest.mark.parametrize("born", [False, True])
async def test_a_handler_that_ends_its_process_becomes_a_dead_letter(store: Store, crew: Crew, *, born: bool) -> None:
    """Each attempt that nobody told the end of is counted, on the schedule; the last one is kept with its reason."""
    event = an_event("e1", data=view(id="t1").to_json())
    await add_tasks(store, a_task("t1"))
    async with store.units_of_work.transaction() as transaction:
        row = a_delivery(event, "guest", leased_until=NOW + LEASE if born else None)
        in_hand = await transaction.append([event], [row])
    survivor = crew.hire(handler("guest", crew.note, attempts=2))
    delays: list[float] = []
    while (found := await _delivery(store)).due_at:
        crew.clock.at = max(crew.clock.at, found.due_at)
        in_hand = in_hand or await claim_deliveries(store, "guest", now=crew.clock.at)
        assert [claim.attempt for claim in in_hand] == [len(delays) + 1]
        in_hand = []  # and with them ends the process
        crew.clock.at += LEASE
        assert await survivor.run_once() == 1
        await ended(survivor)
        delays += [(at - crew.clock.at).total_seconds() for at in [(await _delivery(store)).due_at] if at]
    assert delays == [5.0] + [30.0] * (LEAST_ATTEMPTS - 2)
    assert (found.status, found.fault, found.attempts, crew.seen) == ("dead", "ours", LEAST_ATTEMPTS, [])
    assert found.last_error == "Abandoned: the process ended during the attempt, or lost its lease"


async def test_one_lost_process_costs_no_delivery(store: Store, crew: Crew) -> None:
    """A handler's own limit does not count what was perhaps no fault of its own: it is tried once more."""
    await _add(store, "e1")
    assert await claim_deliveries(store, "guest")
    crew.hire(handler("guest", crew.note, attempts=1))
    for wait in (LEASE, SCHEDULE[1]):
        crew.clock.at += wait
        assert await crew.work_off() == 1
    assert ((await _delivery(store)).status, crew.seen) == ("delivered", ["e1"])


async def _delivery(store: Store) -> DeliveryView:
    found = await store.deliveries.delivery("e1-guest")
    assert found is not None
    return found


async def test_a_drained_process_hands_over_at_once(store: Store, crew: Crew) -> None:
    """What a process gives up when it ends is due for another at once, and no attempt is counted."""
    entered = asyncio.Event()

    async def hang(_: Event, __: Tools) -> None:
        entered.set()
        await asyncio.Event().wait()

    await _add(store, "e1")
    first = crew.hire(handler("guest", hang))
    await first.run_once()
    await asyncio.wait_for(entered.wait(), PATIENCE)
    await first.drain(0)
    second = crew.hire(handler("guest", crew.note))
    assert await second.run_once() == 1
    await ended(second)
    delivery = await store.deliveries.delivery("e1-guest")
    assert delivery is not None
    assert (delivery.status, delivery.attempts) == ("delivered", 1)


async def test_a_black_hole_delays_no_other(store: Store, crew: Crew) -> None:
    """A handler that hangs in all its places keeps its own deliveries waiting, and nobody else's."""

    async def hang(_: Event, __: Tools) -> None:
        await asyncio.Event().wait()

    for number in range(4):
        await _add(store, f"e{number}", task_id=f"t{number}", handlers=("guest", "hole"))
    member = crew.hire(handler("hole", hang, concurrency=1, timeout=600), handler("guest", crew.note))
    async with asyncio.timeout(PATIENCE):
        await member.run_once()
        while member.in_flight > 1:  # what is noted is still in hand until its result is stored
            await store.signals.wait("dispatch", 0.01)
    assert sorted(crew.seen) == ["e0", "e1", "e2", "e3"]
    assert member.in_flight == 1
