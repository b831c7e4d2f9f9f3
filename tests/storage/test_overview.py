"""The bounded counts of the dashboard, the audit log and the ended sign-ins."""

from dataclasses import replace
from datetime import timedelta

import pytest

from service.domain.ports.audit import AuditEntry
from service.domain.ports.overview import MAX_COUNTED
from service.domain.ports.tasks import TaskFilter
from service.domain.task import Status
from service.storage import Store
from tests.storage.builders import NOW, SECOND, a_task, add_tasks
from tests.storage.emitted import emitted, query_plan

WEEK = timedelta(days=7)
DAY = timedelta(days=1)
RESULT = ({"type": "video", "url": "https://example.org/v.mp4"},)


async def test_nothing_needs_attention(store: Store) -> None:
    """An empty database has no numbers, and no oldest task."""
    found = await store.overview.attention(None, since=NOW - WEEK)
    assert (found.in_doubt, found.without_result, found.dead, found.queued, found.in_flight) == (0, 0, 0, 0, 0)
    assert found.unsettled_since is None


async def test_attention_of_a_client(store: Store) -> None:
    """A client's numbers are those of its own tasks, an admin's those of all."""
    await add_tasks(
        store,
        a_task("q", client="ann", created_at=NOW - SECOND),
        a_task("d", client="ann", status=Status.IN_DOUBT, created_at=NOW),
        a_task("e", client="bob", status=Status.IN_DOUBT, created_at=NOW - 2 * SECOND),
        a_task("n", client="bob", status=Status.COMPLETED, created_at=NOW),
        a_task("old", client="bob", status=Status.COMPLETED, created_at=NOW - 2 * WEEK),
        a_task("r", client="bob", status=Status.COMPLETED, created_at=NOW, output=RESULT),
    )
    everybody = await store.overview.attention(None, since=NOW - WEEK)
    assert (everybody.in_doubt, everybody.without_result, everybody.queued, everybody.in_flight) == (2, 1, 1, 2)
    assert everybody.unsettled_id == "e"
    ann = await store.overview.attention("ann", since=NOW - WEEK)
    assert (ann.in_doubt, ann.without_result, ann.unsettled_id) == (1, 0, "q")


async def test_tasks_without_a_result(store: Store) -> None:
    """The list of tasks that were paid without a result has those alone."""
    await add_tasks(
        store,
        a_task("a", client="ann", status=Status.COMPLETED),
        a_task("b", client="ann", status=Status.COMPLETED, output=RESULT),
        a_task("c", client="ann", status=Status.FAILED),
    )
    assert [task.id for task in (await store.queries.window(TaskFilter(without_result=True))).tasks] == ["a"]


@pytest.mark.parametrize("client", [None, "ann"])
async def test_attention_reads_indexes(store: Store, client: str | None) -> None:
    """No count reads a whole table: the page is as fast at a million tasks."""
    await add_tasks(store, *[a_task(f"t{number}", status=Status.COMPLETED, output=RESULT) for number in range(50)])
    with emitted(store) as statements:
        await store.overview.attention(client, since=NOW - WEEK)
    assert len(statements) == (7 if client is None else 6)
    for statement in statements:
        how = await query_plan(store, statement)
        assert "SCAN tasks\n" not in f"{how}\n"
        assert "Seq Scan" not in how
    assert MAX_COUNTED == 1000


async def test_audit_log_is_read_newest_first(store: Store) -> None:
    """Entries have their order, filters combine, and pages follow each other."""
    for number, action in enumerate(["task.cancel", "task.resubmit", "task.cancel"]):
        entry = AuditEntry(at=NOW, actor="ann", road="api", action=action, target=f"t{number}", detail="\ud800")
        await store.audit_log.add(entry)
    everything = await store.audit_log.entries(actor=None, action=None, target=None, before=None, limit=10)
    assert [row.entry.target for row in everything] == ["t2", "t1", "t0"]
    wanted = {"actor": "ann", "action": "task.cancel", "target": None}
    [newest] = await store.audit_log.entries(**wanted, before=None, limit=1)
    [oldest] = await store.audit_log.entries(**wanted, before=newest.seq, limit=1)
    assert (newest.entry.target, oldest.entry.target) == ("t2", "t0")


async def test_audit_entry_is_completed_or_removed(store: Store) -> None:
    """An entry is stored before its change; one of a change that was not made is deleted."""
    entry = AuditEntry(at=NOW, actor="ann", road="api", action="endpoint.create", detail="begun")
    first, second = [await store.audit_log.add(entry) for _ in range(2)]
    await store.audit_log.complete(first, target="ep_1", detail="done")
    await store.audit_log.remove(second)
    [row] = await store.audit_log.entries(actor=None, action=None, target=None, before=None, limit=10)
    assert (row.seq, row.entry) == (first, replace(entry, target="ep_1", detail="done"))


async def test_sign_in_ends_once(store: Store) -> None:
    """A link is used once; rows that expired long ago are deleted when another one is stored."""
    ended = store.ended_sign_ins
    assert not await ended.ended("link")
    assert await ended.end("link", expires=NOW + SECOND, now=NOW)
    assert not await ended.end("link", expires=NOW + SECOND, now=NOW)
    assert await ended.ended("link")
    await ended.end("other", expires=NOW + WEEK, now=NOW + 10 * WEEK)
    assert not await ended.ended("link")


async def test_sign_in_that_ended_stays_ended_when_the_clock_is_set_back(store: Store) -> None:
    """A process whose clock is a day ahead deletes nothing that is valid for the others."""
    ended = store.ended_sign_ins
    await ended.end("link", expires=NOW + SECOND, now=NOW)
    await ended.end("other", expires=NOW + WEEK, now=NOW + DAY)
    assert not await ended.end("link", expires=NOW + SECOND, now=NOW)
    assert await ended.ended("link")
