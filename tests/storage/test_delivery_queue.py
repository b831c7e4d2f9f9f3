"""Deliveries: claimed by lane, finished under a fence, replayed with a new message id."""

import asyncio
from datetime import timedelta

from service.domain.task import TaskId
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
    add_deliveries,
    add_tasks,
    an_attempt,
    an_event,
    claim_deliveries,
    replay,
)
from tests.storage.conftest import OpenStore
from tests.support.history import history_of

E1, E2, E3 = "e1-log", "e2-log", "e3-log"


async def test_claim_has_everything_for_the_attempt(store: Store) -> None:
    """A claim has its fence, the attempt's number, the target, the event and the caller's payload."""
    await store.intake.add(a_task(), [a_blob(), a_blob("payload", b"the caller's own")], None)
    event = an_event()
    row = a_delivery(event, target={"url": "https://example.org", "secret": "whsec_x"})
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], [row])
    [claim] = await claim_deliveries(store)
    assert (claim.id, claim.fence, claim.attempt, claim.handler) == (E1, 1, 1, "log")
    assert (claim.message_id, claim.target, claim.event) == (row.message_id, row.target, event)
    assert (claim.payload, claim.created_at) == ("the caller's own", NOW)


async def test_claim_takes_own_name_and_aliases_only(store: Store) -> None:
    """A renamed handler gets deliveries stored under its former name, and none of other handlers."""
    await add_deliveries(store, "new-name", "old-name", "other")
    claims = await claim_deliveries(store, "new-name", "old-name")
    assert sorted(claim.handler for claim in claims) == ["new-name", "old-name"]
    assert await claim_deliveries(store, "nobody") == []


async def test_pending_handlers_are_listed(store: Store) -> None:
    """Each handler with pending deliveries is listed once, also if they are leased or due later."""
    await add_deliveries(store, "made", "waiting", "waiting", "leased")
    [made] = await claim_deliveries(store, "made")
    await store.deliveries.finish([an_attempt(made)])
    await claim_deliveries(store, "leased")
    assert await store.deliveries.pending_handlers() == ["leased", "waiting"]


async def test_due_deliveries_come_oldest_first(store: Store) -> None:
    """The delivery that is due longest comes first; the limit holds, and none comes before its time."""
    async with store.units_of_work.transaction() as transaction:
        events = [an_event(f"e{number}", task_id=TaskId(f"t{number}")) for number in range(4)]
        late = [NOW, NOW - SECOND, NOW + SECOND, NOW - 2 * SECOND]
        await transaction.append(events, [a_delivery(one, due_at=at) for one, at in zip(events, late, strict=True)])
    assert [claim.id for claim in await claim_deliveries(store, limit=2)] == ["e3-log", "e1-log"]
    assert [claim.id for claim in await claim_deliveries(store)] == ["e0-log"]


async def test_concurrent_claimers_never_share_a_delivery(store: Store, open_another: OpenStore) -> None:
    """Concurrent claims of three processes claim every delivery exactly once."""
    async with store.units_of_work.transaction() as transaction:
        events = [an_event(f"e{number}", task_id=TaskId(f"t{number}")) for number in range(60)]
        await transaction.append(events, [a_delivery(event) for event in events])
    stores = [store, open_another(), open_another()]
    batches = await asyncio.gather(*(claim_deliveries(stores[number % 3], limit=7) for number in range(15)))
    claimed = [claim.id for batch in batches for claim in batch]
    rest = [claim.id for claim in await claim_deliveries(store)]
    assert sorted(claimed + rest) == sorted(f"e{number}-log" for number in range(60))


async def test_lane_delivers_one_after_the_other(store: Store) -> None:
    """The next event of a lane is claimed only after the previous one is delivered."""
    await add_deliveries(store, "log", events=["e1", "e2", "e3"])
    order: list[str] = []
    while claims := await claim_deliveries(store, now=NOW + HOUR):
        assert len(claims) == 1
        order += [claim.id for claim in claims]
        await store.deliveries.finish([an_attempt(claims[0])])
    assert order == [E1, E2, E3]


async def test_head_that_waits_for_a_retry_blocks_its_lane(store: Store) -> None:
    """Deliveries behind it wait too; other lanes continue."""
    await add_deliveries(store, "log", "webhook", events=["e1", "e2"])
    [head] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(head, "retry", due_at=NOW + HOUR)])
    assert await claim_deliveries(store, now=NOW + HOUR - SECOND) == []
    assert [claim.id for claim in await claim_deliveries(store, "webhook")] == ["e1-webhook"]
    assert [claim.id for claim in await claim_deliveries(store, now=NOW + HOUR)] == [E1]


