"""Large inline media stay out of memory: the process does not grow with its queue."""

import base64
import json
import os
from io import BytesIO

import anyio
import pytest
from PIL import Image

from tests.acceptance.environment import MODEL, UPSTREAM_KEY, Service, serve, service, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Workspace, command, free_port

MB = 1024 * 1024
MAX_MEMORY = 400 * MB
MAX_LISTED_BYTES = 2000
"""Bytes that a task with four images may take in a list."""

IMAGES = 4
SIDE = 1118
"""Noise of this width and height is 3.75 MB as PNG, which cannot shrink it."""

AT_ONCE = 8
THROTTLED = {"throttle_create": 1.0, "retry_after": 3.0}


def noise() -> str:
    """Return an image of noise as a data URI."""
    buffer = BytesIO()
    with Image.frombytes("RGB", (SIDE, SIDE), os.urandom(3 * SIDE * SIDE)) as picture:
        picture.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def large_body() -> bytes:
    """Return a request with 15 MB of images, close under the limit of 20 MB for the whole."""
    body = json.dumps({"model": MODEL, "params": {"prompt": "noise", "images": [noise() for _ in range(IMAGES)]}})
    assert 19_900_000 < len(body) < 20 * MB
    return body.encode()


async def post_many(at: Service, body: bytes, count: int) -> None:
    """Post the body `count` times, some at once."""
    slots = anyio.Semaphore(AT_ONCE)

    async def post() -> None:
        async with slots:
            answer = await at.http.post(
                "/v1/tasks", content=body, headers={"Content-Type": "application/json"}, timeout=300
            )
            assert answer.status_code == 202, answer.text

    async with anyio.create_task_group() as group:
        for _ in range(count):
            group.start_soon(post)


@pytest.mark.parametrize(
    ("kind", "count"),
    [
        ("sqlite", 30),
        pytest.param("postgresql", 30, marks=pytest.mark.slow),
        pytest.param("sqlite", 200, marks=pytest.mark.slow),
    ],
)
async def test_queued_inline_media_do_not_fill_the_memory(
    workspace: Workspace, kind: str, count: int, request: pytest.FixtureRequest
) -> None:
    """Tasks of 15 MB each wait in the queue, are listed, and go up, in less than 400 MB at any time."""
    url = sqlite(workspace) if kind == "sqlite" else request.getfixturevalue("empty_postgres")
    async with upstream(workspace, "--tiny-videos", "--run-time", "100ms", "--no-echo-inline") as sandbox:
        await sandbox.set_switches(**THROTTLED)
        env = settings(sandbox.url, f"http://{HOST}:{free_port()}", url, LEASE="30s", HANDLERS="log")
        assert (await command(workspace, "migrate", env=env))[0] == 0
        child = await serve(workspace, env)
        async with service(child) as at:
            print(f"after the start: {child.memory() / MB:.0f} MB")  # noqa: T201 - the figures are to be seen
            await post_many(at, large_body(), count)
            queued = child.memory("VmHWM")
            print(f"{count} tasks taken in: peak {queued / MB:.0f} MB, now {child.memory() / MB:.0f} MB")  # noqa: T201
            listing = await at.http.get("/v1/tasks", params={"limit": 200})
            assert len(listing.json()["data"]) == count
            assert len(listing.content) < MAX_LISTED_BYTES * count
            await sandbox.set_switches(throttle_create=0.0)
            await at.wait_until_idle(seconds=600)
            assert {task["status"] for task in await at.tasks()} == {"completed"}
            peak = child.memory("VmHWM")
            print(f"all sent: peak {peak / MB:.0f} MB, now {child.memory() / MB:.0f} MB")  # noqa: T201
        assert len((await sandbox.ledger())["bills"]) == count
    assert queued < MAX_MEMORY
    assert peak < MAX_MEMORY


async def test_a_bad_key_costs_no_memory(workspace: Workspace) -> None:
    """Large bodies of strangers are refused before they are read."""
    env = settings(f"http://{HOST}:9", f"http://{HOST}:{free_port()}", sqlite(workspace), API_KEYS=f"me={UPSTREAM_KEY}")
    child = await serve(workspace, env)
    before = child.memory("VmHWM")
    async with service(child) as at:
        for _ in range(3):
            answer = await at.http.post("/v1/tasks", content=large_body())
            assert answer.status_code == 401
    assert child.memory("VmHWM") - before < 20 * MB
