"""Steps of the hot path around the submission and the callback of a task: each works on one task of its own."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import timedelta
from itertools import count

from service.domain.circuit import CircuitLimits, destination_of
from service.domain.ports.circuits import DestinationHealth
from service.domain.ports.handler_store import NewJob
from service.domain.ports.queues import HandlerCapacity
from service.domain.ports.replays import ReplayFilter
from service.domain.ports.unit_of_work import DeliveryClaim, PollRow
from service.domain.submission_limits import ClientLimit, Limits
from service.domain.task import Status, TaskId
from service.domain.task_wait import WaitRow
from service.storage import Store
from tests.storage.builders import (
    HOUR,
    LEASE,
    MINUTE,
    NOW,
    SECOND,
    a_blob,
    a_delivery,
    a_task,
    add_callbacks,
    add_tasks,
    an_attempt,
    an_entry,
    an_event,
    claim_deliveries,
    claim_submissions,
    in_progress,
)
from tests.support.delivery_builders import ManualClock
from tests.support.endpoint_builders import endpoint_use_cases
from tests.support.grown_tables import SETTLED_AT

Step = Callable[[Store, str], Awaitable[None]]
"""Works on a task with this id, or on rows that are named after it."""

DAY = timedelta(days=1)
MUCH = ClientLimit(default=1e6)
WITHIN_LIMITS = Limits(budget=1e6, client_budget=MUCH, client_rate=MUCH)
COUNTING = Limits(max_in_flight=1_000_000, client_max_in_flight=MUCH)
"""Limits for which the tasks at the provider are counted, each time all of them."""

OPENS_AT_ONCE = CircuitLimits(opens_after=1)
_numbers = count(1)


async def claim_submission(store: Store, one: str, limits: Limits = WITHIN_LIMITS) -> None:
    """Claim a task within limits, and let it be in progress at the provider."""
    await add_tasks(store, a_task(one, client=f"client of {one}", bucket=f"bucket of {one}"))
    claimed = await claim_submissions(store, limit=2, limits=limits)
    assert one in {task.id for task in claimed}
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([task.id for task in claimed])
        await transaction.save([replace(task, status=Status.IN_PROGRESS, due_at=NOW + HOUR) for task in claimed])
    assert await store.tasks.limit_reached(now=NOW, limits=limits) is None
    await store.tasks.limit_usage(now=NOW, limits=limits, buckets=[f"bucket of {one}"])


async def count_in_flight(store: Store, one: str) -> None:
    """Claim a task while the tasks at the provider are limited."""
    await claim_submission(store, one, COUNTING)


async def load_inputs(store: Store, one: str) -> None:
    """Accept a task with a picture and a payload, and load them."""
    blobs = [a_blob(), a_blob("payload", b"{}")]
    task = await store.intake.add(a_task(one, status=Status.IN_PROGRESS, due_at=NOW + HOUR), blobs, None)
    assert len(await store.blobs.load(task.id)) == 2
    assert len(await store.blobs.stored_at(task.id)) == 2
    assert await store.blobs.payload(task.id) == "{}"


async def note_history(store: Store, one: str) -> None:
    """Store a poll and a wait, for the history of the task."""
    wait = WaitRow(task_id=one, reason="queue", count=1, first_at=NOW, last_at=NOW, detail=None)
    async with store.units_of_work.transaction() as transaction:
        await transaction.add_polls([PollRow(task_id=TaskId(one), at=NOW, outcome="processing")])
        await transaction.add_task_waits([wait])
    async with store.units_of_work.transaction() as transaction:
        await transaction.add_task_waits([wait])


async def follow_events(store: Store, one: str) -> None:
    """Read the newest event as the feeds of all, of a client and of a task do, and add the words of the next tasks."""
    client = f"client of {one}"
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([an_event(f"e-{one}", task_id=TaskId(one), client=client)], [])
    last = await store.events.last()
    assert len(await store.events.after(last - 1)) == 1
    assert len(await store.events.after(0, client=client)) == 1
    assert len(await store.events.after(0, task_id=TaskId(one))) == 1
    assert len(await store.events.after(0, client=client, task_id=TaskId(one))) == 1
    assert await store.search_index.advance()


async def run_handler_jobs(store: Store, one: str) -> None:
    """Schedule jobs of a handler, run one in two attempts, and cancel the other."""
    for name in ("later", "now"):
        due_at = NOW + (HOUR if name == "later" else -SECOND)
        job = NewJob(id=f"{name}-{one}", handler="own", name=name, key=one, data={}, due_at=due_at)
        await store.handler_jobs.schedule(job, now=NOW)
    names = ["own/now", "own/later"]
    assert await store.handler_jobs.next_due(names) == NOW - SECOND
    (claim,) = await store.handler_jobs.claim(names, now=NOW, until=NOW + LEASE, limit=5)
    await store.handler_jobs.renew({claim.id: claim.fence}, until=NOW + LEASE)
    await store.handler_jobs.postpone(claim, due_at=NOW, error="busy", now=NOW)
    (claim,) = await store.handler_jobs.claim(names, now=NOW, until=NOW + LEASE, limit=5)
    await store.handler_jobs.release({claim.id: claim.fence})
    (claim,) = await store.handler_jobs.claim(names, now=NOW, until=NOW + LEASE, limit=5)
    assert await store.handler_jobs.finish(claim)
    assert await store.handler_jobs.cancel("own", "later", one)


async def _append(store: Store, one: str, handler: str, *clients: str, **changes: object) -> None:
    """Add an event for each client, with a delivery whose target is a host of this task."""
    host = f"{one}.example"
    for client in clients:
        event = an_event(f"{handler}-{one}-{next(_numbers)}", task_id=TaskId(one), client=client)
        fields = {"target": {"url": f"https://{host}/"}, "lane": f"{one}/{event.id}", "destination": None, **changes}
        async with store.units_of_work.transaction() as transaction:
            await transaction.append([event], [a_delivery(event, handler, **fields)])


async def _claim(store: Store, handler: str, **changes: object) -> list[DeliveryClaim]:
    capacity = replace(HandlerCapacity(names=(handler,), slots=9), **changes)  # type: ignore[arg-type]
    return await store.deliveries.claim([capacity], now=NOW, until=NOW + LEASE)


async def claim_past_the_served(store: Store, one: str) -> None:
    """Claim the delivery of the client that waits behind one with its fair share, then the other one."""
    await _append(store, one, "shared", "anna", "berta")
    first = await _claim(store, "shared", held={"anna": 9})
    others = await _claim(store, "shared", rate=1e6)
    assert [claim.event.client for claim in (*first, *others)] == ["berta", "anna"]
    await store.deliveries.finish([an_attempt(claim) for claim in (*first, *others)])


async def open_and_close_circuit(store: Store, one: str) -> None:
    """Let deliveries wait for a circuit that opens, probe it, close it, and wake what waits."""
    await _append(store, one, "failing", "anna", "anna")
    claims = await _claim(store, "failing")
    destination = destination_of("failing", "anna", claims[0].target)
    failed = DestinationHealth(destination=destination, sign="failed", limits=OPENS_AT_ONCE)
    again = {"due_at": NOW + HOUR, "error": "refused", "health": failed}
    await store.deliveries.finish([an_attempt(claim, "retry", **again) for claim in claims])
    assert len(claims) == len(await store.circuits.listed(limit=9, after=None)) + 1 == 2
    assert await store.circuits.probe(destination.key, now=NOW + MINUTE)
    (probe,) = await claim_deliveries(store, "failing", now=NOW + MINUTE)
    answered = replace(failed, sign="answered", probe=True)
    await store.deliveries.finish([an_attempt(probe, attempt=2, health=answered)])
    assert await store.circuits.recent(now=NOW + MINUTE)
    assert await store.circuits.wake(destination.key, now=NOW + MINUTE) == 1
    (woken,) = await claim_deliveries(store, "failing", now=NOW + MINUTE)
    await store.deliveries.finish([an_attempt(woken, attempt=2)])
    assert await store.circuits.prune(before=NOW + HOUR) >= 1


async def keep_rates(store: Store, one: str) -> None:
    """Claim within the rate of an endpoint and of a host: the second delivery of each waits for a token."""
    use_cases = endpoint_use_cases(store, ManualClock(), new_id=lambda: f"endpoint-{one}")
    endpoint = await use_cases.create(f"client of {one}", rate="1/m", secret=None)
    await _append(store, one, "limited", "anna", "anna", endpoint_id=endpoint.id)
    claims = await _claim(store, "limited")
    await _append(store, one, "limited", "anna", "anna")
    claims += await _claim(store, "limited", destination_rate=1.0)
    assert len(claims) == 2
    await store.endpoints.change(endpoint.id, {"paused": True})
    await store.deliveries.hold(claims[0].id, claims[0].fence, now=NOW)
    await store.endpoints.change(endpoint.id, {"paused": False})
    assert await store.endpoints.wake(now=NOW + MINUTE) == 1
    assert await store.endpoints.remove(endpoint.id, now=NOW)
    await store.deliveries.finish([an_attempt(claims[1])])
    (left,) = await claim_deliveries(store, "limited", now=NOW + HOUR)
    await store.deliveries.finish([an_attempt(left)])


async def replay(store: Store, one: str) -> None:
    """Replay a dead letter, alone and with others that match."""
    await _append(store, one, "replayed", f"client of {one}")
    wanted = ReplayFilter(statuses=frozenset({"dead"}), client=f"client of {one}")
    of_task = ReplayFilter(statuses=frozenset({"dead", "pending"}), task_id=TaskId(one))
    for _ in range(2):
        (claim,) = await _claim(store, "replayed")
        await store.deliveries.finish([an_attempt(claim, "dead", fault="destination", error="refused")])
        for each in (wanted, of_task):
            assert len((await store.replays.matching(each, after=None, limit=9)).found) == 1
        outcomes = await store.replays.replay([claim.id], now=NOW)
        (claim,) = await _claim(store, "replayed")
        await store.deliveries.finish([an_attempt(claim, "dead", fault="ours", error="refused")])
        outcomes |= await store.replays.replay_at({claim.id: NOW}, wanted, now=NOW)
        assert outcomes == {claim.id: "replayed"}
    await store.deliveries.finish([an_attempt(claim) for claim in await _claim(store, "replayed")])


async def poll_watched(store: Store, one: str) -> None:
    """Watch a task, claim it for a poll, and prune it when it has ended."""
    await add_tasks(store, in_progress(one, due_at=NOW + HOUR))
    await store.watched_tasks.watch([TaskId(one)], until=NOW + HOUR)
    (task,) = await store.watched_tasks.claim(now=NOW + MINUTE, until=NOW + HOUR, limit=9, every=SECOND)
    async with store.units_of_work.transaction() as transaction:
        await transaction.lock([task.id])
        await transaction.save([replace(task, status=Status.COMPLETED, due_at=None)])
    assert await store.watched_tasks.prune(now=NOW) == 1


async def retain(store: Store, one: str) -> None:
    """Delete the callback, the poll, the waits and the inputs of a task that has ended long ago."""
    ended_at = SETTLED_AT - 2 * DAY
    task = a_task(one, status=Status.COMPLETED, due_at=None, settled_at=ended_at, created_at=ended_at)
    await store.intake.add(task, [a_blob(data=one.encode())], None)
    await add_callbacks(store, an_entry(f"old-{one}", task_id=TaskId(one), received_at=ended_at))
    wait = WaitRow(task_id=one, reason="queue", count=1, first_at=ended_at, last_at=ended_at, detail=None)
    async with store.units_of_work.transaction() as transaction:
        await transaction.add_polls([PollRow(task_id=TaskId(one), at=ended_at, outcome="processing")])
        await transaction.add_task_waits([wait])
    assert await store.retention.prune(before=SETTLED_AT - DAY) == 5  # with the data of the input


STEPS: dict[str, Step] = {
    "claim within limits": claim_submission,
    "count in flight": count_in_flight,
    "load inputs": load_inputs,
    "note history": note_history,
    "follow events": follow_events,
    "handler jobs": run_handler_jobs,
    "claim past the served": claim_past_the_served,
    "circuit": open_and_close_circuit,
    "rates": keep_rates,
    "replay": replay,
    "poll a watched task": poll_watched,
}