async def test_dead_head_unblocks_its_lane(store: Store) -> None:
    """A dead letter does not block later deliveries; they are due at once, even if they were postponed."""
    await add_deliveries(store, "log", events=["e1", "e2"])
    [head] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(head, "retry", due_at=NOW + HOUR)])
    [head] = await claim_deliveries(store, now=NOW + HOUR)
    await store.deliveries.finish([an_attempt(head, "dead", finished_at=NOW + HOUR, fault="destination", error="410")])
    assert [claim.id for claim in await claim_deliveries(store, now=NOW + HOUR)] == [E2]


async def test_deliveries_behind_a_waiting_head_are_postponed_with_it(store: Store) -> None:
    """They are not due before their head, so that an outage does not fill the start of the queue."""
    await add_deliveries(store, "log", events=["e1", "e2"])
    [head] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(head, "retry", due_at=NOW + HOUR)])
    behind = await store.deliveries.delivery(E2)
    assert behind is not None
    assert behind.due_at == NOW + HOUR
    assert (await store.health.gauges(NOW + MINUTE)).oldest_due == timedelta(0)


async def test_event_inserted_while_the_head_is_leased_waits(store: Store) -> None:
    """A new event of the lane is not delivered in parallel to the one before it."""
    await add_deliveries(store, "log", events=["e1"])
    [head] = await claim_deliveries(store)
    await add_deliveries(store, "log", events=["e2"])
    assert await claim_deliveries(store) == []
    await store.deliveries.finish([an_attempt(head)])
    assert [claim.id for claim in await claim_deliveries(store, now=NOW + SECOND)] == [E2]


async def test_finish_stores_the_outcome(store: Store) -> None:
    """Each outcome stores its status, attempts, fault, error and times."""
    await add_deliveries(store, "a", "b", "c")
    [good], [bad], [ugly] = [await claim_deliveries(store, name) for name in "abc"]
    results = [
        an_attempt(good),
        an_attempt(bad, "dead", fault="ours", error="boom \0"),
        an_attempt(ugly, "retry", due_at=NOW + HOUR, error="503"),
    ]
    assert await store.deliveries.finish(results) == {"e1-a", "e1-b", "e1-c"}
    views = [await store.deliveries.delivery(f"e1-{name}") for name in "abc"]
    actual = [(v.status, v.attempts, v.due_at, v.fault, v.last_error, v.finished_at) for v in views if v]
    assert actual == [
        ("delivered", 1, None, None, None, NOW + SECOND),
        ("dead", 1, None, "ours", "boom \ufffd", NOW + SECOND),
        ("pending", 1, NOW + HOUR, None, "503", None),
    ]


async def test_attempts_are_counted_and_stored(store: Store) -> None:
    """Each attempt has the next number, in the claim and in the task's history."""
    await add_deliveries(store, "log")
    for number in (1, 2, 3):
        [claim] = await claim_deliveries(store)
        assert (claim.attempt, claim.fence) == (number, number)
        await store.deliveries.finish([an_attempt(claim, "retry", due_at=NOW, error=f"try {number}")])
    history = [row for row in await history_of(store.queries, "t1") if row["kind"] == "attempt"]
    assert [(row["attempt"], row["outcome"], row["error"]) for row in history] == [
        (1, "retry", "try 1"),
        (2, "retry", "try 2"),
        (3, "retry", "try 3"),
    ]


async def test_late_writer_with_an_old_fence_changes_nothing(store: Store) -> None:
    """After another worker has the lease, `finish`, `renew` and `release` with the old fence have no effect."""
    await add_deliveries(store, "log")
    [late] = await claim_deliveries(store)
    assert await claim_deliveries(store, now=NOW + LEASE - SECOND) == []
    [current] = await claim_deliveries(store, now=NOW + LEASE)
    assert (current.fence, current.attempt, current.abandoned) == (late.fence + 1, 1, True)
    assert await store.deliveries.finish([an_attempt(late, "dead", fault="ours")]) == set()
    assert await store.deliveries.renew({late.id: late.fence}, until=NOW + HOUR) == set()
    await store.deliveries.release({late.id: late.fence})
    assert [row for row in await history_of(store.queries, "t1") if row["kind"] == "attempt"] == []
    assert await claim_deliveries(store, now=NOW + LEASE) == []
    assert await store.deliveries.finish([an_attempt(current)]) == {current.id}


async def test_finish_twice_counts_once(store: Store) -> None:
    """A repeated result of the same claim has no effect."""
    await add_deliveries(store, "log")
    [claim] = await claim_deliveries(store)
    assert await store.deliveries.finish([an_attempt(claim)]) == {claim.id}
    assert await store.deliveries.finish([an_attempt(claim, "dead", fault="ours")]) == set()
    view = await store.deliveries.delivery(claim.id)
    assert view is not None
    assert view.status == "delivered"
    assert await store.deliveries.finish([]) == set()


