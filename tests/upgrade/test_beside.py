"""Today's release starts over the database of an earlier one, which goes on working beside it."""

from collections import Counter
from pathlib import Path

import anyio

from tests.acceptance.environment import Service
from tests.acceptance.processes import Json, Workspace
from tests.upgrade.environment import LONG, Stage, staged
from tests.upgrade.releases import Release

EVERY_STATUS = {
    "queued", "submitting", "in_progress", "in_doubt", "expired", "completed", "failed", "canceled",
}  # fmt: skip
EACH = 15
"""Tasks submitted through each release while both run."""


async def in_every_status(stage: Stage) -> Service:
    """Let the release before write tasks in every status, deliveries in every status, and callbacks; it runs on."""
    old = await stage.old(TASK_DEADLINE="2s")
    await stage.sandbox.set_switches(run_time=LONG)
    await stage.submit(old, "expired")
    await stage.stop(old)
    old = await stage.old()
    await stage.sandbox.set_switches(run_time="200ms")
    await stage.submit(old, "completed")
    stage.receiver.ill = {"task.failed": 410}
    await stage.sandbox.set_switches(fail_tasks=1.0)
    await stage.submit(old, "failed")
    await stage.sandbox.set_switches(fail_tasks=0.0, run_time=LONG)
    stage.receiver.ill |= {"*": 503}
    await under_way(stage, old)
    return old


async def under_way(stage: Stage, old: Service) -> None:
    """Leave tasks at the upstream, on their way there, lost on their way back, waiting and given up."""
    await stage.submit(old, "in_progress")
    await stage.sandbox.set_switches(lose_create_reply=1.0)
    await stage.submit(old, "in_doubt")
    await stage.sandbox.set_switches(lose_create_reply=0.0, slow_create=1.0, create_delay=LONG)
    await stage.submit(old, "submitting")
    await stage.sandbox.set_switches(slow_create=0.0, throttle_create=1.0, retry_after=1.0, run_time="200ms")
    await stage.submit(old, "queued")
    await stage.cancel(old, (await stage.submit(old, "queued"))["id"])


async def deliveries(at: Service) -> Counter[str]:
    """Count the deliveries by each status that some have."""
    found = {name: count for name, count in (await at.metrics()).items() if name.startswith("boomerang_deliveries{")}
    return Counter({name.split('"')[1]: int(count) for name, count in found.items() if count})


async def statuses(at: Service) -> dict[str, str]:
    """Return the status of each task."""
    return {task["id"]: task["status"] for task in await at.tasks()}


async def both_work(stage: Stage, old: Service, new: Service) -> None:
    """Submit through both, each asked about what the other took in."""
    made: dict[str, list[Json]] = {"old": [], "new": []}

    async def some(name: str, at: Service) -> None:
        for _ in range(EACH):
            made[name].append(await stage.submit(at))

    async with anyio.create_task_group() as group:
        group.start_soon(some, "old", old)
        group.start_soon(some, "new", new)
    for name, other in (("old", new), ("new", old)):
        for task in made[name]:
            assert (await other.wait_until_settled(task["id"]))["status"] in {"completed", "failed"}


def did(at: Service, what: str) -> int:
    """Return how often a process says in its log that it did something."""
    return at.child.output().count(f'"event": "{what}"')


async def test_releases_work_side_by_side(
    workspace: Workspace, release: Release, tree: Path, database_url: str
) -> None:
    """One bill and one end a task, every delivery made, nothing lost, whoever of the two does which step."""
    async with staged(workspace, tree, database_url) as stage:
        old = await in_every_status(stage)
        assert stage.seen == EVERY_STATUS
        assert set(await deliveries(old)) == {"pending", "dead", "delivered"}
        new = await stage.new()
        assert (await statuses(new)).keys() == (await statuses(old)).keys()
        assert (await old.http.get("/readyz")).is_success == release.ready_beside_newer
        stage.receiver.ill = {}
        assert await stage.replay_the_dead(new) > 0
        await stage.sandbox.set_switches(throttle_create=0.0, double_callbacks=0.2, lose_callbacks=0.1)
        await both_work(stage, old, new)
        for at in (old, new):
            assert min(did(at, "submission"), did(at, "delivery")) > 0, f"{at.child.name} did nothing"
            assert set(stage.balancer.answers[at.child.url]) == {204}
        assert await stage.faults(new) == []
        assert "task.failed" in {hook.body["type"] for hook in stage.receiver.hooks}
        await stage.stop(old)
        for _ in range(3):
            await stage.submit(new, "completed")
        assert await stage.faults(new) == []
