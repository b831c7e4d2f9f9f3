"""The task queue: claims, leases, fences and limits."""

import asyncio
from dataclasses import replace

from service.domain.submission_limits import Limits
from service.domain.task import Status, TaskId, Usage
from service.storage import Store
from service.storage.waiting_clients import Candidate, lock_queued
from tests.storage.builders import (
    HOUR,
    LEASE,
    MINUTE,
    NO_LIMITS,
    NOW,
    SECOND,
    a_task,
    add_callbacks,
    add_tasks,
    an_entry,
    claim_polls,
    claim_submissions,
    in_progress,
    stored,
)
from tests.storage.conftest import OpenStore

T1 = TaskId("t1")


async def test_claimed_submission_is_durable_and_counted(store: Store, open_another: OpenStore) -> None:
    """A claim moves the task to submitting with the next submission, its time, a lease and a higher fence."""
    await add_tasks(store, a_task(submission=1, fence=3))
    claimed = await claim_submissions(store)
    assert claimed == [
        a_task(status=Status.SUBMITTING, submission=2, submitted_at=NOW, leased_until=NOW + LEASE, fence=4)
    ]
    assert await open_another().queries.task(T1) == claimed[0]


async def test_submissions_are_first_in_first_out(store: Store) -> None:
    """The oldest come first, equally old ones by their id, and the limit holds."""
    await add_tasks(
        store, a_task("t3"), a_task("t2"), a_task("t4", created_at=NOW - SECOND), a_task("t1", created_at=NOW + SECOND)
    )
    assert [task.id for task in await claim_submissions(store, limit=3)] == ["t4", "t2", "t3"]
    assert [task.id for task in await claim_submissions(store)] == ["t1"]


async def test_only_due_queued_tasks_are_submitted(store: Store) -> None:
    """Tasks due later, past their deadline or with another status are not submitted."""
    await add_tasks(
        store,
        a_task("later", due_at=NOW + SECOND),
        a_task("late", deadline_at=NOW),
        in_progress("running"),
        a_task("done", status=Status.COMPLETED),
    )
    assert await claim_submissions(store) == []


async def test_concurrent_claimers_never_share_a_task(store: Store, open_another: OpenStore) -> None:
    """Concurrent claims of three processes claim every task exactly once."""
    await add_tasks(store, *(a_task(f"t{number}") for number in range(60)))
    stores = [store, open_another(), open_another()]
    batches = await asyncio.gather(*(claim_submissions(stores[number % 3], limit=7) for number in range(15)))
    claimed = [task.id for batch in batches for task in batch]
    rest = [task.id for task in await claim_submissions(store)]
    assert sorted(claimed + rest) == sorted(f"t{number}" for number in range(60))


async def test_in_flight_limit_counts_tasks_at_the_provider(store: Store) -> None:
    """Submitting, in progress and in doubt count; queued, settled and expired do not."""
    await add_tasks(
        store,
        in_progress("t1"),
        in_progress("t2", status=Status.IN_DOUBT),
        a_task("t3", status=Status.COMPLETED),
        a_task("t4", status=Status.EXPIRED),
        *(a_task(f"q{number}") for number in range(5)),
    )
    limits = Limits(max_in_flight=4)
    assert [task.id for task in await claim_submissions(store, limits=limits)] == ["q0", "q1"]
    assert await claim_submissions(store, limits=limits) == []
    assert await claim_submissions(store, limits=Limits(max_in_flight=1)) == []


async def test_due_tasks_are_polled_oldest_first(store: Store) -> None:
    """In progress, in doubt, expired and guessed failed tasks are leased when due, the longest due first."""
    tasks = [
        in_progress("t1", due_at=NOW),
        in_progress("t2", status=Status.IN_DOUBT, due_at=NOW - 2 * SECOND),
        in_progress("t3", status=Status.EXPIRED, due_at=NOW - SECOND),
        in_progress("t4", status=Status.FAILED, guessed=True, due_at=NOW - 3 * SECOND),
    ]
    await add_tasks(store, *tasks, in_progress("t5", due_at=NOW + SECOND), in_progress("t6", due_at=None))
    claimed = await claim_polls(store)
    assert [task.id for task in claimed] == ["t4", "t2", "t3", "t1"]
    assert claimed[-1] == replace(tasks[0], leased_until=NOW + LEASE, fence=1)
    assert await claim_polls(store) == []