async def test_renewed_delivery_stays_leased(store: Store) -> None:
    """An extended lease prevents other claims until it ends."""
    await add_deliveries(store, "log")
    [claim] = await claim_deliveries(store)
    assert await store.deliveries.renew({claim.id: claim.fence, "nobody": 1}, until=NOW + HOUR) == {claim.id}
    assert await claim_deliveries(store, now=NOW + MINUTE) == []
    assert await store.deliveries.renew({}, until=NOW) == set()


async def test_released_delivery_is_due_at_once_and_uncounted(store: Store) -> None:
    """A released claim can be claimed again with the same attempt number; its former holder can no longer finish it."""
    await add_deliveries(store, "log")
    [claim] = await claim_deliveries(store)
    await store.deliveries.release({claim.id: claim.fence})
    assert await store.deliveries.finish([an_attempt(claim)]) == set()
    [again] = await claim_deliveries(store)
    assert (again.attempt, again.abandoned, again.message_id) == (1, False, claim.message_id)


async def test_replay_restarts_the_attempts(store: Store) -> None:
    """A dead or delivered delivery is due again with attempt 1 and a new message id; its history continues."""
    await add_deliveries(store, "a", "b")
    [dead], [good] = [await claim_deliveries(store, name) for name in "ab"]
    await store.deliveries.finish([an_attempt(dead, "dead", fault="ours", error="boom"), an_attempt(good)])
    later = NOW + HOUR
    assert await replay(store, good.id, dead.id, "nobody", dead.id, now=later) == [good.id, dead.id]
    assert await claim_deliveries(store, "a", "b") == []
    replayed = {claim.id: claim for claim in await claim_deliveries(store, "a", "b", now=later)}
    assert {claim.attempt for claim in replayed.values()} == {1}
    assert not {claim.message_id for claim in replayed.values()} & {dead.message_id, good.message_id}
    await store.deliveries.finish([an_attempt(replayed[dead.id])])
    numbers = [row["attempt"] for row in await history_of(store.queries, "t1") if row["kind"] == "attempt"]
    assert sorted(numbers) == [1, 1, 2]
    view = await store.deliveries.delivery(dead.id)
    assert view is not None
    assert (view.status, view.attempts, view.fault, view.last_error) == ("delivered", 1, None, None)


async def test_running_delivery_is_not_replayed(store: Store) -> None:
    """A leased delivery keeps its lease, and its attempt can still be stored."""
    await add_deliveries(store, "log")
    [claim] = await claim_deliveries(store)
    assert await store.replays.replay([claim.id], now=NOW) == {claim.id: "running"}
    assert await store.deliveries.finish([an_attempt(claim)]) == {claim.id}


async def test_replayed_delivery_goes_before_later_events_of_its_lane(store: Store) -> None:
    """A replayed delivery precedes deliveries of later events."""
    await add_deliveries(store, "log", events=["e1"])
    [claim] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(claim, "dead", fault="ours")])
    await add_deliveries(store, "log", events=["e2"])
    await replay(store, E1)
    assert [claim.id for claim in await claim_deliveries(store)] == [E1]


async def test_replay_and_finish_notify_dispatch(store: Store) -> None:
    """A wait for `dispatch` ends when a delivery becomes due."""
    await add_deliveries(store, "log", events=["e1", "e2"])
    [claim] = await claim_deliveries(store)
    for act in (store.deliveries.finish([an_attempt(claim)]), replay(store, E1)):
        waiting = asyncio.create_task(store.signals.wait("dispatch", 10))
        await act
        assert await waiting


async def test_unknown_delivery_is_none(store: Store) -> None:
    """An unknown id returns None."""
    assert await store.deliveries.delivery("nobody") is None


async def test_lanes_keep_their_order_under_concurrent_workers(store: Store, open_another: OpenStore) -> None:
    """Four workers in two processes with retries deliver every lane in order, each event once."""
    lanes, length = 6, 4
    for lane in range(lanes):
        events = [f"e{lane}-{number}" for number in range(length)]
        await add_deliveries(store, "log", events=events, task_id=f"t{lane}")
    await add_tasks(store, a_task())
    delivered: list[str] = []
    stores = [store, open_another()]

    async def work(which: Store) -> None:
        while len(delivered) < lanes * length:
            for claim in await claim_deliveries(which, now=NOW + HOUR, limit=2):
                retries = claim.attempt == 1 and hash(claim.id) % 2 == 0
                if not retries:
                    delivered.append(claim.event.id)
                await which.deliveries.finish([an_attempt(claim, "retry" if retries else "delivered", due_at=NOW)])

    async with asyncio.timeout(60):
        await asyncio.gather(*(work(which) for which in stores * 2))
    for lane in range(lanes):
        assert [one for one in delivered if one.startswith(f"e{lane}-")] == [f"e{lane}-{n}" for n in range(length)]
