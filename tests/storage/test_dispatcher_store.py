"""The dispatcher over the real stores: order within a lane, several processes, abandoned leases."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest

from service.deliveries.attempt_outcome import MIN_ATTEMPTS
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_api import Event, Handler, Tools
from service.deliveries.handler_slots import HandlerSlots
from service.domain.ports.deliveries import DeliveryView
from service.domain.task import TaskId
from service.storage import Store
from tests.storage.builders import (
    HOUR,
    NOW,
    a_delivery,
    a_task,
    add_tasks,
    an_attempt,
    an_event,
    claim_deliveries,
    replay,
)
from tests.storage.conftest import OpenStore
from tests.support.delivery_builders import LEASE, SCHEDULE, TIMEOUT, ManualClock, handler, tools, view
from tests.support.wait_until_idle import ended


@dataclass
class Dispatchers:
    """Dispatchers that share one database and one manual clock, and the events that their handlers received."""

    open_store: OpenStore
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    seen: list[str] = field(default_factory=list)
    members: list[Dispatcher] = field(default_factory=list)

    def add(self, *handlers: Handler) -> Dispatcher:
        """Return one more dispatcher, as in another process."""
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

    async def record(self, event: Event, _: Tools) -> None:
        """Record the event."""
        await asyncio.sleep(0)
        self.seen.append(event.id)

    async def run_until_idle(self) -> int:
        """Run all dispatchers until nothing is due; return how many deliveries were started."""
        total = 0
        async with asyncio.timeout(TIMEOUT * 4):
            while started := sum(await asyncio.gather(*(member.run_once() for member in self.members))):
                total += started
                await asyncio.gather(*(ended(member) for member in self.members))
        return total


@pytest.fixture
async def dispatchers(open_another: OpenStore) -> AsyncIterator[Dispatchers]:
    """Yield an empty set of dispatchers; they are drained at the end."""
    made = Dispatchers(open_another)
    yield made
    for member in made.members:
        await member.drain(0)


async def _add(store: Store, *events: str, task_id: str = "t1", handlers: tuple[str, ...] = ("sample",)) -> None:
    data = view(id=task_id).to_json()
    rows = [an_event(event_id, task_id=TaskId(task_id), data=data) for event_id in events]
    await add_tasks(store, a_task(task_id))
    async with store.units_of_work.transaction() as transaction:
        await transaction.append(rows, [a_delivery(row, name) for row in rows for name in handlers])


async def test_events_of_a_lane_come_in_order(store: Store, dispatchers: Dispatchers) -> None:
    """One handler receives the events of one task one after the other, in order, from any number of processes."""
    events = [f"e{number}" for number in range(6)]
    await _add(store, *events)
    for _ in range(2):
        dispatchers.add(handler("sample", dispatchers.record))
    assert await dispatchers.run_until_idle() == 6
    assert dispatchers.seen == events


async def test_each_delivery_is_run_once_by_many_processes(store: Store, dispatchers: Dispatchers) -> None:
    """Three processes share the due deliveries, and none of them runs twice."""
    for number in range(12):
        await _add(store, f"e{number}", task_id=f"t{number}")
    for _ in range(3):
        dispatchers.add(handler("sample", dispatchers.record, concurrency=2))
    await dispatchers.run_until_idle()
    assert Counter(dispatchers.seen) == Counter({f"e{number}": 1 for number in range(12)})


async def test_failed_delivery_is_stored_with_its_error(store: Store, dispatchers: Dispatchers) -> None:
    """After the last delay of the schedule, the delivery is a dead letter with the fault `ours` and its error."""

    async def fail(event: Event, _: Tools) -> None:
        raise KeyError(event.id)

    await _add(store, "e1")
    dispatchers.add(handler("sample", fail))
    for _ in SCHEDULE:
        assert await dispatchers.run_until_idle() == 1
        dispatchers.clock.at += timedelta(minutes=1)
    delivery = await store.deliveries.delivery("e1-sample")
    assert delivery is not None
    assert (delivery.status, delivery.fault, delivery.attempts) == ("dead", "ours", len(SCHEDULE))
    assert delivery.last_error == "KeyError: 'e1' (not tried again: 3 attempts failed, as many as RETRY_SCHEDULE has)"


async def test_replay_restarts_the_attempts(store: Store, dispatchers: Dispatchers) -> None:
    """A replayed dead letter is delivered with its attempts counted from 1 again."""
    await _add(store, "e1")
    dispatchers.add(handler("sample", dispatchers.record))
    await dispatchers.run_until_idle()
    assert await replay(store, "e1-sample") == ["e1-sample"]
    assert await dispatchers.run_until_idle() == 1
    assert dispatchers.seen == ["e1", "e1"]


async def test_abandoned_delivery_is_claimed_by_another_process(store: Store, dispatchers: Dispatchers) -> None:
    """After the lease, another process records the lost attempt and makes the next one after the delay of the schedule.

    A later result of the first process has no effect.
    """
    entered, go = asyncio.Event(), asyncio.Event()

    async def slow(_: Event, __: Tools) -> None:
        entered.set()
        await go.wait()
        raise KeyError("too late")

    await _add(store, "e1")
    first = dispatchers.add(handler("sample", slow))
    await first.run_once()
    await asyncio.wait_for(entered.wait(), TIMEOUT)
    dispatchers.clock.at += LEASE + timedelta(seconds=1)
    second = dispatchers.add(handler("sample", dispatchers.record))
    assert await second.run_once() == 1
    await ended(second)
    assert dispatchers.seen == []
    dispatchers.clock.at += SCHEDULE[1]
    assert await second.run_once() == 1
    await ended(second)
    go.set()
    await ended(first)
    delivery = await store.deliveries.delivery("e1-sample")
    assert delivery is not None
    assert (delivery.status, delivery.attempts, delivery.last_error, dispatchers.seen) == ("delivered", 2, None, ["e1"])


@pytest.mark.parametrize("at_insert", [False, True])
async def test_handler_that_crashes_its_process_becomes_a_dead_letter(
    store: Store, dispatchers: Dispatchers, *, at_insert: bool
) -> None:
    """Each abandoned attempt is counted and delayed by the schedule; the last one is stored with its reason."""
    event = an_event("e1", data=view(id="t1").to_json())
    await add_tasks(store, a_task("t1"))
    async with store.units_of_work.transaction() as transaction:
        row = a_delivery(event, "sample", leased_until=NOW + LEASE if at_insert else None)
        new_claims = await transaction.append([event], [row])
    claims = [*new_claims()]
    survivor = dispatchers.add(handler("sample", dispatchers.record, attempts=2))
    delays: list[float] = []
    while (found := await _delivery(store)).due_at:
        dispatchers.clock.at = max(dispatchers.clock.at, found.due_at)
        claims = claims or await claim_deliveries(store, "sample", now=dispatchers.clock.at)
        assert [claim.attempt for claim in claims] == [len(delays) + 1]
        claims = []  # the process crashes
        dispatchers.clock.at += LEASE
        assert await survivor.run_once() == 1
        await ended(survivor)
        delays += [(at - dispatchers.clock.at).total_seconds() for at in [(await _delivery(store)).due_at] if at]
    assert delays == [5.0] + [30.0] * (MIN_ATTEMPTS - 2)
    assert (found.status, found.fault, found.attempts, dispatchers.seen) == ("dead", "ours", MIN_ATTEMPTS, [])
    assert found.last_error == (
        "Abandoned: the process ended during the attempt, or lost its lease"
        f" (not tried again: {MIN_ATTEMPTS} attempts failed, as many as the handler allows)"
    )


async def test_one_crashed_process_does_not_kill_a_delivery(store: Store, dispatchers: Dispatchers) -> None:
    """An abandoned attempt does not exhaust a handler's own limit of one attempt: the delivery is tried once more."""
    await _add(store, "e1")
    assert await claim_deliveries(store, "sample")
    dispatchers.add(handler("sample", dispatchers.record, attempts=1))
    for wait in (LEASE, SCHEDULE[1]):
        dispatchers.clock.at += wait
        assert await dispatchers.run_until_idle() == 1
    assert ((await _delivery(store)).status, dispatchers.seen) == ("delivered", ["e1"])


