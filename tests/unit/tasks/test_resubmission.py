"""Resubmission with changes, and erasure with files, over a real store."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from service.artifacts.contents import Contents
from service.artifacts.local_archive import LocalArchive
from service.deliveries.task_results import TaskResults
from service.domain.archive_address import FolderAddress
from service.domain.artifact import Artifact
from service.domain.errors import (
    ArchiveUnavailable,
    Conflict,
    Fault,
    InvalidParams,
    KeyReused,
    NotFound,
    Refused,
    Reject,
)
from service.domain.ports.tasks import IdempotencyKey
from service.domain.task import Json, Status, Task, TaskId
from service.domain.task_update import TaskUpdate
from service.storage.erasure import SqlTaskEraser
from service.tasks.erasure import TaskErasure
from service.tasks.new_task import NewTask, OtherChanges, ValidatedTask
from service.tasks.task_service import TaskService
from tests.support.sample_media import image, uri, with_data_uris
from tests.support.scripted_provider import DONE
from tests.support.task_loop import GOOD, IN_DOUBT_FOR, MINUTE, Loop, open_loop

INLINE: Json = {
    "prompt": "a cat",
    "images": [uri("image/png", image()), "https://files.example/dog.png"],
    "seed": 7,
    "payload": "mine",
    "meta_data": '{"a": 1}',
}


async def completed(loop: Loop, **more: Any) -> Task:
    """Return a completed task."""
    loop.upstream.creates.append(DONE)
    found = await loop.task((await loop.submitted(**more)).id)
    assert found.status is Status.COMPLETED
    return found


async def changed(loop: Loop, old: Task, changes: Json, key: IdempotencyKey | None = None) -> Task:
    """Return the task that a resubmission with changes makes."""
    task, _ = await loop.task_service.resubmit_changed(old.id, changes, admin=False, idempotency=key)
    return task


async def test_any_ended_task_is_submitted_again_with_changes(tmp_path: Path) -> None:
    """What is not changed is as before, media and payload too; null removes a parameter; the tasks are linked."""
    async with open_loop(tmp_path) as loop:
        old = await completed(loop, params=INLINE, metadata={"chat": 42})
        new = await changed(loop, old, {"seed": None, "duration": 7, "payload": "other"})
        assert (new.resubmission_of, new.status, new.metadata) == (old.id, Status.QUEUED, {"chat": 42})
        assert new.params == {**{name: value for name, value in old.params.items() if name != "seed"}, "duration": 7}
        assert new.bucket != old.bucket
        assert await loop.store.blobs.payload(new.id) == "other"
        await loop.submit_due()
        first, second = loop.upstream.requests
        assert second.params == {**{n: v for n, v in first.params.items() if n != "seed"}, "duration": 7}
        assert second.meta_data == f'{{"a": 1, "boomerang_task": "{new.id}"}}'


async def test_media_within_subjects_are_sent_again(tmp_path: Path) -> None:
    """They are restored wherever they are in the parameters; one that is gone is named with its place."""
    subjects = [{"id": "cat", "images": [uri("image/png", image()), "https://files.example/dog.png"]}]
    async with open_loop(tmp_path) as loop:
        old = await completed(
            loop, model="viduq2_reference2video", params={"prompt": "@cat surfs", "subjects": subjects}
        )
        new = await changed(loop, old, {"prompt": "@cat sleeps"})
        assert new.params == {**old.params, "prompt": "@cat sleeps"}
        await loop.submit_due()
        sent = with_data_uris(loop.upstream.requests[1].params)
        assert sent == {"prompt": "@cat sleeps", "subjects": subjects}
        async with loop.store._database.writing() as write:
            await write.connection.exec_driver_sql("DELETE FROM input_references")
        with pytest.raises(Conflict, match=r"subjects\.0\.images\.0 is older than RETENTION and gone; give subjects"):
            await changed(loop, old, {"prompt": "@cat wakes"})


async def test_task_in_doubt_that_is_changed_is_not_resubmitted_as_well(tmp_path: Path) -> None:
    """With ON_IN_DOUBT=resubmit the same video would be charged a third time."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        old = await loop.in_doubt()
        new = await changed(loop, old, {"duration": 7})
        await loop.run_until(loop.clock.now() + 2 * IN_DOUBT_FOR, by=MINUTE)
        assert loop.upstream.charges == {old.id: 1, new.id: 1}


