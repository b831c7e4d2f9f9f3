"""Callbacks of a burst: stored first, answered, and recorded right after by any process that reads the inbox."""

import json
from datetime import timedelta
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import structlog
from structlog.testing import capture_logs

from service.callbacks import inbox_worker
from service.callbacks import receiver as receive
from service.callbacks.inbox_worker import CACHE_TIME, InboxWorker
from service.callbacks.limits import BurstDetector
from service.domain.callback import Callback, read_body
from service.domain.errors import BadSignature, BadToken, SchemaBehind, StoreUnavailable
from service.domain.ports.unit_of_work import InboxEntry
from service.domain.task import Status, TaskId
from service.domain.task_update import TaskUpdate, UpdateResult
from service.domain.tokens import TokenClaims
from service.tasks.update_batch import UpdateBatch
from tests.support.scripted_provider import token_of, vtrix_body
from tests.support.task_loop import SECOND, START, Loop, open_loop


@pytest.fixture(autouse=True)
def burst(monkeypatch: pytest.MonkeyPatch) -> None:
    """Treat every callback as part of a burst."""
    monkeypatch.setattr(BurstDetector, "observe", lambda *_: True)


class SameNonce:
    """A verifier that accepts every signature, always with the same nonce."""

    def verify(self, *_: object) -> str:
        """Return the nonce."""
        return "n1"


async def process_inbox(loop: Loop) -> int:
    """Process the inbox until it is empty."""
    total = 0
    while count := await loop.inbox_worker.run_once():
        total += count
    return total


async def test_stored_callback_survives_a_restart(tmp_path: Path) -> None:
    """An answered callback is stored and not recorded yet; a new process with the same file records it."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        assert await loop.callbacks() == {"unread": 1}
        assert (await loop.task(task.id)).hinted_at is None
        fresh = Loop(loop.store, loop.clock, loop.upstream, loop.options)
        assert await process_inbox(fresh) == 1
        assert await loop.callbacks() == {"accepted": 1}
        await fresh.poll_due()
        assert (await loop.task(task.id)).settled_by == "callback"


async def test_one_log_line_names_the_tasks_of_a_commit(tmp_path: Path) -> None:
    """All callbacks that are stored together make one log line with their tasks."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        token = token_of(loop.upstream.requests[0])
        with capture_logs() as lines, patch.object(receive, "log", structlog.get_logger()):
            await loop.called_back(token, json.dumps(vtrix_body("completed")).encode())
    assert [(line["event"], line["count"], line["tasks"]) for line in lines] == [
        ("callbacks stored in inbox", 1, [task.id])
    ]


async def test_parsed_callbacks_are_cached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The oldest parsed callbacks are cached until they are recorded; the bodies of others are parsed again."""
    read: list[bytes] = []

    def noting(claims: TokenClaims, headers: Any, body: bytes, **more: Any) -> Callback:
        read.append(body)
        return read_body(claims, headers, body, **more)

    monkeypatch.setattr(inbox_worker, "read_body", noting)
    monkeypatch.setattr(inbox_worker, "MAX_CACHED", 2)
    async with open_loop(tmp_path, confirm=False) as loop:
        loop.inbox_worker.enable_cache()
        tasks = [await loop.submitted() for _ in range(3)]
        for order in range(3):
            await loop.call_back(vtrix_body("completed") | {"id": f"up{order + 1}"}, request=order)
        await process_inbox(loop)
        assert [json.loads(body)["id"] for body in read] == ["up3"]
        assert {(await loop.task(task.id)).status for task in tasks} == {Status.COMPLETED}


async def test_cached_callback_is_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What this process has stored is recorded from memory; what it could not cache is read from the database."""
    seen: list[bool] = []
    known = InboxWorker._known

    def noting(self: InboxWorker, digest: str) -> InboxEntry | None:
        seen.append((entry := known(self, digest)) is not None)
        return entry

    monkeypatch.setattr(InboxWorker, "_known", noting)
    monkeypatch.setattr(inbox_worker, "MAX_CACHED_BYTES", 1)
    async with open_loop(tmp_path) as loop:
        loop.inbox_worker.enable_cache()
        await loop.submitted()
        for number in range(3):  # a single one may be larger than the cache
            await loop.call_back(vtrix_body("completed") | {"progress": number / 100})
        assert await process_inbox(loop) == 3
        assert seen == [True, False, False]
        assert (loop.inbox_worker._cached_bytes, len(loop.inbox_worker._cache)) == (0, 0)


