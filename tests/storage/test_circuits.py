"""The circuit breaker of a destination over the database: outages, probes, several processes, limits of time."""

from collections import Counter
from dataclasses import replace
from datetime import timedelta
from unittest.mock import patch

import httpx
import pytest

from service.deliveries.handler_api import Event, Tools
from service.domain.circuit import DOUBLED_PAUSE, PARKED_FOR, CircuitLimits
from service.domain.errors import Reject
from service.storage import Store
from tests.storage.conftest import OpenStore
from tests.support.endpoint_harness import WEBHOOK_HANDLER, Harness

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
SOON = DOUBLED_PAUSE + 10 * SECOND
"""Time after the end of an outage within which everything arrives: the longest pause, and a step of the jobs."""


def answers(status: int, **headers: str) -> httpx.Response:
    """Return an answer."""
    return httpx.Response(status, headers=headers)


def down(_: httpx.Request) -> httpx.Response:
    """Fail as a host that is down."""
    raise httpx.ConnectError("connection refused")


def up(_: httpx.Request) -> httpx.Response:
    """Accept the event."""
    return answers(204)


async def test_each_event_of_an_outage_arrives_soon_after_it_under_its_id(store: Store) -> None:
    """Events before, at the beginning and during an hour's outage all arrive within minutes of its end.

    Not one has used up more attempts than it had before the circuit opened.
    """
    harness = Harness(store=store)
    await harness.endpoints.create()
    harness.receivers.answer = down
    ids = [await harness.tasks(12)]
    await harness.submit(*ids[0])
    await harness.pass_time(10 * MINUTE)
    ids.append(await harness.tasks(8))
    await harness.submit(*ids[1])
    await harness.pass_time(50 * MINUTE, step=20 * SECOND)
    tried = Counter(harness.receivers.ids())
    assert len(harness.receivers.requests) < 60  # not 20 deliveries times the attempts of an hour
    waiting = await harness.deliveries("pending")
    assert len(waiting) == 20
    assert max(each.attempts for each in waiting) <= 2
    harness.receivers.answer = up
    harness.receivers.requests.clear()
    await harness.pass_time(SOON)
    assert not await harness.deliveries("pending")
    arrived = Counter(harness.receivers.ids())
    assert (len(arrived), set(arrived.values())) == (20, {1})
    assert set(tried) <= set(arrived)
    assert await store.circuits.listed(limit=10, after=None) == []


async def test_only_delivery_of_a_destination_arrives_soon_too(store: Store) -> None:
    """One delivery alone opens the circuit after minutes; it does not wait for the next attempt of its schedule."""
    harness = Harness(store=store)
    await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(1))
    await harness.pass_time(HOUR, step=10 * SECOND)
    [row] = await harness.deliveries()
    assert (row.status, row.attempts) == ("pending", 4)
    harness.receivers.answer = up
    await harness.pass_time(SOON)
    [row] = await harness.deliveries()
    assert (row.status, row.attempts) == ("delivered", 5)


async def test_destination_that_never_works_ends_its_deliveries(store: Store) -> None:
    """They wait as long as the schedule lasts, then each has one last attempt: nothing waits for ever."""
    schedule = tuple(timedelta(seconds=each) for each in (0, 5, 30, 120, 600, 1800))
    harness = Harness(store=store, schedule=schedule)
    await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(6))
    await harness.pass_time(sum(schedule, PARKED_FOR + 5 * MINUTE), step=20 * SECOND)
    found = await harness.deliveries()
    assert {each.status for each in found} == {"dead"}
    assert {each.fault for each in found} == {"destination"}
    waited = "failed, and it waited for its destination as long as its schedule lasts)"
    assert all("not tried again" in (each.last_error or "") for each in found)
    assert all((each.last_error or "").endswith(waited) for each in found)
    await harness.pass_time(SOON)
    assert await store.circuits.listed(limit=10, after=None) == []  # nothing waits that could probe it


