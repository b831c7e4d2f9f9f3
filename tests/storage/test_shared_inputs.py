"""Equal inputs are stored once, for as long as a task refers to them."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import delete, func, insert, select, update

from service.domain.blob import Blob
from service.domain.task import Status, TaskId
from service.storage import Store
from service.storage.blob_store import delete_unreferenced, insert_blobs
from service.storage.process_tables import rollouts
from service.storage.tables import input_data, input_references, inputs
from tests.storage.builders import HOUR, NOW, a_blob, a_task
from tests.storage.conftest import OpenStore

BRIEFLY = 0.3
"""Seconds after which a transaction counts as waiting for another one."""

PICTURE = a_blob(data=b"pixels" * 1000)
LATER = NOW + timedelta(days=40)


async def sizes(store: Store) -> dict[str, int]:
    """Return how many rows hold data of their own, refer to shared data, and are shared data."""
    async with store._database.reading() as connection:
        tables = {"own": inputs, "references": input_references, "data": input_data}
        counts = {name: select(func.count()).select_from(table) for name, table in tables.items()}
        return {name: (await connection.execute(count)).scalar_one() for name, count in counts.items()}


async def add(store: Store, task_id: str, blobs: Sequence[Blob], **changes: object) -> None:
    """Store a task with these blobs."""
    await store.intake.add(a_task(task_id, **changes), blobs, None)


async def settle(store: Store, *task_ids: str) -> None:
    """Settle tasks now."""
    async with store.units_of_work.transaction() as transaction:
        found = await transaction.lock({TaskId(task_id) for task_id in task_ids})
        await transaction.save([replace(task, status=Status.COMPLETED, settled_at=NOW) for task in found.values()])


async def test_equal_pictures_are_stored_once(store: Store) -> None:
    """Tasks of any client with the same picture share its data, at any place, and each loads it whole."""
    second = replace(PICTURE, place="images.1", media_type="image/jpeg")
    await add(store, "t1", [PICTURE, second])
    await add(store, "t2", [PICTURE], client="berta")
    assert await sizes(store) == {"own": 0, "references": 3, "data": 1}
    assert await store.blobs.load(TaskId("t1")) == {"images.0": PICTURE, "images.1": second}
    assert await store.blobs.load(TaskId("t2")) == {"images.0": PICTURE}


async def test_texts_stay_with_their_task(store: Store) -> None:
    """The payload and the metadata of a task are not shared: deliveries read the payload of one task."""
    payload, note = replace(PICTURE, place="payload"), replace(PICTURE, place="meta_data")
    for task_id in ("t1", "t2"):
        await add(store, task_id, [PICTURE, payload, note])
    assert await sizes(store) == {"own": 4, "references": 2, "data": 1}
    assert await store.blobs.payload(TaskId("t2")) == PICTURE.data.decode()
    assert set(await store.blobs.load(TaskId("t2"))) == {"images.0", "payload", "meta_data"}
    assert await store.blobs.stored_at(TaskId("t2")) == {"images.0", "payload", "meta_data"}
    assert await store.blobs.stored_at(TaskId("t3")) == set()


async def test_equal_pictures_of_one_commit(store: Store) -> None:
    """Tasks that arrive together share as well."""
    await asyncio.gather(*(add(store, f"t{number}", [PICTURE]) for number in range(20)))
    assert await sizes(store) == {"own": 0, "references": 20, "data": 1}


async def test_equal_pictures_of_two_processes(store: Store, open_another: OpenStore) -> None:
    """Processes that store the same pictures at the same time, in any order, wait for each other and share them."""
    other = open_another()
    pictures = [a_blob(f"images.{number}", f"picture {number}".encode() * 200_000) for number in range(4)]
    adding = [
        add(each, f"{name}{number}", pictures[:: 1 if number % 2 else -1])
        for number in range(4)
        for name, each in (("a", store), ("b", other))
    ]
    await asyncio.gather(*adding)
    assert await sizes(store) == {"own": 0, "references": 32, "data": 4}
    assert len(await store.blobs.load(TaskId("b3"))) == 4


async def test_data_are_deleted_with_the_last_reference(store: Store) -> None:
    """Retention deletes the references of old tasks, and the data when no task refers to them."""
    other = a_blob("images.1", b"another")
    await add(store, "t1", [PICTURE, other])
    await add(store, "t2", [PICTURE])
    await settle(store, "t1")
    assert await store.retention.prune(before=LATER) == 3
    assert await sizes(store) == {"own": 0, "references": 1, "data": 1}
    assert await store.blobs.load(TaskId("t1")) == {}
    assert await store.blobs.load(TaskId("t2")) == {"images.0": PICTURE}
    await settle(store, "t2")
    assert await store.retention.prune(before=LATER) == 2
    assert await sizes(store) == {"own": 0, "references": 0, "data": 0}


async def test_many_references_are_deleted_in_short_transactions(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last transaction deletes the data."""
    monkeypatch.setattr("service.storage.retention.ROWS_PER_DELETE", 2)
    for number in range(5):
        await add(store, f"t{number}", [PICTURE])
    await settle(store, *[f"t{number}" for number in range(5)])
    assert await store.retention.prune(before=LATER) == 6
    assert await sizes(store) == {"own": 0, "references": 0, "data": 0}


