"""Retention reads a part of each table at a pass, and continues there."""

import pytest
from sqlalchemy import text

from service.domain.task import Status
from service.storage import Store, retention
from tests.storage.builders import HOUR, NOW, a_task, add_tasks
from tests.storage.emitted import emitted, steps
from tests.storage.test_grown_tables import read_rows
from tests.support.grown_tables import grow

KEPT = 3000
"""Settled tasks that retention keeps, each with an attempt, and as many sealed secrets that a dead letter needs."""


async def _add_secrets(store: Store) -> None:
    await grow(store, KEPT, at=NOW)
    statements = (
        "UPDATE deliveries SET status = 'dead', finished_at = NULL WHERE id LIKE 'delivery-%'",
        "INSERT INTO sealed_secrets (id, task_id, sealed) SELECT 'secret-' || id, task_id, '' FROM deliveries",
        "INSERT INTO inputs SELECT id, 'image', 'image/png', '', 0, '' FROM tasks",
    )
    async with store._database.writing() as write:
        for statement in statements:
            await write.connection.execute(text(statement))


async def test_retention_reads_a_part_of_the_tables_and_continues(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pass reads few of the rows that stay, and the next one reads those that follow: each is read in the end."""
    monkeypatch.setattr(retention, "ROWS_PER_DELETE", 100)
    monkeypatch.setattr(retention, "KEPT_PER_PASS", 200)
    await store.retention.prune(before=NOW - HOUR)
    await add_tasks(store, a_task("zzz", status=Status.COMPLETED, due_at=None, settled_at=NOW - 2 * HOUR))
    await _add_secrets(store)
    before = await read_rows(store)
    with emitted(store) as statements:
        assert await store.retention.prune(before=NOW - HOUR) == 0
    after = await read_rows(store)
    assert {one: read - before[one] for one, read in after.items() if read - before[one] >= KEPT} == {}
    if not after:
        assert steps(store, statements) < 20 * KEPT
    passes = [await store.retention.prune(before=NOW - HOUR) for _ in range(KEPT // 200)]
    assert sum(passes) == 1