@pytest.mark.parametrize("back", [False, True], ids=["forward", "forward and back"])
async def test_clock_that_jumps_forward_is_no_time_of_waiting(store: Store, back: bool) -> None:
    """A clock set days ahead, or a machine that slept, ends no delivery: the destination had no chance to answer.

    From then on they wait as long as their schedule lasts, also if the clock is set right again.
    """
    schedule = tuple(timedelta(seconds=each) for each in (0, 5, 30, 120, 600, 1800))
    harness, jump = Harness(store=store, schedule=schedule), timedelta(days=4)
    await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(6))
    await harness.pass_time(8 * MINUTE, step=MINUTE)
    harness.clock.move(jump)
    await harness.pass_time(8 * MINUTE, step=MINUTE)
    if back:
        harness.clock.move(-jump)
        await store.clock_jump_repair.repair(now=harness.clock.at, until=harness.clock.at + MINUTE)
    await harness.pass_time(8 * MINUTE, step=MINUTE)
    assert len(await harness.deliveries("pending")) == 6
    await harness.pass_time(sum(schedule, PARKED_FOR), step=2 * MINUTE)
    assert len(await harness.deliveries("dead")) == 6


async def test_other_clients_and_hosts_are_not_held(store: Store) -> None:
    """A client whose host is down delays neither another client of that host nor its own other hosts."""
    harness = Harness(store=store)
    await harness.endpoints.create("anna", url="https://shared.example/gone")
    await harness.endpoints.create("anna", url="https://other.example/hook")
    await harness.endpoints.create("berta", url="https://shared.example/works")
    harness.receivers.answer = lambda request: down(request) if request.url.path == "/gone" else up(request)
    await harness.submit(*await harness.tasks(8, "anna"))
    await harness.pass_time(MINUTE)
    [circuit] = await store.circuits.listed(limit=10, after=None)
    assert (circuit.host, circuit.client, circuit.handler) == ("shared.example", "anna", "webhook")
    harness.receivers.requests.clear()
    await harness.submit(*await harness.tasks(3, "berta"))
    await harness.submit(*await harness.tasks(3, "anna"))
    await harness.run()
    sent = Counter((request.url.host, request.url.path) for request in harness.receivers.requests)
    assert sent == {("shared.example", "/works"): 3, ("other.example", "/hook"): 3}


async def test_refused_events_open_nothing(store: Store) -> None:
    """A host that answers 404 works: its path is wrong, and the events keep their schedule."""
    harness = Harness(store=store)
    await harness.endpoints.create()
    harness.receivers.answer = lambda _: answers(404)
    await harness.submit(*await harness.tasks(10))
    await harness.pass_time(3 * MINUTE)
    assert await store.circuits.listed(limit=10, after=None) == []
    assert {each.attempts for each in await harness.deliveries()} == {4}


async def test_retry_after_is_for_the_whole_destination(store: Store) -> None:
    """After one 429 with Retry-After no other event is sent to the host until then, and none is spent."""
    harness = Harness(store=store)
    await harness.endpoints.create()
    harness.receivers.answer = lambda _: answers(429, **{"retry-after": "90"})
    await harness.submit(*await harness.tasks(1))
    await harness.run()
    await harness.submit(*await harness.tasks(10))
    await harness.pass_time(85 * SECOND)
    assert len(harness.receivers.requests) == 1
    assert sorted(each.attempts for each in await harness.deliveries()) == [0] * 10 + [1]
    harness.receivers.answer = up
    await harness.pass_time(15 * SECOND)
    assert {each.status for each in await harness.deliveries()} == {"delivered"}


async def _with_an_open_circuit(store: Store, another: Store, count: int) -> tuple[Harness, Harness]:
    """Return two processes that know that `count` deliveries have opened the circuit of an endpoint."""
    first = Harness(store=store)
    other = Harness(store=another, clock=first.clock, receivers=first.receivers)
    await first.endpoints.create()
    first.receivers.answer = down
    await first.submit(*await first.tasks(count))
    await first.run()
    await other.controls.refresh()
    return first, other


async def test_processes_share_a_circuit_and_its_probes(store: Store, open_another: OpenStore) -> None:
    """What one process stores stops the other at its next refresh; of a probe there is one, whoever makes it."""
    first, other = await _with_an_open_circuit(store, open_another(), 6)
    sent = len(first.receivers.requests)
    await first.submit(*await first.tasks(6))
    await other.run()
    assert len(first.receivers.requests) == sent
    first.clock.move(6 * SECOND)
    for process in (first, other, first, other):
        await process.controls.refresh()
        await process.run()
    assert len(first.receivers.requests) == sent + 1
    first.receivers.answer = up
    first.clock.move(MINUTE)
    for _ in range(3):
        for process in (other, first):
            await process.controls.refresh()
            await process.run()
    assert {each.status for each in await first.deliveries()} == {"delivered"}


