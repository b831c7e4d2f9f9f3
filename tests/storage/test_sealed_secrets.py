"""Sealed webhook secrets: stored with their task, deleted when nothing needs them any more."""

import asyncio
from datetime import timedelta

import pytest
from psycopg import sql

from service.domain.sealed_targets import Resealed, SealedSecret
from service.domain.task import Json, Status, Task, TaskId
from service.storage import Store
from tests.storage.builders import NOW, SECOND, a_delivery, a_task, an_attempt, an_event, claim_deliveries, replay
from tests.storage.conftest import EmptyDatabase
from tests.storage.emitted import emitted
from tests.storage.held_locks import other_session

PLAIN = {"handler": "webhook", "url": "https://example.org/hook"}


def _target(secret_id: str) -> Json:
    return {"handler": "webhook", "url": "sealed+https://example.org/hook", "sealed_secret": secret_id}


OUTPUT = ({"url": "https://files.example/1.mp4"},)


def _completed(task_id: str = "t1", status: Status = Status.COMPLETED, output: tuple[Json, ...] = OUTPUT) -> Task:
    return a_task(task_id, status=status, output=output, settled_at=NOW, due_at=None)


async def _add(store: Store, task: Task, *handlers: str) -> None:
    """Store a task with a secret, and deliveries of its last event to `handlers`."""
    secret = SealedSecret(id=f"s-{task.id}", task_id=task.id, sealed="gAAAA")
    await store.intake.add(task, [], None, [secret])
    event = an_event(f"e-{task.id}", task_id=task.id)
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], [a_delivery(event, name, target=_target(secret.id)) for name in handlers])


async def _kept(store: Store, *task_ids: str) -> list[str]:
    found = await store.sealed_secrets.load([f"s-{one}" for one in task_ids or ("t1",)])
    return [one.removeprefix("s-") for one in found]


async def test_secret_is_stored_with_its_task(store: Store) -> None:
    """An unknown id is left out."""
    await _add(store, a_task())
    assert await store.sealed_secrets.load(["s-t1", "s-none"]) == {"s-t1": "gAAAA"}
    assert await store.sealed_secrets.load([]) == {}


async def test_secret_is_deleted_with_the_last_delivery(store: Store) -> None:
    """Of a completed task, and not before every delivery is made, those of the operator's handlers included."""
    await _add(store, _completed(), "webhook", "log")
    for name, kept in (("webhook", ["t1"]), ("log", [])):
        [claim] = await claim_deliveries(store, name)
        await store.deliveries.finish([an_attempt(claim)])
        assert await _kept(store) == kept


async def test_secret_of_another_task_stays(store: Store) -> None:
    """Deliveries of one task say nothing about another one."""
    for name in ("t1", "t2"):
        await _add(store, _completed(name), "webhook")
    [first, _] = await claim_deliveries(store, "webhook")
    await store.deliveries.finish([an_attempt(first)])
    assert len(await _kept(store, "t1", "t2")) == 1


@pytest.mark.parametrize("status", [Status.IN_PROGRESS, Status.FAILED, Status.CANCELED, Status.EXPIRED])
async def test_task_with_another_end_keeps_its_secret(store: Store, status: Status) -> None:
    """More events may follow, or it can be submitted again."""
    await _add(store, _completed(status=status), "webhook")
    [claim] = await claim_deliveries(store, "webhook")
    await store.deliveries.finish([an_attempt(claim)])
    assert await _kept(store) == ["t1"]


async def test_task_without_any_result_keeps_its_secret(store: Store) -> None:
    """It was paid without a result and can be submitted again, so neither the last delivery nor pruning deletes it."""
    await _add(store, _completed(output=()), "webhook")
    [claim] = await claim_deliveries(store, "webhook")
    await store.deliveries.finish([an_attempt(claim)])
    await store.retention.prune(before=NOW - SECOND)
    assert await _kept(store) == ["t1"]


async def test_dead_letter_keeps_its_secret_until_it_is_replayed(store: Store) -> None:
    """A replay has to sign again; after it, the secret goes."""
    await _add(store, _completed(), "webhook")
    [claim] = await claim_deliveries(store, "webhook")
    await store.deliveries.finish([an_attempt(claim, "dead", fault="destination")])
    assert await _kept(store) == ["t1"]
    await replay(store, claim.id)
    [claim] = await claim_deliveries(store, "webhook")
    await store.deliveries.finish([an_attempt(claim)])
    assert await _kept(store) == []


