"""A worker obeys the pauses in the database, whoever has stored them."""

import asyncio
from pathlib import Path

from service.domain.ports.deliveries import DeliverySelection
from tests.support.task_loop import MINUTE, TIMEOUT, open_loop
from tests.support.worker_builder import build_worker


async def test_worker_obeys_a_pause_until_its_end(tmp_path: Path) -> None:
    """What comes while the handler is paused waits with its attempts, and runs once it is resumed."""
    async with open_loop(tmp_path) as loop, asyncio.timeout(TIMEOUT):
        seen: list[str] = []
        worker = build_worker(loop, seen)
        await loop.store.handler_pauses.pause("log", names=["log"], by="root", now=loop.clock.now())
        await loop.submitted()
        loop.upstream.set_fact("up1")
        loop.clock.move(MINUTE)
        await worker.reconcile_once()
        assert seen == []
        found = (await loop.store.queries.deliveries(DeliverySelection(limit=10))).deliveries
        assert {(each.status, each.attempts) for each in found} == {("pending", 0)}
        await loop.store.handler_pauses.resume("log")
        await worker.reconcile_once()
        assert seen == ["task.submitted", "task.completed"]
        await worker.drain(0)