async def test_process_that_has_not_read_that_a_circuit_closed_parks_nothing(
    store: Store, open_another: OpenStore
) -> None:
    """What it claims in that second is attempted after its next refresh, not after the time that parked ones wait."""
    first, other = await _with_an_open_circuit(store, open_another(), 6)
    first.receivers.answer = up
    await first.pass_time(20 * SECOND)
    assert len(await first.deliveries("delivered")) == 6
    first.dispatcher.slots.hold_all()  # so that the other process has to claim the next one
    await first.submit(*await first.tasks())
    assert await other.dispatcher.run_once() == 0
    assert await other.run(move=SECOND) == 1
    assert not await first.deliveries("pending")


async def test_what_a_process_with_a_fast_clock_has_parked_is_woken_too(store: Store, open_another: OpenStore) -> None:
    """By its clock the delivery began to wait after the circuit was closed."""
    first = Harness(store=store)
    other = Harness(store=open_another(), receivers=first.receivers)
    await first.endpoints.create()
    first.receivers.answer = down
    await first.submit(*await first.tasks(6))
    await first.pass_time(3 * MINUTE)
    other.clock.move(3 * MINUTE + 10 * SECOND)
    await other.controls.refresh()
    await first.submit(*await first.tasks())
    assert await other.dispatcher.run_once() == 0
    first.receivers.answer = up
    chosen = (await first.deliveries())[-1]
    await store.replays.replay([chosen.id], now=first.clock.now())
    await first.run()
    await first.run()
    assert not await first.deliveries("pending")


async def test_lost_probe_is_followed_by_another(store: Store) -> None:
    """A process that ends during a probe leaves the circuit open; the next probe comes after two minutes."""
    harness = Harness(store=store)
    await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(6))
    await harness.run()
    harness.clock.move(6 * SECOND)
    await harness.controls.refresh()
    capacity = harness.dispatcher.slots.reserve_free(harness.clock.now())
    with capacity as capacities:
        until = harness.clock.now() + 10 * SECOND
        claims = await store.deliveries.claim(
            capacities, now=harness.clock.now(), until=until, blocks=harness.dispatcher.slots.blocks
        )
    assert [claim.probe for claim in claims] == [True]
    harness.receivers.answer = up
    await harness.pass_time(3 * MINUTE)
    assert {each.status for each in await harness.deliveries()} == {"delivered"}


async def test_replay_is_attempted_in_spite_of_an_open_circuit(store: Store) -> None:
    """A person who asks for one delivery gets its attempt at once; its success closes the circuit for all."""
    harness = Harness(store=store)
    await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(8))
    await harness.pass_time(MINUTE)
    chosen = (await harness.deliveries())[0]
    harness.receivers.answer = up
    await store.replays.replay([chosen.id], now=harness.clock.now())
    await harness.run()
    assert len(await harness.deliveries("delivered")) == 1
    await harness.controls.refresh()
    await harness.run()
    assert len(await harness.deliveries("delivered")) == 8


async def test_circuit_closed_manually_lets_go_what_waits(store: Store, open_another: OpenStore) -> None:
    """An operator does not wait for the probe; the other process obeys too, and a failure opens it again."""
    first, other = await _with_an_open_circuit(store, open_another(), 8)
    [circuit] = await store.circuits.listed(limit=10, after=None)
    assert await store.circuits.close("unknown", now=first.clock.now()) is None
    closed = await store.circuits.close(circuit.key, now=first.clock.now())
    assert closed is not None
    assert closed.state == "closed"
    first.receivers.requests.clear()
    await first.submit(*await first.tasks(8))  # how many of the first ones still wait depends on the machine's speed
    await other.run()
    assert len(first.receivers.requests) >= 5  # they failed again
    assert [each.state for each in await store.circuits.listed(limit=10, after=None)] == ["open"]
    first.receivers.answer = up
    await store.circuits.close(circuit.key, now=first.clock.now())
    await first.run(move=30 * SECOND)  # one that failed before the circuit opened follows its schedule
    assert {each.status for each in await first.deliveries()} == {"delivered"}