async def test_queued_task_past_its_deadline_is_claimed(store: Store) -> None:
    """It is claimed although its next step is due later; other queued tasks are not."""
    await add_tasks(store, a_task("late", deadline_at=NOW, due_at=NOW + HOUR), a_task("young"))
    assert [(task.id, task.status) for task in await claim_polls(store)] == [("late", Status.QUEUED)]
    assert await claim_polls(store) == []


async def test_poll_limit_covers_both_kinds(store: Store) -> None:
    """The limit holds for overdue and due tasks together."""
    await add_tasks(store, a_task("late", deadline_at=NOW), in_progress("t1"), in_progress("t2"))
    assert len(await claim_polls(store, limit=2)) == 2
    assert len(await claim_polls(store, limit=2)) == 1


async def test_abandoned_poll_is_claimed_again_with_a_higher_fence(store: Store) -> None:
    """After the lease another worker claims the task; the late one no longer holds it."""
    await add_tasks(store, in_progress())
    [first] = await claim_polls(store)
    assert await claim_polls(store, now=NOW + LEASE - SECOND) == []
    [second] = await claim_polls(store, now=NOW + LEASE)
    assert second.fence == first.fence + 1
    assert await store.tasks.renew({T1: first.fence}, until=NOW + HOUR) == set()
    await store.tasks.release({T1: first.fence}, due_at=NOW + HOUR)
    assert await stored(store) == second


async def test_renewed_lease_is_not_abandoned(store: Store) -> None:
    """An extended lease stays with its holder."""
    await add_tasks(store, in_progress("t1"), in_progress("t2"))
    claimed = await claim_polls(store)
    claims = {task.id: task.fence for task in claimed}
    assert await store.tasks.renew(claims | {TaskId("nobody"): 1}, until=NOW + HOUR) == {"t1", "t2"}
    assert await claim_polls(store, now=NOW + 30 * MINUTE) == []
    assert await store.tasks.renew({}, until=NOW) == set()


async def test_released_poll_is_due_at_the_given_time(store: Store) -> None:
    """A released claim has no lease, is due at the given time, and can no longer be renewed."""
    await add_tasks(store, in_progress())
    [claimed] = await claim_polls(store)
    await store.tasks.release({T1: claimed.fence}, due_at=NOW + 5 * SECOND)
    assert await store.tasks.renew({T1: claimed.fence}, until=NOW + HOUR) == set()
    assert await claim_polls(store, now=NOW + 4 * SECOND) == []
    assert [task.id for task in await claim_polls(store, now=NOW + 5 * SECOND)] == ["t1"]


async def test_release_does_not_make_a_settled_task_due(store: Store) -> None:
    """A task whose end was recorded during the claim is not polled again."""
    await add_tasks(store, in_progress())
    [claimed] = await claim_polls(store)
    ended = replace(claimed, status=Status.COMPLETED, due_at=None, settled_at=NOW)
    async with store.units_of_work.transaction() as transaction:
        await transaction.save([ended])
    await store.tasks.release({T1: claimed.fence}, due_at=NOW)
    assert (await stored(store)).due_at is None
    assert await claim_polls(store, now=NOW + HOUR) == []


async def test_sweep_finds_abandoned_submissions_only(store: Store) -> None:
    """Only submissions whose lease has run out are returned, and none of them is submitted again."""
    await add_tasks(store, a_task("t1"), in_progress("t2"))
    [claimed] = await claim_submissions(store)
    await add_tasks(store, a_task("t3"))
    await claim_polls(store)
    assert await store.tasks.sweep(now=NOW + LEASE - SECOND) == []
    assert await store.tasks.sweep(now=NOW + LEASE) == [claimed]
    again = await claim_submissions(store, now=NOW + HOUR)
    assert [task.id for task in again] == ["t3"]


