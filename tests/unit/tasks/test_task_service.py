"""The task service over a real store: acceptance, cancellation and resubmission."""

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from service.domain.blob import Blob
from service.domain.errors import Conflict, InvalidParams, NotFound, ProviderUnavailable, Refused
from service.domain.ports.tasks import IdempotencyKey, TaskFilter
from service.domain.task import Fact, Status, TaskId
from service.domain.task_update import RESUBMITTED_WARNING, TaskUpdate, UpdateResult
from service.tasks.recorder import Recorder
from tests.support.sample_media import image, uri
from tests.support.scripted_provider import DONE
from tests.support.task_loop import DEADLINE, GOOD, IN_DOUBT_FOR, MINUTE, Loop, open_loop, task_request


def _key(key: str = "k", digest: str = "d") -> IdempotencyKey:
    return IdempotencyKey(key=key, digest=digest)


async def test_every_fault_is_reported_at_once(tmp_path: Path) -> None:
    """Faults of the parameters, of notify and of the metadata come in one error, each with its location."""
    async with open_loop(tmp_path) as loop:
        bad = task_request(
            params={"prompt": "", "duration": "5", "colour": "red"}, notify=[{"handler": "webhok"}], metadata=[1]
        )
        with pytest.raises(InvalidParams) as caught:
            await loop.task_service.accept(bad)
        slots = {fault.loc[:2] for fault in caught.value.faults}
        assert {("params", "prompt"), ("params", "duration"), ("params", "colour")} <= slots
        assert {("params", "images"), ("notify", 0), ("metadata",)} <= slots
        assert await loop.submit_due() == 0


async def test_new_task_has_its_deadline(tmp_path: Path) -> None:
    """A new task is queued, due now, and has its deadline."""
    async with open_loop(tmp_path) as loop:
        task = await loop.accept()
        assert (task.status, task.due_at, task.deadline_at) == (
            Status.QUEUED,
            loop.clock.now(),
            loop.clock.now() + DEADLINE,
        )


async def test_same_key_and_body_return_the_first_task(tmp_path: Path) -> None:
    """Also with twenty requests at once: one task, one submission."""
    async with open_loop(tmp_path) as loop:
        requests = (loop.task_service.accept(task_request(idempotency=_key())) for _ in range(20))
        answers = await asyncio.gather(*requests)
        assert len({task.id for task, _ in answers}) == 1
        assert sorted(made for _, made in answers) == [False] * 19 + [True]
        await loop.submit_due()
        assert sum(loop.upstream.charges.values()) == 1


async def test_same_key_with_another_body_is_a_conflict(tmp_path: Path) -> None:
    """A key stands for one request; the same key of another client stands for another."""
    async with open_loop(tmp_path) as loop:
        first, _ = await loop.task_service.accept(task_request(idempotency=_key()))
        with pytest.raises(Conflict):
            await loop.task_service.accept(task_request(idempotency=_key(digest="other")))
        foreign, made = await loop.task_service.accept(task_request(client="bob", idempotency=_key(digest="other")))
        assert made
        assert foreign.id != first.id


async def test_payload_with_a_lone_surrogate_is_a_fault(tmp_path: Path) -> None:
    """A lone surrogate, which JSON can contain, is refused with its location, without an internal error."""
    async with open_loop(tmp_path) as loop:
        with pytest.raises(InvalidParams) as refused:
            await loop.accept(params=GOOD | {"payload": "\ud83d"})
        assert [fault.loc for fault in refused.value.faults] == [("params", "payload")]


# ── cancel ───────────────────────────────────────────────────────────────────


async def test_queued_task_is_canceled_and_never_sent(tmp_path: Path) -> None:
    """A task that is not submitted yet is canceled at once."""
    async with open_loop(tmp_path) as loop:
        task = await loop.accept()
        assert (await loop.task_service.cancel(task.id)).status is Status.CANCELED
        assert await loop.submit_due() == 0
        assert await loop.happened(task.id) == ["task.canceled"]