async def test_old_callbacks_leave_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Callbacks that another process has recorded do not keep new ones out of it."""
    monkeypatch.setattr(inbox_worker, "MAX_CACHED", 1)
    async with open_loop(tmp_path) as loop:
        loop.inbox_worker.enable_cache()
        await loop.submitted()
        for number in range(3):
            await loop.call_back(vtrix_body("completed") | {"progress": number / 100})
            loop.clock.move(CACHE_TIME if number else SECOND)
        (cached,) = loop.inbox_worker._cache.values()
        assert b"0.02" in cached[0].body


async def test_stored_callback_settles_without_confirmation(tmp_path: Path) -> None:
    """A stored callback has the same effects as any other."""
    async with open_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        await process_inbox(loop)
        after = await loop.task(task.id)
        assert (after.status, after.settled_by) == (Status.COMPLETED, "callback")
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]


async def test_repeated_callbacks_are_stored_once(tmp_path: Path) -> None:
    """A repeat changes nothing, whether or not the first one is recorded."""
    async with open_loop(tmp_path, confirm=False) as loop:
        task = await loop.submitted()
        for _ in range(2):
            await loop.call_back(vtrix_body("completed"))
            await loop.call_back(vtrix_body("completed"))
            await process_inbox(loop)
        assert await loop.callbacks() == {"accepted": 1}
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]


async def test_reused_nonce_is_refused_by_the_inbox_too(tmp_path: Path) -> None:
    """A nonce is valid for one callback: its repeat is accepted, another one is a forgery."""
    async with open_loop(tmp_path, verifier=SameNonce()) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        await loop.call_back(vtrix_body("completed"))
        with pytest.raises(BadSignature):
            await loop.call_back(vtrix_body("failed"))
        assert await loop.callbacks() == {"unread": 1}


async def test_callback_for_an_unknown_task_is_quarantined_when_it_is_read(tmp_path: Path) -> None:
    """A callback of an unknown task is stored for an operator, and blocks nothing."""
    async with open_loop(tmp_path) as loop:
        token = loop.tokens.callback_token(TaskId("nobody"), 1, START + timedelta(hours=1))
        await loop.called_back(token, b'{"id": "x", "status": "completed"}')
        assert await process_inbox(loop) == 1
        assert await loop.callbacks() == {"quarantined": 1}


async def test_body_of_another_task_is_refused_before_it_is_stored(tmp_path: Path) -> None:
    """Verification is the same in a burst."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        foreign = loop.tokens.payload_token(TaskId("another"), 1)
        with pytest.raises(BadToken):
            await loop.call_back(vtrix_body("completed") | {"payload": foreign})
        assert await loop.callbacks() == {}


async def test_callback_that_cannot_be_recorded_blocks_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is counted as broken, and the poller settles its task; the others are recorded."""
    async with open_loop(tmp_path, confirm=False) as loop:
        tasks = [await loop.submitted() for _ in range(5)]
        for order in range(5):
            await loop.call_back(vtrix_body("completed") | {"id": f"up{order + 1}"}, request=order)
        update = InboxWorker._update

        def poisoned(self: InboxWorker, row: InboxEntry) -> TaskUpdate:
            if row.task_id == tasks[2].id:
                raise ValueError("unexpected")
            return update(self, row)

        monkeypatch.setattr(InboxWorker, "_update", poisoned)
        assert await process_inbox(loop) == 5
        assert await loop.callbacks() == {"accepted": 4, "broken": 1}
        assert [(await loop.task(task.id)).settled for task in tasks] == [True, True, False, True, True]
        loop.upstream.set_fact("up3")
        assert await loop.poll_due() == 1  # at once, since a callback arrived
        assert (await loop.task(tasks[2].id)).status is Status.COMPLETED


async def test_unavailable_database_leaves_callbacks_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What could not be recorded is recorded later, and is not counted as broken."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))

        async def unavailable(*_: object, **__: object) -> list[UpdateResult]:
            raise StoreUnavailable("the disk is full")

        with monkeypatch.context() as broken:
            broken.setattr(UpdateBatch, "write", unavailable)
            with pytest.raises(StoreUnavailable):
                await loop.inbox_worker.run_once()
        assert await loop.callbacks() == {"unread": 1}
        assert await process_inbox(loop) == 1


@pytest.mark.parametrize("fault", [SchemaBehind("migrate"), MemoryError()], ids=["schema", "memory"])
async def test_operator_error_leaves_callbacks_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception
) -> None:
    """During a migration, or without memory, a single callback stays unread, and is recorded later."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))

        write = UpdateBatch.write

        async def impossible(*given: Any, from_inbox: bool = False) -> list[UpdateResult]:
            if from_inbox:
                raise fault
            return await write(*given)

        with monkeypatch.context() as broken:
            broken.setattr(UpdateBatch, "write", impossible)
            with pytest.raises(type(fault)):
                await loop.inbox_worker.run_once()
        assert await loop.callbacks() == {"unread": 1}
        assert await process_inbox(loop) == 1


async def test_min_age_leaves_new_callbacks_to_workers(tmp_path: Path) -> None:
    """A process that only receives callbacks records those that no worker has recorded for a while."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        assert await loop.inbox_worker.run_once(15 * SECOND) == 0
        loop.clock.move(15 * SECOND)
        assert await loop.inbox_worker.run_once(15 * SECOND) == 1


async def test_callback_with_a_future_time_is_read(tmp_path: Path) -> None:
    """After the clock moved backwards a stored callback does not wait until the clock reaches its time again."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        loop.clock.move(-timedelta(hours=1))
        assert await loop.inbox_worker.run_once(timedelta(seconds=15)) == 1
        assert await loop.callbacks() == {"accepted": 1}


async def test_unread_callback_is_counted_as_due(tmp_path: Path) -> None:
    """The gauge of the oldest due row includes unread callbacks."""
    async with open_loop(tmp_path) as loop:
        await loop.submitted()
        await loop.call_back(vtrix_body("completed"))
        loop.clock.move(7 * SECOND)
        assert (await loop.store.health.gauges(loop.clock.now())).oldest_due == 7 * SECOND
