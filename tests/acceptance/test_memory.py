"""Memory use does not grow with the number of queued tasks with large inline media."""

import base64
import json
import os
from io import BytesIO

import anyio
import pytest
from PIL import Image

from tests.acceptance.environment import MODEL, UPSTREAM_KEY, Service, serve, service, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Workspace, command
from tests.support.ports import free_port

MB = 1024 * 1024
MAX_MEMORY = 400 * MB
MAX_LISTED_BYTES = 2000
"""Maximum size of a task with four images in a list, in bytes."""

IMAGES = 4
SIDE = 1118
"""Width and height of a random image; as PNG it has 3.75 MB."""

AT_ONCE = 8
PER_CLIENT = 25
"""Tasks of one client: 375 MB of its 512."""

THROTTLED = {"throttle_create": 1.0, "retry_after": 3.0}


def noise() -> str:
    """Return a random image as a data URI."""
    buffer = BytesIO()
    with Image.frombytes("RGB", (SIDE, SIDE), os.urandom(3 * SIDE * SIDE)) as picture:
        picture.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def large_body() -> bytes:
    """Return a request with 15 MB of images, slightly below the request limit of 20 MB."""
    body = json.dumps({"model": MODEL, "params": {"prompt": "noise", "images": [noise() for _ in range(IMAGES)]}})
    assert 19_900_000 < len(body) < 20 * MB
    return body.encode()


async def post_many(at: Service, count: int) -> None:
    """Create `count` tasks, AT_ONCE of them concurrently, as many clients as needed; each has images of its own."""
    slots = anyio.Semaphore(AT_ONCE)

    async def post(body: bytes, key: str) -> None:
        async with slots:
            headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
            answer = await at.http.post("/v1/tasks", content=body, headers=headers, timeout=300)
            assert answer.status_code == 202, answer.text

    for first in range(0, count, PER_CLIENT):
        body = large_body()
        async with anyio.create_task_group() as group:
            for number in range(first, min(first + PER_CLIENT, count)):
                group.start_soon(post, body, key_of(number // PER_CLIENT))


def key_of(client: int) -> str:
    """Return the API key of a client."""
    return f"key-of-client-{client}-of-the-memory-test"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("sqlite", 24),  # 360 MB beside the process: too much, if they stayed in memory
        ("postgresql", 30),
        ("sqlite", 200),
    ],
)
async def test_queued_inline_media_use_limited_memory(
    workspace: Workspace, kind: str, count: int, request: pytest.FixtureRequest
) -> None:
    """Tasks of 15 MB each are queued, listed and submitted with a peak of less than 400 MB."""
    url = sqlite(workspace) if kind == "sqlite" else request.getfixturevalue("empty_postgres")
    async with upstream(workspace, "--tiny-videos", "--run-time", "100ms", "--no-echo-inline") as sandbox:
        await sandbox.set_switches(**THROTTLED)
        clients = [f"client{number}={key_of(number)}" for number in range(count // PER_CLIENT + 1)]
        more = {"LEASE": "30s", "HANDLERS": "log", "API_KEYS": ",".join([f"ops={UPSTREAM_KEY}:admin", *clients])}
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", url, **more)
        assert (await command(workspace, "migrate", env=env))[0] == 0
        workspace.forks = False  # its memory is measured
        child = await serve(workspace, env)
        async with service(child, key=UPSTREAM_KEY) as at:
            print(f"after the start: {child.memory() / MB:.0f} MB")  # noqa: T201 - report the figures
            await post_many(at, count)
            queued = child.memory("VmHWM")
            print(f"{count} tasks accepted: peak {queued / MB:.0f} MB, now {child.memory() / MB:.0f} MB")  # noqa: T201
            listing = await at.http.get("/v1/tasks", params={"limit": 200})
            assert len(listing.json()["data"]) == count
            assert len(listing.content) < MAX_LISTED_BYTES * count
            await sandbox.set_switches(throttle_create=0.0)
            await at.wait_until_idle(seconds=600)
            assert {task["status"] for task in await at.tasks()} == {"completed"}
            peak = child.memory("VmHWM")
            print(f"all submitted: peak {peak / MB:.0f} MB, now {child.memory() / MB:.0f} MB")  # noqa: T201
        assert len((await sandbox.ledger())["bills"]) == count
    assert queued < MAX_MEMORY
    assert peak < MAX_MEMORY


async def test_unknown_key_uses_no_memory(workspace: Workspace) -> None:
    """A large body with an unknown key is refused before it is read."""
    env = settings(f"http://{HOST}:9", f"http://{HOST}:{free_port()}", sqlite(workspace), API_KEYS=f"me={UPSTREAM_KEY}")
    workspace.forks = False  # its memory is measured
    child = await serve(workspace, env)
    before = child.memory("VmHWM")
    async with service(child) as at:
        for _ in range(3):
            answer = await at.http.post("/v1/tasks", content=large_body())
            assert answer.status_code == 401
    assert child.memory("VmHWM") - before < 20 * MB