async def _delivery(store: Store) -> DeliveryView:
    found = await store.deliveries.delivery("e1-sample")
    assert found is not None
    return found


async def test_drained_process_releases_its_deliveries(store: Store, dispatchers: Dispatchers) -> None:
    """A delivery that a process releases at shutdown is due for another at once, and no attempt is counted."""
    entered = asyncio.Event()

    async def hang(_: Event, __: Tools) -> None:
        entered.set()
        await asyncio.Event().wait()

    await _add(store, "e1")
    first = dispatchers.add(handler("sample", hang))
    await first.run_once()
    await asyncio.wait_for(entered.wait(), TIMEOUT)
    await first.drain(0)
    second = dispatchers.add(handler("sample", dispatchers.record))
    assert await second.run_once() == 1
    await ended(second)
    delivery = await store.deliveries.delivery("e1-sample")
    assert delivery is not None
    assert (delivery.status, delivery.attempts) == ("delivered", 1)


async def test_hanging_handler_delays_no_other(store: Store, dispatchers: Dispatchers) -> None:
    """A handler that hangs in all its slots delays only its own deliveries."""

    async def hang(_: Event, __: Tools) -> None:
        await asyncio.Event().wait()

    for number in range(4):
        await _add(store, f"e{number}", task_id=f"t{number}", handlers=("sample", "hole"))
    member = dispatchers.add(handler("hole", hang, concurrency=1, timeout=600), handler("sample", dispatchers.record))
    async with asyncio.timeout(TIMEOUT):
        await member.run_once()
        while member.in_flight > 1:  # an attempt counts as running until its result is stored
            await store.signals.wait("dispatch", 0.01)
    assert sorted(dispatchers.seen) == ["e0", "e1", "e2", "e3"]
    assert member.in_flight == 1


async def test_of_two_results_the_newer_claim_counts(store: Store) -> None:
    """A stalled process may end an attempt twice in one commit: by its older claim, and by its newer one."""
    await add_tasks(store, a_task())
    event = an_event()
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], [a_delivery(event)])
    [old] = await claim_deliveries(store)
    [new] = await claim_deliveries(store, now=NOW + HOUR)
    results = [an_attempt(claim, "retry", due_at=NOW + HOUR, error=f"fence {claim.fence}") for claim in (new, old)]
    assert await store.deliveries.finish(results) == {new.id}
    found = await store.deliveries.delivery(new.id)
    assert found is not None
    assert found.last_error == f"fence {new.fence}"
