"""Replays: of waiting deliveries, of many at given times, and beside attempts that end."""

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from typing import Any

import pytest

from service.domain.ports.replays import ReplayFilter
from service.domain.sealed_targets import SealedSecret
from service.domain.task import Status, TaskId
from service.storage import Store, bulk_writes, delivery_queue, replays
from tests.storage.builders import (
    HOUR,
    MINUTE,
    NOW,
    SECOND,
    a_delivery,
    a_task,
    add_deliveries,
    an_attempt,
    an_event,
    claim_deliveries,
    replay,
)
from tests.storage.conftest import EmptyDatabase, OpenStore
from tests.storage.held_locks import other_session
from tests.support.history import history_of

DEAD = ReplayFilter(statuses=frozenset({"dead"}))
BOTH = ReplayFilter(statuses=frozenset({"dead", "pending"}))


async def _fail(store: Store, *, due_at: datetime | None = None, now: datetime = NOW) -> None:
    """Let every due delivery fail: until `due_at`, or for good without it."""
    results = [
        an_attempt(claim, "retry" if due_at else "dead", due_at=due_at, fault=None if due_at else "destination")
        for claim in await claim_deliveries(store, now=now)
    ]
    await store.deliveries.finish(results)


async def _ids(store: Store, wanted: ReplayFilter) -> list[str]:
    matches = await store.replays.matching(wanted, after=None, limit=100)
    return [one.id for one in matches.found]


async def test_waiting_delivery_is_tried_now(store: Store) -> None:
    """It is due at once with all its attempts, keeps its message id, and a person requested its next attempt."""
    await add_deliveries(store, "log")
    [first] = await claim_deliveries(store)
    await store.deliveries.finish([an_attempt(first, "retry", due_at=NOW + 6 * HOUR)])
    assert await claim_deliveries(store, now=NOW + MINUTE) == []
    assert await replay(store, first.id, now=NOW + MINUTE) == [first.id]
    [again] = await claim_deliveries(store, now=NOW + MINUTE)
    assert (again.message_id, again.attempt, again.manual, again.abandoned) == (first.message_id, 1, True, False)
    await store.deliveries.finish([an_attempt(again, "retry", due_at=NOW + HOUR)])
    [later] = await claim_deliveries(store, now=NOW + HOUR)
    assert (later.attempt, later.manual) == (2, False)


async def test_waiting_delivery_takes_earlier_ones_of_its_lane_along(store: Store) -> None:
    """Order holds: the head of the lane that waits for its retry is tried first, and at once."""
    await add_deliveries(store, "log", events=["e1", "e2"])
    await _fail(store, due_at=NOW + 6 * HOUR)
    assert await replay(store, "e2-log") == ["e2-log"]
    [head] = await claim_deliveries(store)
    assert head.id == "e1-log"
    await store.deliveries.finish([an_attempt(head)])
    assert [claim.id for claim in await claim_deliveries(store, now=NOW + SECOND)] == ["e2-log"]


async def test_abandoned_attempt_is_recorded_before_the_replayed_one(store: Store) -> None:
    """A lease that has run out is no running attempt; its unknown result is still recorded."""
    await add_deliveries(store, "log")
    await claim_deliveries(store)
    later = NOW + 2 * MINUTE
    assert await replay(store, "e1-log", now=later) == ["e1-log"]
    assert [claim.abandoned for claim in await claim_deliveries(store, now=later)] == [True]


async def test_filter_selects_by_handler_client_time_and_status(store: Store) -> None:
    """Every given field must apply; `until` is exclusive, and the oldest event comes first."""
    for number, client in enumerate(("anna", "bert")):
        event = an_event(f"e{number}", task_id=TaskId(f"t{number}"), client=client, at=NOW + number * HOUR)
        rows = [a_delivery(event, name) for name in ("log", "other")]
        async with store.units_of_work.transaction() as transaction:
            await transaction.append([event], rows)
    await _fail(store)
    every = ReplayFilter(statuses=frozenset({"pending", "dead"}))
    assert await _ids(store, every) == ["e0-log", "e0-other", "e1-log", "e1-other"]
    assert await _ids(store, DEAD) == ["e0-log", "e1-log"]
    assert await _ids(store, ReplayFilter(statuses=frozenset({"pending"}), handler="other", client="bert")) == [
        "e1-other"
    ]
    assert await _ids(store, ReplayFilter(statuses=DEAD.statuses, since=NOW + HOUR)) == ["e1-log"]
    assert await _ids(store, ReplayFilter(statuses=DEAD.statuses, until=NOW + HOUR)) == ["e0-log"]


async def test_filter_selects_by_the_host_of_the_receiver(store: Store) -> None:
    """The whole host must match, with a sealed address too; deliveries that no entry asked for have no receiver."""
    targets = {
        "a": {"handler": "log", "url": "https://hooks.example.org/1"},
        "b": {"handler": "log", "url": "sealed+https://Hooks.Example.org:8443/2", "sealed_secret": "s1"},
        "c": {"handler": "log", "url": "https://example.org/hooks.example.org"},
        "d": {},
    }
    for name, target in targets.items():
        event = an_event(name, task_id=TaskId(name))
        async with store.units_of_work.transaction() as transaction:
            await transaction.append([event], [a_delivery(event, target=target)])
    await _fail(store)
    wanted = ReplayFilter(statuses=DEAD.statuses, receiver="hooks.example.org")
    assert await _ids(store, wanted) == ["a-log", "b-log"]
    assert await _ids(store, ReplayFilter(statuses=DEAD.statuses, requested=True)) == ["a-log", "b-log", "c-log"]