async def test_provider_cancels_a_running_task(tmp_path: Path) -> None:
    """Once the provider agrees the task is canceled."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        assert (await loop.task_service.cancel(task.id)).status is Status.CANCELED
        assert loop.upstream.canceled == ["up1"]


@pytest.mark.parametrize("error", [Conflict("task state is scheduled, can not cancel"), ProviderUnavailable("HTML")])
async def test_refused_cancel_changes_nothing(tmp_path: Path, error: Exception) -> None:
    """The provider's reason reaches the caller, and the task goes on."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        loop.upstream.cancels.append(error)
        with pytest.raises(type(error), match=str(error)):
            await loop.task_service.cancel(task.id)
        assert await loop.task(task.id) == task


async def _doubtful(loop: Loop) -> TaskId:
    return (await loop.in_doubt()).id


async def _completed(loop: Loop) -> TaskId:
    loop.upstream.creates.append(DONE)
    return (await loop.submitted()).id


async def _refused(loop: Loop) -> TaskId:
    loop.upstream.creates.append(Refused("ModelUnavailable", "not here"))
    return (await loop.submitted()).id


async def _unknown(loop: Loop) -> TaskId:
    task_id = await _doubtful(loop)
    await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + MINUTE)
    return task_id


async def _expired(loop: Loop) -> TaskId:
    task_id = (await loop.submitted()).id
    await loop.run_until(loop.clock.now() + DEADLINE, by=10 * MINUTE)
    return task_id


async def _submitting(loop: Loop) -> TaskId:
    task = await loop.accept()
    loop.upstream.reply_gate = asyncio.Event()
    await loop.submitter.run_once()
    return task.id


@pytest.mark.parametrize(
    ("bring", "word"),
    [
        (_submitting, "submitting"),
        (_doubtful, "in_doubt"),
        (_completed, "completed"),
        (_refused, "failed"),
        (_unknown, "failed"),
        (_expired, "expired"),
    ],
)
async def test_conflict_names_why_a_task_cannot_be_canceled(tmp_path: Path, bring: Any, word: str) -> None:
    """The conflict names the status, and no request is sent to the provider."""
    async with open_loop(tmp_path) as loop:
        task_id = await bring(loop)
        with pytest.raises(Conflict, match=word):
            await loop.task_service.cancel(task_id)
        assert loop.upstream.canceled == []


@pytest.mark.parametrize("status", ["in_progress", "completed"])
async def test_task_that_is_no_longer_queued_is_not_canceled(tmp_path: Path, status: str) -> None:
    """Where only a queued task may be canceled, the provider is not asked to cancel one that was submitted."""
    async with open_loop(tmp_path) as loop:
        task_id = await _completed(loop) if status == "completed" else (await loop.submitted()).id
        with pytest.raises(Conflict, match=f"is {status}, no longer queued"):
            await loop.task_service.cancel(task_id, only_if_queued=True)
        assert loop.upstream.canceled == []
        queued = await loop.accept()
        assert (await loop.task_service.cancel(queued.id, only_if_queued=True)).status is Status.CANCELED


async def test_cancel_of_an_unknown_task(tmp_path: Path) -> None:
    """There is no such task."""
    async with open_loop(tmp_path) as loop:
        with pytest.raises(NotFound):
            await loop.task_service.cancel(TaskId("nobody"))


# ── resubmit ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("bring", [_doubtful, _refused, _unknown, _expired])
async def test_resubmission_makes_one_new_linked_task(tmp_path: Path, bring: Any) -> None:
    """Repeated resubmissions return the same new task; only it may be charged a second time."""
    async with open_loop(tmp_path) as loop:
        old = await loop.task(await bring(loop))
        new = await loop.task_service.resubmit(old.id)
        assert (await loop.task_service.resubmit(old.id)).id == new.id
        assert (new.resubmission_of, new.status, new.params) == (old.id, Status.QUEUED, old.params)
        assert new.deadline_at == loop.clock.now() + DEADLINE
        await loop.submit_due()
        assert loop.upstream.charges[new.id] == 1
        assert loop.upstream.charges[old.id] <= 1


