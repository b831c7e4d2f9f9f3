"""The single writer over a real store: batches, errors of single updates, and stored results."""

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from service.domain.artifact import Artifact
from service.domain.errors import NotFound, StoreUnavailable
from service.domain.ports.deliveries import DeliverySelection
from service.domain.task import Fact, Source, Status, TaskId, UpstreamId
from service.domain.task_update import TaskUpdate
from tests.support.history import history_of
from tests.support.scripted_provider import DONE, VIDEO
from tests.support.task_loop import Loop, open_environment, open_loop, task_request

KEPT = Artifact(
    url="https://files.example/video.mp4",
    archived_url="file:///srv/video.mp4",
    media_type="video/mp4",
    bytes=3,
    sha256="ab",
)


STORED = {"archived_url": "file:///srv/video.mp4", "media_type": "video/mp4", "bytes": 3, "sha256": "ab"}


def _progress(task_id: str, progress: float = 0.5) -> TaskUpdate:
    fact = Fact(status=Status.IN_PROGRESS, upstream_id=UpstreamId(f"of-{task_id}"), progress=progress)
    return TaskUpdate(task_id=TaskId(task_id), fact=fact, source=Source.POLL, poll="in_progress")


async def _tasks(loop: Loop, count: int) -> list[str]:
    return [(await loop.accept()).id for _ in range(count)]


async def test_concurrent_updates_share_commits(tmp_path: Path) -> None:
    """A hundred updates at once take two transactions: one for the first, and one for all that came meanwhile."""
    async with open_loop(tmp_path) as loop:
        ids = await _tasks(loop, 20)
        before = loop.units_of_work.transactions
        await asyncio.gather(*(loop.recorder.add(_progress(task_id, n / 10)) for n in range(5) for task_id in ids))
        assert loop.units_of_work.transactions - before <= 2
        assert [(await loop.task(task_id)).progress for task_id in ids] == [0.4] * 20


async def test_one_invalid_update_does_not_fail_the_others(tmp_path: Path) -> None:
    """If the database refuses one row of a batch, only its caller gets the error."""
    async with open_loop(tmp_path) as loop:
        ids = await _tasks(loop, 9)
        async with loop.store._database.writing() as write:
            await write.connection.exec_driver_sql(
                "CREATE TRIGGER poison BEFORE INSERT ON events WHEN NEW.task_id = "
                f"'{ids[4]}' BEGIN SELECT RAISE(ABORT, 'poisoned'); END"
            )
        adding = (loop.recorder.add(_progress(task_id)) for task_id in ids)
        outcomes = await asyncio.gather(*adding, return_exceptions=True)
        assert [isinstance(outcome, Exception) for outcome in outcomes] == [n == 4 for n in range(9)]
        assert not isinstance(outcomes[4], StoreUnavailable)
        statuses = [(await loop.task(task_id)).status for task_id in ids]
        assert [status is Status.IN_PROGRESS for status in statuses] == [n != 4 for n in range(9)]
        assert [await loop.happened(task_id) for task_id in ids if task_id != ids[4]] == [["task.submitted"]] * 8


async def test_unavailable_store_is_reported_to_every_caller(tmp_path: Path) -> None:
    """While the database is unavailable every caller gets StoreUnavailable, after one attempt for all of them."""
    async with open_loop(tmp_path) as loop:
        ids = await _tasks(loop, 8)
        (tmp_path / "loop.db").rename(tmp_path / "away.db")
        before = loop.units_of_work.transactions
        adding = (loop.recorder.add(_progress(task_id)) for task_id in ids)
        outcomes = await asyncio.gather(*adding, return_exceptions=True)
        (tmp_path / "away.db").rename(tmp_path / "loop.db")
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        assert loop.units_of_work.transactions - before <= 2
        assert (await loop.task(ids[0])).status is Status.QUEUED