async def test_pages_continue_after_a_replayed_delivery(store: Store) -> None:
    """A page is read after a delivery that is no longer dead."""
    await add_deliveries(store, "log", events=["e1"])
    await add_deliveries(store, "log", events=["e2"], task_id="t2")
    await add_deliveries(store, "log", events=["e3"], task_id="t3")
    await _fail(store)
    first = await store.replays.matching(DEAD, after=None, limit=2)
    assert ([one.id for one in first.found], first.last) == (["e1-log", "e2-log"], "e2-log")
    await replay(store, "e1-log", "e2-log")
    rest = await store.replays.matching(DEAD, after=first.last, limit=2)
    assert ([one.id for one in rest.found], rest.last) == (["e3-log"], None)


async def test_replay_is_due_at_the_given_times(store: Store) -> None:
    """A waiting delivery that is due earlier stays so, a leased one is left alone, and a changed one stays as it is."""
    for number in range(4):
        await add_deliveries(store, "log", events=[f"e{number}"], task_id=f"t{number}")
    dead, waiting, delivered, leased = await claim_deliveries(store)
    results = [an_attempt(dead, "dead", fault="ours"), an_attempt(delivered)]
    await store.deliveries.finish([*results, an_attempt(waiting, "retry", due_at=NOW + SECOND)])
    due = {claim.id: NOW + MINUTE for claim in (dead, waiting, delivered, leased)}
    outcomes = await store.replays.replay_at(due, BOTH, now=NOW)
    assert outcomes == {
        dead.id: "replayed",
        waiting.id: "replayed",
        delivered.id: "changed",
        leased.id: "running",
    }
    assert [claim.id for claim in await claim_deliveries(store, now=NOW + SECOND)] == [waiting.id]
    found = await store.deliveries.delivery(dead.id)
    assert found is not None
    assert (found.status, found.due_at) == ("pending", NOW + MINUTE)


SECRET = SealedSecret(id="s1", task_id=TaskId("t1"), sealed="gAAAA")
TARGET = {"handler": "webhook", "url": "sealed+https://example.org/hook", "sealed_secret": "s1"}


async def _two_requested(store: Store) -> None:
    """Store a completed task with a secret, a delivered delivery `a`, and one, `b`, that is leased."""
    task = a_task(
        status=Status.COMPLETED, output=({"url": "https://files.example/1.mp4"},), settled_at=NOW, due_at=None
    )
    await store.intake.add(task, [], None, [SECRET])
    event = an_event()
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], [a_delivery(event, name, target=TARGET) for name in ("a", "b")])
    [first] = await claim_deliveries(store, "a")
    await store.deliveries.finish([an_attempt(first)])


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
@pytest.mark.parametrize("ends", ["finish", "prune"])
async def test_replay_beside_the_last_attempt_keeps_its_secret(
    store: Store, open_another: OpenStore, database: EmptyDatabase, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    """What would delete the secret waits for the replay's commit and then sees that the delivery is due again.

    The replay has found the secret and made its delivery due, but not committed, while the last attempt of the task
    ends in another process, or old secrets are pruned.
    """
    await _two_requested(store)
    [last] = await claim_deliveries(store, "b")
    other = open_another()
    if ends == "prune":
        monkeypatch.setattr(delivery_queue, "delete_secrets", _keep)
        await store.deliveries.finish([an_attempt(last)])
    written, commit, update = asyncio.Event(), asyncio.Event(), bulk_writes.update_many

    async def held(*parameters: Any) -> None:
        await update(*parameters)
        if parameters[-1]:
            written.set()
            await commit.wait()

    monkeypatch.setattr(replays, "update_many", held)
    replaying = asyncio.create_task(replay(store, "e1-a"))
    await written.wait()
    end = other.deliveries.finish([an_attempt(last)]) if ends == "finish" else other.retention.prune(before=NOW + HOUR)
    ending = asyncio.create_task(_run(end))
    async with other_session(database) as session:
        waiting = asyncio.create_task(session.until_waiting(1))
        await asyncio.wait({waiting, ending}, return_when=asyncio.FIRST_COMPLETED)
        commit.set()
        await ending
        waiting.cancel()
    assert await replaying == ["e1-a"]
    assert list(await store.sealed_secrets.load(["s1"])) == ["s1"]


async def _keep(*_: Any) -> None:
    """Delete no secret, as a process that ended right after its last delivery."""


async def _run(end: Awaitable[Any]) -> None:
    await end


async def test_every_replay_is_an_attempt_of_its_own(store: Store) -> None:
    """A second replay of a delivered one is not taken for a repeat of the first: each has its own message id."""
    await add_deliveries(store, "log")
    ids = []
    for _ in range(3):
        [claim] = await claim_deliveries(store)
        await store.deliveries.finish([an_attempt(claim)])
        ids.append(claim.message_id)
        assert await replay(store, claim.id) == [claim.id]
    numbers = [row["attempt"] for row in await history_of(store.queries, "t1") if row["kind"] == "attempt"]
    assert (len(set(ids)), sorted(numbers)) == (3, [1, 2, 3])


async def test_matches_continue_after_the_last_one(store: Store) -> None:
    """The delivery of the cursor is not matched, and so not replayed, a second time."""
    await add_deliveries(store, "log", events=("e1", "e2", "e3"))
    for _ in range(3):
        await _fail(store, now=NOW + MINUTE)
    first = await store.replays.matching(DEAD, after=None, limit=2)
    rest = await store.replays.matching(DEAD, after=first.last, limit=2)
    assert [[one.id for one in page.found] for page in (first, rest)] == [["e1-log", "e2-log"], ["e3-log"]]
    assert rest.last is None