async def test_released_submission_is_never_lost(store: Store) -> None:
    """A released submission stays `submitting`, and the sweep finds it."""
    await add_tasks(store, a_task())
    [claimed] = await claim_submissions(store)
    await store.tasks.release({T1: claimed.fence}, due_at=NOW)
    assert await claim_submissions(store) == []
    assert [task.id for task in await store.tasks.sweep(now=NOW)] == ["t1"]


async def test_no_limits_by_default(store: Store) -> None:
    """Without limits, every due task is submitted."""
    await add_tasks(
        store, in_progress("t0", usage=Usage(cost="1000000")), *(a_task(f"q{number}") for number in range(9))
    )
    assert len(await claim_submissions(store, limits=NO_LIMITS)) == 9


async def test_task_with_an_unread_callback_is_not_submitted(store: Store) -> None:
    """Its callback shows that an earlier submission was sent: a second one, or a try without credit, may bill twice."""
    await add_tasks(store, a_task("called", submission=1), a_task("other", created_at=NOW + SECOND))
    await add_callbacks(store, an_entry(task_id=TaskId("called"), verdict="unread"))
    assert [task.id for task in await claim_submissions(store)] == ["other"]
    await add_tasks(store, a_task("third", created_at=NOW + SECOND))
    await store.credit_pauses.refused(submitted_at=NOW, now=NOW)
    assert [task.id for task in await claim_submissions(store, now=NOW + HOUR)] == ["third"]


async def test_without_credit_tasks_are_tried_in_turn(store: Store) -> None:
    """Tasks are tried in turn: an old one that is always refused does not keep the others waiting."""
    await add_tasks(store, a_task("old", tries=2), a_task("young", created_at=NOW + SECOND, tries=1))
    await store.credit_pauses.refused(submitted_at=NOW, now=NOW)
    assert [task.id for task in await claim_submissions(store, now=NOW + HOUR)] == ["young"]


async def test_task_that_is_canceled_during_a_claim_is_not_submitted(store: Store) -> None:
    """What a claim has chosen is locked only if it is still queued then."""
    await add_tasks(store, a_task("kept"), a_task("gone", status=Status.CANCELED, settled_at=NOW))
    chosen = [Candidate(id=TaskId(name), client="anna", bucket="short") for name in ("gone", "kept")]
    async with store._database.writing() as write:
        locked = await lock_queued(write.connection, chosen)
        if write.connection.dialect.name == "postgresql":  # SQLite has one writer at a time
            assert [each.id for each in locked] == ["kept"]


async def test_submission_without_a_lease_is_swept(store: Store) -> None:
    """A task that is submitting and leased by nobody would otherwise stay so for ever."""
    await add_tasks(store, a_task(status=Status.SUBMITTING, submission=1, due_at=None))
    assert [task.id for task in await store.tasks.sweep(now=NOW)] == ["t1"]


async def test_released_submission_is_swept_from_the_given_time(store: Store) -> None:
    """Until then its reply may still be recorded."""
    await add_tasks(store, a_task())
    [claimed] = await claim_submissions(store)
    await store.tasks.release({T1: claimed.fence}, due_at=NOW + SECOND)
    assert await store.tasks.sweep(now=NOW) == []
    assert [task.id for task in await store.tasks.sweep(now=NOW + SECOND)] == ["t1"]


async def test_release_wakes_those_who_poll(store: Store) -> None:
    """Another job takes a released poll at once, not at its next interval."""
    await add_tasks(store, in_progress())
    [claimed] = await claim_polls(store)
    await store.signals.wait("reconcile", 0)
    await store.tasks.release({T1: claimed.fence}, due_at=NOW)
    assert await store.signals.wait("reconcile", 0)


async def test_claimed_submission_waits_for_nothing(store: Store) -> None:
    """The note of why it waited is gone."""
    await add_tasks(store, a_task(note="waits to be submitted again: not reached"))
    assert [task.note for task in await claim_submissions(store)] == [None]
