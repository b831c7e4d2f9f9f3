"""The current release starts on the database of an earlier one, which continues to run."""

from collections import Counter
from pathlib import Path

import anyio

from tests.acceptance.environment import Service
from tests.acceptance.processes import Json, Workspace
from tests.upgrade.environment import LONG_RUN_TIME, UpgradeEnvironment, upgrade_environment
from tests.upgrade.releases import Release

EVERY_STATUS = {
    "queued", "submitting", "in_progress", "in_doubt", "expired", "completed", "failed", "canceled",
}  # fmt: skip
TASKS_PER_RELEASE = 15
"""Tasks submitted through each release while both run."""


async def in_every_status(environment: UpgradeEnvironment) -> Service:
    """Let the earlier release write tasks and deliveries in every status, and callbacks; it continues to run."""
    old = await environment.old(TASK_DEADLINE="2s")
    await environment.sandbox.set_switches(run_time=LONG_RUN_TIME)
    await environment.submit(old, "expired")
    await environment.stop(old)
    old = await environment.old()
    await environment.sandbox.set_switches(run_time="200ms")
    await environment.submit(old, "completed")
    environment.receiver.refusals = {"task.failed": 410}
    await environment.sandbox.set_switches(fail_tasks=1.0)
    await environment.submit(old, "failed")
    await environment.sandbox.set_switches(fail_tasks=0.0, run_time=LONG_RUN_TIME)
    environment.receiver.refusals |= {"*": 503}
    await add_unfinished_tasks(environment, old)
    return old


async def add_unfinished_tasks(environment: UpgradeEnvironment, old: Service) -> None:
    """Add tasks in progress, in doubt, submitting, queued and canceled."""
    await environment.submit(old, "in_progress")
    await environment.sandbox.set_switches(lose_create_reply=1.0)
    await environment.submit(old, "in_doubt")
    await environment.sandbox.set_switches(lose_create_reply=0.0, slow_create=1.0, create_delay=LONG_RUN_TIME)
    await environment.submit(old, "submitting")
    await environment.sandbox.set_switches(slow_create=0.0, throttle_create=1.0, retry_after=1.0, run_time="200ms")
    await environment.submit(old, "queued")
    await environment.cancel(old, (await environment.submit(old, "queued"))["id"])


async def deliveries(at: Service) -> Counter[str]:
    """Return the number of deliveries of each status."""
    found = {name: count for name, count in (await at.metrics()).items() if name.startswith("boomerang_deliveries{")}
    return Counter({name.split('"')[1]: int(count) for name, count in found.items() if count})


async def statuses(at: Service) -> dict[str, str]:
    """Return the status of each task."""
    return {task["id"]: task["status"] for task in await at.tasks()}


async def submit_through_both(environment: UpgradeEnvironment, old: Service, new: Service) -> None:
    """Submit through both releases, and read each task through the other one."""
    made: dict[str, list[Json]] = {"old": [], "new": []}

    async def some(name: str, at: Service) -> None:
        for _ in range(TASKS_PER_RELEASE):
            made[name].append(await environment.submit(at))

    async with anyio.create_task_group() as group:
        group.start_soon(some, "old", old)
        group.start_soon(some, "new", new)
    for name, other in (("old", new), ("new", old)):
        for task in made[name]:
            assert (await other.wait_until_settled(task["id"]))["status"] in {"completed", "failed"}


def count_logged(at: Service, what: str) -> int:
    """Return how often a process logs the event `what`."""
    return at.child.output().count(f'"event": "{what}"')


async def test_releases_run_in_parallel(
    workspace: Workspace, release: Release, tree: Path, shared_database_url: str
) -> None:
    """Each task has one bill and one end, and each event is delivered, whichever release does a step."""
    async with upgrade_environment(workspace, release, tree, shared_database_url) as environment:
        old = await in_every_status(environment)
        assert environment.seen == EVERY_STATUS
        assert set(await deliveries(old)) == {"pending", "dead", "delivered"}
        new = await environment.new()
        assert (await statuses(new)).keys() == (await statuses(old)).keys()
        assert (await old.http.get("/readyz")).is_success == release.ready_beside_newer
        environment.receiver.refusals = {}
        assert await environment.replay_dead_letters(new) > 0
        await environment.sandbox.set_switches(throttle_create=0.0, double_callbacks=0.2, lose_callbacks=0.1)
        await submit_through_both(environment, old, new)
        for at in (old, new):
            assert min(count_logged(at, "submission"), count_logged(at, "delivery")) > 0, f"{at.child.name} did nothing"
            assert set(environment.balancer.answers[at.child.url]) == {204}
        assert await environment.faults(new) == []
        assert "task.failed" in {hook.body["type"] for hook in environment.receiver.hooks}
        await environment.stop(old)
        for _ in range(3):
            await environment.submit(new, "completed")
        assert await environment.faults(new) == []
