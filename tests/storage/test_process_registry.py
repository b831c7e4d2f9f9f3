"""Registrations of processes and the keys that have signed, on both databases."""

import asyncio
from dataclasses import replace

from service.domain.ports.process_registry import KeyDecision, ProcessKeys, RegisteredKeys
from service.domain.task import Status
from service.storage import Store
from tests.storage.builders import MINUTE, NOW, SECOND, a_task
from tests.storage.conftest import OpenStore

A = ProcessKeys(id="a", fingerprints=("new", "old"), started_at=NOW, seen_at=NOW)
B = ProcessKeys(id="b", fingerprints=("old",), started_at=NOW, seen_at=NOW)


async def renewed(store: Store, own: ProcessKeys, decision: KeyDecision) -> RegisteredKeys:
    """Renew a registration with this decision; return what was registered besides."""
    seen: list[RegisteredKeys] = []

    def decide(registered: RegisteredKeys) -> KeyDecision:
        seen.append(registered)
        return decision

    await store.processes.renew(own, decide)
    return seen[0]


async def test_registrations_are_seen_by_other_processes(store: Store) -> None:
    """A process sees the others' keys, newest first, and when each key has signed last; a renewal replaces its own."""
    assert await renewed(store, A, KeyDecision(signing="new")) == RegisteredKeys()
    again = replace(A, seen_at=NOW + SECOND, fingerprints=("newest", "new"))
    assert await renewed(store, again, KeyDecision(signing="newest")) == RegisteredKeys(used_at={"new": NOW})
    used_at = {"new": NOW, "newest": NOW + SECOND}
    assert await renewed(store, B, KeyDecision(signing="old")) == RegisteredKeys(others=(again,), used_at=used_at)


async def test_registration_ends(store: Store) -> None:
    """A process removes its registration, and those and the keys that it counts as ended; unknown ones do no harm."""
    await renewed(store, A, KeyDecision(signing="new"))
    await renewed(store, B, KeyDecision(signing="old"))
    await store.processes.remove("b")
    await store.processes.remove("b")
    decision = KeyDecision(signing="new", ended=["a", "nobody"], unused=["old", "never"])
    assert (await renewed(store, replace(A, id="c"), decision)).others == (A,)
    third = await renewed(store, replace(A, id="d"), KeyDecision(signing="new"))
    assert ([other.id for other in third.others], set(third.used_at)) == (["c"], {"new"})


async def test_concurrent_renewals_see_each_other(store: Store, open_another: OpenStore) -> None:
    """Of processes that register at the same time, each sees those before it: the decisions are made one by one."""
    stores = [store, *(open_another() for _ in range(3))]
    renewals = (renewed(each, replace(A, id=f"p{n}"), KeyDecision(signing="new")) for n, each in enumerate(stores))
    seen = await asyncio.gather(*renewals)
    assert sorted(len(each.others) for each in seen) == [0, 1, 2, 3]


async def test_unfinished_tasks_are_counted_by_submission(store: Store) -> None:
    """Only tasks that are at the provider and were submitted by the given time are counted."""
    for number, (status, at) in enumerate(
        [
            (Status.IN_PROGRESS, NOW),
            (Status.IN_DOUBT, NOW - MINUTE),
            (Status.IN_PROGRESS, NOW + SECOND),
            (Status.COMPLETED, NOW),
            (Status.QUEUED, None),
        ]
    ):
        await store.intake.add(a_task(f"t{number}", status=status, submitted_at=at), [], None)
    assert await store.processes.count_unfinished(submitted_until=NOW) == 2