async def test_resubmission_copies_the_request(tmp_path: Path) -> None:
    """The new task has the inline media, payload, meta_data, metadata and notify of the old one."""
    async with open_loop(tmp_path) as loop:
        params = {"prompt": "a cat", "images": [uri("image/png", image())], "payload": "mine", "meta_data": '{"a": 1}'}
        hook = {"handler": "webhook", "url": "https://caller.example/one"}
        loop.upstream.creates.append(Refused("ModelUnavailable", "not here"))
        old = await loop.submitted(params=params, metadata={"chat": 42}, notify=[hook])
        new = await loop.task_service.resubmit(old.id)
        await loop.submit_due()
        first, second = loop.upstream.requests
        assert second.params == first.params
        assert await loop.store.blobs.payload(new.id) == "mine"
        assert second.meta_data == f'{{"a": 1, "boomerang_task": "{new.id}"}}'
        assert (new.metadata, new.notify) == ({"chat": 42}, (hook,))


async def test_only_tasks_without_a_result_are_resubmitted(tmp_path: Path) -> None:
    """A task that runs or is completed is a conflict, an unknown one is not found."""
    async with open_loop(tmp_path) as loop:
        done, running = await _completed(loop), (await loop.submitted()).id
        for task_id in (done, running):
            with pytest.raises(Conflict):
                await loop.task_service.resubmit(task_id)
        with pytest.raises(NotFound):
            await loop.task_service.resubmit(TaskId("nobody"))


async def test_resubmission_without_its_media_is_a_conflict(tmp_path: Path) -> None:
    """Media past the retention period cannot be sent again; the conflict says so, and no task is made."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(Refused("ModelUnavailable", "not here"))
        old = await loop.submitted(params={"prompt": "a cat", "images": [uri("image/png", image())]})
        async with loop.store._database.writing() as write:
            await write.connection.exec_driver_sql("DELETE FROM input_references")
        with pytest.raises(Conflict, match="RETENTION"):
            await loop.task_service.resubmit(old.id)
        assert await loop.submit_due() == 0


async def test_clients_resubmission_replaces_the_automatic_one(tmp_path: Path) -> None:
    """After a client has resubmitted a task in doubt, ON_IN_DOUBT=resubmit does not submit it a third time."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        old = await _doubtful(loop)
        new = await loop.task_service.resubmit(old)
        await loop.run_until(loop.clock.now() + IN_DOUBT_FOR + 5 * MINUTE)
        ended = await loop.task(old)
        assert (ended.status, ended.submission, ended.warnings) == (Status.FAILED, 1, (RESUBMITTED_WARNING,))
        assert (await loop.task(new.id)).warnings == ()
        assert loop.upstream.charges == {old: 1, new.id: 1}


async def test_automatic_resubmission_replaces_the_clients(tmp_path: Path) -> None:
    """A task that was queued again just before a client's resubmission is a conflict, and no new task is made."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        old = await _doubtful(loop)
        load = loop.store.blobs.load

        async def late(task_id: TaskId) -> dict[str, Blob]:
            loop.clock.move(IN_DOUBT_FOR)
            await loop.poll_due()
            return await load(task_id)

        with patch.object(loop.store.blobs, "load", late), pytest.raises(Conflict, match="queued"):
            await loop.task_service.resubmit(old)
        assert [task.id for task in await loop.store.queries.tasks(TaskFilter())] == [old]


async def test_earlier_conclusion_has_no_effect_after_a_resubmission(tmp_path: Path) -> None:
    """A poll that ran during a client's resubmission does not queue the old task again."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        old = await _doubtful(loop)
        loop.clock.move(IN_DOUBT_FOR)
        add, seen = loop.recorder.add, asyncio.Event()

        async def late(_: Recorder, update: TaskUpdate) -> UpdateResult:
            if update.poll and not seen.is_set():
                seen.set()
                await loop.task_service.resubmit(old)
            return await add(update)

        with patch.object(Recorder, "add", late):
            await loop.poll_due()
        assert (await loop.task(old)).status is Status.IN_DOUBT
        loop.clock.move(MINUTE)
        await loop.poll_due()
        assert (await loop.task(old)).status is Status.FAILED


async def test_late_result_of_the_old_task_does_not_change_the_new_one(tmp_path: Path) -> None:
    """A task in doubt that ends after all ends alone."""
    async with open_loop(tmp_path) as loop:
        old = await _doubtful(loop)
        new = await loop.task_service.resubmit(old)
        loop.upstream.set_fact("up1", Fact(status=Status.FAILED))
        await loop.call_back({"id": "up1", "status": "failed"})
        await loop.poll_due()
        assert (await loop.task(old)).status is Status.FAILED
        assert (await loop.task(new.id)).status is Status.QUEUED