async def test_busy_destination_closed_manually_is_called_at_once(store: Store) -> None:
    """It had asked to wait for an hour; who knows better need not."""
    harness = Harness(store=store)
    await harness.endpoints.create()
    harness.receivers.answer = lambda _: answers(429, **{"retry-after": "3600"})
    await harness.submit(*await harness.tasks(1))
    await harness.run()
    await harness.submit(*await harness.tasks(3))
    await harness.run()
    harness.receivers.answer = up
    [circuit] = await store.circuits.listed(limit=10, after=None)
    await store.circuits.close(circuit.key, now=harness.clock.now())
    await harness.run()
    assert Counter(each.status for each in await harness.deliveries())["delivered"] == 3


async def test_operator_sets_when_a_circuit_opens(store: Store) -> None:
    """CIRCUIT_FAILURES is for handlers without a number of their own; 0 is for no circuit at all."""
    harness = Harness(store=store, circuit_limits=CircuitLimits(opens_after=0))
    await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(8))
    await harness.pass_time(3 * MINUTE)
    assert await store.circuits.listed(limit=10, after=None) == []
    assert {each.attempts for each in await harness.deliveries()} == {4}


async def test_flood_to_an_open_circuit_is_parked_without_an_attempt(store: Store) -> None:
    """Hundreds of new events for a host that is down cost no request, and none of their attempts."""
    harness = Harness(store=store)
    await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(6))
    await harness.run()
    sent = len(harness.receivers.requests)
    await harness.submit(*await harness.tasks(300))
    assert await harness.run() == 0
    assert len(harness.receivers.requests) == sent
    harness.receivers.answer = up
    await harness.pass_time(30 * SECOND)
    assert not await harness.deliveries("pending")


@pytest.mark.parametrize("ending", ["disabled", "deleted meanwhile"])
async def test_circuit_holds_no_delivery_of_an_endpoint_that_has_ended(store: Store, ending: str) -> None:
    """Its deliveries end when they are looked at next, without a request, as they do while no circuit is open."""
    harness = Harness(store=store)
    endpoint = await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(30))
    await harness.run()
    assert await harness.run() == 0
    sent = len(harness.receivers.requests)
    if ending == "disabled":
        await store.endpoints.change(endpoint.id, {"disabled_at": harness.clock.at, "disabled_reason": "failing"})
    else:
        with patch("service.storage.endpoint_store.drop", return_value=0):
            await store.endpoints.remove(endpoint.id, now=harness.clock.at)
    harness.clock.move(PARKED_FOR)
    await harness.run()
    assert [each.last_error for each in await harness.deliveries("pending")] == []
    assert len(harness.receivers.requests) == sent


async def test_circuits_without_a_meaning_are_deleted(store: Store) -> None:
    """Counted failures that led to nothing go with the next pruning after an hour."""
    harness = Harness(store=store)
    await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(1))
    await harness.run()
    assert await harness.controls.prune() == 0
    harness.clock.move(2 * HOUR)
    assert await harness.controls.prune() == 1


async def test_probe_with_a_neutral_end_is_followed_by_another(store: Store) -> None:
    """A handler that rejects the probed event says nothing about its destination: the circuit does not stay as it is.

    As in getnora-io/nora#585 and s3-orchestrator#424: a probe with a neutral end holds the circuit half-open for ever.
    """
    harness = Harness(store=store, handler=WEBHOOK_HANDLER)
    await harness.endpoints.create()
    harness.receivers.answer = down
    await harness.submit(*await harness.tasks(6))
    await harness.run()

    async def reject(_: Event, __: Tools) -> None:
        raise Reject("this event is not for this place")

    rejecting = replace(WEBHOOK_HANDLER, handle=reject)
    slots = harness.dispatcher.slots
    with patch.dict(slots._by_name, webhook=rejecting), patch.dict(slots._handlers, webhook=rejecting):
        await harness.run(move=6 * SECOND)
    assert [each.status for each in await harness.deliveries()].count("dead") == 1
    [circuit] = await store.circuits.listed(limit=10, after=None)
    assert circuit.state == "open"
    harness.receivers.answer = up
    await harness.pass_time(3 * MINUTE)
    assert [each.status for each in await harness.deliveries()].count("delivered") == 5
    assert await store.circuits.listed(limit=10, after=None) == []