async def test_delivery_without_its_secret_is_not_replayed(store: Store) -> None:
    """It stays delivered; one without a secret of its own can be replayed again and again."""
    event = an_event()
    await store.intake.add(_completed(), [], None, [SealedSecret(id="s1", task_id=TaskId("t1"), sealed="gAAAA")])
    rows = [a_delivery(event, "webhook", target=_target("s1")), a_delivery(event, "other", target=PLAIN)]
    async with store.units_of_work.transaction() as transaction:
        await transaction.append([event], rows)
    claims = await claim_deliveries(store, "webhook") + await claim_deliveries(store, "other")
    await store.deliveries.finish([an_attempt(claim) for claim in claims])
    assert await replay(store, *(row.id for row in rows)) == [rows[1].id]
    found = await store.deliveries.delivery(rows[0].id)
    assert found is not None
    assert found.status == "delivered"


async def test_pruning_deletes_what_no_process_deleted(store: Store) -> None:
    """Another process may have made the last delivery, and after RETENTION nothing needs a secret."""
    await _add(store, _completed("t1"))
    await _add(store, _completed("t2"), "webhook")
    await _add(store, _completed("t3", Status.FAILED))
    await _add(store, _completed("t4", Status.FAILED), "webhook")
    await _add(store, a_task("t5"))
    await store.retention.prune(before=NOW - SECOND)
    assert await _kept(store, "t1", "t2", "t3", "t4", "t5") == ["t2", "t3", "t4", "t5"]
    await store.retention.prune(before=NOW + timedelta(days=1))
    assert await _kept(store, "t1", "t2", "t3", "t4", "t5") == ["t2", "t4", "t5"]


async def test_dead_letter_keeps_its_secret_beside_made_deliveries(store: Store) -> None:
    """Neither the end of another delivery nor pruning deletes what its replay needs."""
    await _add(store, _completed(), "webhook", "log")
    [dead], [made] = [await claim_deliveries(store, name) for name in ("webhook", "log")]
    await store.deliveries.finish([an_attempt(dead, "dead", fault="destination")])
    await store.deliveries.finish([an_attempt(made)])
    await store.retention.prune(before=NOW - SECOND)
    assert await _kept(store) == ["t1"]


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
async def test_last_delivery_waits_for_a_replay_that_needs_the_secret(store: Store, database: EmptyDatabase) -> None:
    """A replay in another process has locked the secret and makes a delivery due again: the secret stays."""
    await _add(store, _completed(), "webhook", "log")
    [first], [last] = [await claim_deliveries(store, name) for name in ("webhook", "log")]
    await store.deliveries.finish([an_attempt(first)])
    async with other_session(database) as session:
        await session.run(sql.SQL("SELECT id FROM sealed_secrets FOR UPDATE"))
        await session.run(sql.SQL("UPDATE deliveries SET status = 'pending' WHERE id = %s"), first.id)
        finishing = asyncio.ensure_future(store.deliveries.finish([an_attempt(last)]))
        await session.until_waiting(1)
    assert await finishing == {last.id}
    assert await _kept(store) == ["t1"]


async def test_secret_that_changed_meanwhile_is_not_replaced(store: Store) -> None:
    """Two processes seal again at once: the later one would store what a key of its own has sealed."""
    await _add(store, a_task())
    changes = [
        Resealed(id="s-t1", before=before, sealed=sealed) for before, sealed in (("gAAAA", "new"), ("gAAAA", "x"))
    ]
    assert [await store.sealed_secrets.replace([change]) for change in changes] == [1, 0]
    assert await store.sealed_secrets.load(["s-t1"]) == {"s-t1": "new"}


async def test_secrets_are_paged_by_id(store: Store) -> None:
    """Whatever the order in which they were stored: the last id of a page is where the next one begins."""
    for name in ("t3", "t1", "t2"):
        await _add(store, a_task(name))
    with emitted(store) as statements:
        assert list(await store.sealed_secrets.page(after="", limit=2)) == ["s-t1", "s-t2"]
    assert "ORDER BY sealed_secrets.id" in statements[-1].sql  # a database may return any order without it
    assert list(await store.sealed_secrets.page(after="s-t2", limit=2)) == ["s-t3"]