async def test_each_event_has_one_delivery_for_each_subscriber(tmp_path: Path) -> None:
    """One delivery for each event and handler, and one for a notify entry, with a lane of its own."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(DONE)
        hook = {"handler": "webhook", "url": "https://caller.example/hook", "events": ["task.completed"]}
        task = await loop.submitted(notify=[hook])
        rows = (await loop.store.queries.deliveries(DeliverySelection(limit=50))).deliveries
        assert sorted((row.event_type, row.handler) for row in rows) == [
            ("task.completed", "log"),
            ("task.completed", "webhook"),
            ("task.submitted", "log"),
        ]
        assert {row.task_id for row in rows} == {task.id}


async def test_delivery_is_made_for_a_handler_of_another_process(tmp_path: Path) -> None:
    """The notify entries of a task apply in every process; the delivery waits for its handler."""
    async with open_environment(tmp_path) as environment:
        hook = {"handler": "webhook", "url": "https://caller.example/hook", "events": ["task.submitted"]}
        task = await environment.process().accept(notify=[hook])
        environment.options = replace(environment.options, handlers=())
        bare = environment.process()
        await bare.submit_due()
        rows = (await bare.store.queries.deliveries(DeliverySelection(status="pending", limit=9))).deliveries
        assert [(row.task_id, row.handler, row.event_type) for row in rows] == [(task.id, "webhook", "task.submitted")]


async def test_update_of_an_unknown_task_does_nothing(tmp_path: Path) -> None:
    """There is no task, no event and no error."""
    async with open_loop(tmp_path) as loop:
        recorded = await loop.recorder.add(_progress("nobody"))
        assert (recorded.task, recorded.events) == (None, ())


async def test_updates_of_one_batch_apply_in_order(tmp_path: Path) -> None:
    """Of two terminal statuses in one commit the first one stands."""
    async with open_loop(tmp_path) as loop:
        (task_id,) = await _tasks(loop, 1)
        ends = [DONE, Fact(status=Status.FAILED)]
        entries = [TaskUpdate(task_id=TaskId(task_id), fact=fact, source=Source.CALLBACK) for fact in ends]
        await asyncio.gather(*(loop.recorder.add(entry) for entry in entries))
        assert (await loop.task(task_id)).status is Status.COMPLETED
        assert await loop.happened(task_id) == ["task.completed"]


async def test_commit_notifies_topics(tmp_path: Path) -> None:
    """After the commit the task's own topic, `events` and `dispatch` are notified."""
    async with open_loop(tmp_path) as loop:
        (task_id,) = await _tasks(loop, 1)
        await loop.recorder.add(_progress(task_id))
        for topic in (f"task:{task_id}", "events", "dispatch"):
            assert await loop.store.signals.wait(topic, 0)


# ── results ──────────────────────────────────────────────────────────────────


async def test_stored_artifact_makes_one_event(tmp_path: Path) -> None:
    """The artifact is matched by its original address; a second time changes nothing."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(DONE)
        task = await loop.submitted()
        for _ in range(2):
            await loop.results.keep(task.id, KEPT)
        after = await loop.task(task.id)
        assert after.output == (VIDEO | STORED,)
        assert (after.status, after.settled_at, after.due_at) == (Status.COMPLETED, task.settled_at, None)
        assert (await loop.happened(task.id)).count("artifact.stored") == 1


async def test_result_of_an_older_release_gets_its_details(tmp_path: Path) -> None:
    """A file that was recorded with its address alone gets type, size and digest, without another event."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(replace(DONE, output=(VIDEO | {"archived_url": KEPT.archived_url},)))
        task = await loop.submitted()
        await loop.results.keep(task.id, KEPT)
        assert (await loop.task(task.id)).output == (VIDEO | STORED,)
        assert "artifact.stored" not in await loop.happened(task.id)


async def test_position_separates_equal_addresses(tmp_path: Path) -> None:
    """Of two results with one address the named one is recorded; a wrong position is ignored."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(replace(DONE, output=(VIDEO, VIDEO)))
        task = await loop.submitted()
        await loop.results.keep(task.id, replace(KEPT, output=1))
        assert (await loop.task(task.id)).output == (VIDEO, VIDEO | STORED)
        await loop.results.keep(task.id, replace(KEPT, output=7))
        assert (await loop.task(task.id)).output == (VIDEO | STORED, VIDEO | STORED)


async def test_previous_release_reads_the_event_of_a_stored_result(tmp_path: Path) -> None:
    """The stored event has no field that a process of the previous release refuses."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(DONE)
        task = await loop.submitted()
        await loop.results.keep(task.id, replace(KEPT, output=0))
        entries = await history_of(loop.store.queries, task.id)
        [data] = [each["data"] for each in entries if each.get("type") == "artifact.stored"]
        assert data["artifact"] == STORED | {"url": KEPT.url}


async def test_artifact_of_another_address_changes_nothing(tmp_path: Path) -> None:
    """An address that is not in the task's output is not written into it."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.results.keep(task.id, KEPT)
        assert await loop.task(task.id) == task


async def test_refetch_returns_fresh_addresses_and_submits_nothing(tmp_path: Path) -> None:
    """The provider is polled again; the stored output is unchanged, and nothing is charged."""
    async with open_loop(tmp_path) as loop:
        loop.upstream.creates.append(DONE)
        task = await loop.submitted()
        fresh = VIDEO | {"url": "https://files.example/video.mp4?fresh"}
        loop.upstream.set_fact("up1", Fact(status=Status.COMPLETED, output=(fresh,)))
        assert await loop.results.refetch(task.id) == [fresh]
        assert (await loop.task(task.id)).output == (VIDEO,)
        assert loop.upstream.charges == {task.id: 1}


async def test_refetch_needs_an_id(tmp_path: Path) -> None:
    """Without the provider's id there is nothing to poll."""
    async with open_loop(tmp_path) as loop:
        task, _ = await loop.task_service.accept(task_request())
        for task_id in (task.id, "nobody"):
            with pytest.raises(NotFound):
                await loop.results.refetch(task_id)