async def test_metadata_is_replaced_and_entries_are_added(tmp_path: Path) -> None:
    """Faults of both are named; the entries of the old task stay."""
    entry, other = ({"handler": "webhook", "url": f"https://hooks.example/{name}"} for name in "ab")
    async with open_loop(tmp_path) as loop:
        old = await completed(loop, metadata={"chat": 42}, notify=[entry])
        resubmit = partial(loop.task_service.resubmit_changed, old.id, {}, admin=False, idempotency=None)
        new, created = await resubmit(others=OtherChanges(metadata={}, notify=[other]))
        assert (created, new.metadata, new.notify) == (True, {}, (entry, other))
        known = Fault(loc=("metadata",), msg="is no JSON")
        with pytest.raises(InvalidParams) as raised:
            await resubmit(others=OtherChanges(notify=1, faults=(known,)))
        assert [fault.loc for fault in raised.value.faults] == [("metadata",), ("notify",)]


async def test_task_that_is_submitted_automatically_meanwhile_is_not_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The doubt ended while the changes were validated: the new task would be a second charge."""
    async with open_loop(tmp_path, resubmit_in_doubt=True) as loop:
        old = await loop.in_doubt()
        validate = loop.task_service._validate

        async def slow(new: NewTask) -> ValidatedTask:
            await loop.run_until(loop.clock.now() + 2 * IN_DOUBT_FOR, by=MINUTE)
            return await validate(new)

        monkeypatch.setattr(TaskService, "_validate", lambda _, new: slow(new))
        with pytest.raises(Conflict, match="settled"):
            await changed(loop, old, {"duration": 7})


async def test_each_call_makes_a_task_unless_its_key_is_known(tmp_path: Path) -> None:
    """With a key a repeated call finds the first task, and another request with it is refused."""
    async with open_loop(tmp_path) as loop:
        old = await completed(loop)
        one, two = await changed(loop, old, {"duration": 7}), await changed(loop, old, {"duration": 7})
        assert one.id != two.id
        key = IdempotencyKey(key="once", digest="d")
        assert (await changed(loop, old, {}, key)).id == (await changed(loop, old, {}, key)).id
        with pytest.raises(KeyReused):
            await changed(loop, old, {}, IdempotencyKey(key="once", digest="e"))


async def test_changes_are_validated_with_the_rest(tmp_path: Path) -> None:
    """Every fault is named, as for a new task, and no task is made."""
    async with open_loop(tmp_path) as loop:
        old = await completed(loop)
        with pytest.raises(InvalidParams) as raised:
            await changed(loop, old, {"duration": 99, "colour": "red"})
        assert {fault.loc for fault in raised.value.faults} == {("params", "duration"), ("params", "colour")}
        assert await loop.submit_due() == 0


async def test_unfinished_task_is_not_changed(tmp_path: Path) -> None:
    """A queued task and one at the provider are conflicts, an unknown one is not found."""
    async with open_loop(tmp_path) as loop:
        for task in (await loop.accept(), await loop.submitted()):
            with pytest.raises(Conflict, match="settled"):
                await changed(loop, task, {"duration": 7})
        with pytest.raises(NotFound):
            await loop.task_service.resubmit_changed(TaskId("nobody"), {}, admin=True, idempotency=None)


async def test_media_that_are_gone_have_to_be_given_again(tmp_path: Path) -> None:
    """Past the retention the conflict names them; with new ones the task is made."""
    async with open_loop(tmp_path) as loop:
        old = await completed(loop, params=INLINE)
        async with loop.store._database.writing() as write:
            await write.connection.exec_driver_sql("DELETE FROM input_references")
        with pytest.raises(Conflict, match=r"images\.0"):
            await changed(loop, old, {"duration": 7})
        new = await changed(loop, old, {"images": GOOD["images"]})
        assert new.params["images"] == GOOD["images"]


def erasure(loop: Loop, folder: Path) -> TaskErasure:
    """Return the use case over an archive in `folder`."""
    contents = Contents(archive=LocalArchive(FolderAddress(folder=folder)))
    return TaskErasure(queries=loop.store.queries, eraser=loop.store.eraser, files=contents, clock=loop.clock)


def an_artifact(task: Task, file: Path) -> Artifact:
    """Return the first result of a task, stored in `file`."""
    url = str(task.output[0]["url"])
    return Artifact(url=url, archived_url=file.as_uri(), sha256="0" * 64, bytes=5, media_type="video/mp4")


async def archived(loop: Loop, folder: Path) -> Task:
    """Return a completed task whose result is stored in `folder`, with a thumbnail."""
    task = await completed(loop, params=INLINE)
    file = folder / f"{task.id}.mp4"
    for path in (file, folder / f"{task.id}.poster.jpg"):
        path.write_bytes(b"video")
    result = await loop.recorder.add(TaskUpdate.stored_artifact(task.id, an_artifact(task, file)))
    assert result.task
    return result.task


async def test_file_that_is_stored_again_meanwhile_is_erased_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replayed attempt of the archive may begin and end between the deletion of the files and that of the rest."""
    folder = tmp_path / "archive"
    folder.mkdir()
    async with open_loop(tmp_path) as loop:
        task = await archived(loop, folder)
        erase = SqlTaskEraser.erase

        async def store_again(eraser: SqlTaskEraser, erased: Task, *, now: datetime) -> Task:
            (folder / f"{task.id}.mp4").write_bytes(b"video")
            return await erase(eraser, erased, now=now)

        monkeypatch.setattr(SqlTaskEraser, "erase", store_again)
        await erasure(loop, folder).erase(task.id)
        assert list(folder.iterdir()) == []


