"""Tasks whose reply named another thing than the task: a callback's id and fact still bring the paid result."""

from pathlib import Path

from service.domain.ports.provider import ProviderRequest
from service.domain.task import Fact, Status, Task, TaskId, UpstreamId
from tests.support.scripted_provider import DONE, TOKENS, VIDEO, vtrix_body
from tests.support.task_loop import DEADLINE, MINUTE, Loop, open_loop

RUNNING = Fact(status=Status.IN_PROGRESS)


async def misread(loop: Loop) -> Task:
    """Submit a task that the provider knows as `up1`, and whose reply named a request of it, `req77`."""

    async def name_the_request(_: ProviderRequest, upstream_id: UpstreamId) -> None:
        loop.upstream.facts[upstream_id] = Fact(status=Status.IN_PROGRESS, upstream_id=UpstreamId("req77"))

    loop.upstream.before_reply = name_the_request
    task = await loop.submitted()
    loop.upstream.before_reply = None
    loop.upstream.set_fact("up1", RUNNING)
    assert task.upstream_id == "req77"
    return task


async def test_id_of_a_callback_is_polled_if_that_of_the_reply_is_unknown(tmp_path: Path) -> None:
    """The poll confirms the end, and the task has the id that the provider knows."""
    async with open_loop(tmp_path) as loop:
        task = await misread(loop)
        loop.upstream.set_fact("up1")
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        after = await loop.task(task.id)
        assert (after.status, after.output, after.upstream_id) == (Status.COMPLETED, (VIDEO,), "up1")
        assert loop.upstream.polled == ["req77", "up1"]
        assert loop.upstream.charges == {task.id: 1}


async def test_unfinished_task_gets_the_id_of_its_callback(tmp_path: Path) -> None:
    """From then on it is polled by that id alone."""
    async with open_loop(tmp_path) as loop:
        task = await misread(loop)
        await loop.call_back(vtrix_body("completed"))
        await loop.poll_due()
        assert (await loop.task(task.id)).upstream_id == "up1"
        loop.upstream.set_fact("up1")
        await loop.run_until(loop.clock.now() + 5 * MINUTE)
        assert (await loop.task(task.id)).status is Status.COMPLETED
        assert loop.upstream.polled.count(UpstreamId("req77")) == 1


async def test_id_of_the_reply_is_preferred(tmp_path: Path) -> None:
    """An id in a callback may be that of another service behind the provider: it is not asked for without need."""
    async with open_loop(tmp_path) as loop:
        task = await loop.submitted()
        await loop.call_back(vtrix_body("completed", "of-vidu"))
        await loop.poll_due()
        assert (await loop.task(task.id)).upstream_id == "up1"
        assert loop.upstream.polled == ["up1"]


async def test_result_of_another_task_is_not_taken(tmp_path: Path) -> None:
    """A callback may name a task of somebody else, whose poll returns another payload."""
    async with open_loop(tmp_path) as loop:
        task = await misread(loop)
        loop.upstream.set_fact("up9", DONE)
        loop.upstream.echo_payload("up9", TOKENS.payload_token(TaskId("another"), 1))
        await loop.call_back(vtrix_body("completed", "up9"))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        assert await loop.happened(task.id, "poll") == ["foreign"]


async def test_fact_of_a_callback_is_taken_at_the_deadline(tmp_path: Path) -> None:
    """No poll knows the task, and the body carried our payload token: better unconfirmed than lost."""
    async with open_loop(tmp_path) as loop:
        task = await misread(loop)
        loop.upstream.knows_ids = False
        await loop.call_back(vtrix_body("completed", "of-vidu", payload=loop.upstream.requests[0].payload))
        await loop.poll_due()
        assert (await loop.task(task.id)).status is Status.IN_PROGRESS
        await loop.run_until(loop.clock.now() + DEADLINE + MINUTE, by=5 * MINUTE)
        after = await loop.task(task.id)
        assert (after.status, after.unconfirmed, after.output) == (Status.COMPLETED, True, (VIDEO,))
        assert await loop.happened(task.id) == ["task.submitted", "task.completed"]