async def test_picture_that_is_used_again_during_its_deletion_stays(store: Store, open_another: OpenStore) -> None:
    """An intake that has found the data, and is not committed yet, keeps a concurrent retention from deleting them."""
    other = open_another()
    await add(store, "t1", [PICTURE])
    await settle(store, "t1")
    async with store._database.writing() as write:
        await insert_blobs(write.connection, [(TaskId("t2"), PICTURE)], share=True)
        pruning = asyncio.create_task(other.retention.prune(before=LATER))
        await asyncio.wait([pruning], timeout=BRIEFLY)
    await pruning
    assert await store.blobs.load(TaskId("t2")) == {"images.0": PICTURE}


async def test_picture_that_is_just_deleted_is_stored_again(store: Store, open_another: OpenStore) -> None:
    """An intake that arrives during the deletion of its data waits for it, and stores them anew."""
    other = open_another()
    await add(store, "t1", [PICTURE])
    async with other._database.writing() as write:
        await write.connection.execute(delete(input_references))
        assert await delete_unreferenced(write.connection, [PICTURE.sha256]) == 1
        adding = asyncio.create_task(add(store, "t2", [PICTURE]))
        await asyncio.wait([adding], timeout=BRIEFLY)
    await adding
    assert await store.blobs.load(TaskId("t2")) == {"images.0": PICTURE}


async def test_two_prunes_delete_the_data(store: Store, open_another: OpenStore) -> None:
    """Of two concurrent deletions of the last references the later one deletes the data."""
    other = open_another()
    for task_id in ("t1", "t2"):
        await add(store, task_id, [PICTURE])
    await settle(store, "t2")
    async with store._database.writing() as write:
        await write.connection.execute(delete(input_references).where(input_references.c.task_id == "t1"))
        pruning = asyncio.create_task(other.retention.prune(before=LATER))
        await asyncio.wait([pruning], timeout=BRIEFLY)
        await delete_unreferenced(write.connection, [PICTURE.sha256])
    await pruning
    assert await sizes(store) == {"own": 0, "references": 0, "data": 0}


async def begin_sharing_at(store: Store, **values: object) -> None:
    """Change when sharing begins; without values never."""
    async with store._database.writing() as write:
        await write.connection.execute(update(rollouts).values(**values) if values else delete(rollouts))


async def test_before_the_rollout_every_task_has_its_own_data(store: Store, open_another: OpenStore) -> None:
    """Processes of the previous release read these rows; from the stored time on, data are shared."""
    await begin_sharing_at(store, begins_at=NOW + HOUR)
    for task_id in ("t1", "t2"):
        await add(store, task_id, [PICTURE], created_at=NOW + HOUR - timedelta(microseconds=1))
    assert await sizes(store) == {"own": 2, "references": 0, "data": 0}
    await add(store, "t3", [PICTURE], created_at=NOW + HOUR)
    await add(open_another(), "t4", [PICTURE], created_at=NOW + HOUR)
    assert await sizes(store) == {"own": 2, "references": 2, "data": 1}
    for task_id in ("t1", "t3"):
        assert await store.blobs.load(TaskId(task_id)) == {"images.0": PICTURE}


async def test_without_a_stored_time_nothing_is_shared(store: Store) -> None:
    """A database whose time of the rollout is lost works as in the previous release."""
    await begin_sharing_at(store)
    await add(store, "t1", [PICTURE])
    assert await sizes(store) == {"own": 1, "references": 0, "data": 0}


async def test_reference_without_data_is_no_empty_picture(store: Store) -> None:
    """A reference whose data are gone is a missing blob, for which a task fails before it is sent."""
    async with store._database.writing() as write:
        row = {"task_id": "t1", "place": "images.0", "media_type": "image/png", "sha256": "ab", "bytes": 3}
        await write.connection.execute(insert(input_references), row)
    assert await store.blobs.load(TaskId("t1")) == {}