async def test_stored_files_are_erased_too(tmp_path: Path) -> None:
    """The file and its thumbnail are gone; the task cannot be submitted again, with or without changes."""
    folder = tmp_path / "archive"
    folder.mkdir()
    async with open_loop(tmp_path) as loop:
        task = await archived(loop, folder)
        left = await erasure(loop, folder).erase(task.id)
        assert list(folder.iterdir()) == []
        assert (left.output, left.erased_at) == ((), loop.clock.now())
        assert await erasure(loop, folder).erase(task.id) == left
        with pytest.raises(Conflict, match="erased"):
            await changed(loop, task, {"duration": 7})
        with pytest.raises(NotFound):
            await erasure(loop, folder).erase(TaskId("nobody"))


async def test_file_that_is_stored_after_the_erasure_is_deleted(tmp_path: Path) -> None:
    """The lease of the handler that stores it has expired meanwhile; no task would name the file."""
    async with open_loop(tmp_path) as loop:
        task = await completed(loop, params=INLINE)
        (folder := tmp_path / "archive").mkdir()
        use_case = erasure(loop, folder)
        await use_case.erase(task.id)
        results = TaskResults(
            queries=loop.store.queries, upstream=loop.upstream, recorder=loop.recorder, files=use_case.files
        )
        late = folder / f"{task.id}.mp4"
        late.write_bytes(b"video")
        with pytest.raises(Reject, match="erased"):
            await results.keep(task.id, an_artifact(task, late))
        assert list(folder.iterdir()) == []


async def test_erased_failure_is_not_submitted_again(tmp_path: Path) -> None:
    """What it asked for is gone, and a later fact does not change it."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(Refused("ModelUnavailable", "not here"))
        old = await loop.submitted()
        await erasure(loop, tmp_path).erase(old.id)
        with pytest.raises(Conflict, match="erased"):
            await loop.task_service.resubmit(old.id)


async def test_archive_that_does_not_answer_leaves_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its files the task is not erased: they would be left with no name."""
    folder = tmp_path / "archive"
    folder.mkdir()
    async with open_loop(tmp_path) as loop:
        task = await archived(loop, folder)

        async def refuse(*_: object) -> None:
            raise ArchiveUnavailable("away")

        monkeypatch.setattr(LocalArchive, "delete", refuse)
        with pytest.raises(ArchiveUnavailable):
            await erasure(loop, folder).erase(task.id)
        assert (await loop.task(task.id)).params["prompt"] == "a cat"
