"""A stored video over HTTP, in real processes: curl and a browser's seeks, links without a key, an S3 bucket."""

import hashlib
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import anyio
import httpx
import pytest
from anyio.to_thread import run_sync

from tests.acceptance.environment import serve, service, settings, sqlite, submit_many, upstream
from tests.acceptance.processes import HOST, Json, Workspace
from tests.support.object_stores import KEY, SECRET, moto_server
from tests.support.ports import free_port

API_KEY = "key-of-the-shop"


@asynccontextmanager
async def stored_task(workspace: Workspace, **more: str) -> AsyncIterator[tuple[httpx.AsyncClient, Json]]:
    """Run a service with an archive, and yield a client with a key and a task whose result is stored."""
    public_url = f"http://{HOST}:{free_port()}"
    async with upstream(workspace, "--run-time", "500ms") as sandbox:
        env = settings(sandbox.url, public_url, sqlite(workspace), API_KEYS=f"shop={API_KEY}:admin", **more)
        child = await serve(workspace, env)
        async with service(child, key=API_KEY) as at:
            [submitted] = await submit_many(at, 1)
            await at.wait_until_idle()
            task = (await at.http.get(f"/v1/tasks/{submitted['id']}")).json()
            yield at.http, task


async def curl(*arguments: str) -> bytes:
    """Return what curl writes."""
    program = shutil.which("curl")
    if program is None:
        pytest.skip("curl is not installed")
    return (await anyio.run_process([program, "-sS", "--noproxy", "*", *arguments])).stdout


async def test_stored_video_plays_everywhere(workspace: Workspace) -> None:
    """Curl resumes a download, a player seeks, a link works without a key, and a thumbnail is made."""
    folder = workspace.home / "videos"
    async with stored_task(workspace, ARCHIVE_URL=folder.as_uri()) as (http, task):
        [output] = task["output"]
        data = await run_sync((folder / f"{task['id']}.mp4").read_bytes)
        assert output["sha256"] == hashlib.sha256(data).hexdigest()
        url = str(http.base_url.join(f"/v1/tasks/{task['id']}/content"))
        key = ("-H", f"Authorization: Bearer {API_KEY}")
        assert await curl(*key, url) == data
        assert await curl(*key, "-r", "100-199", url) == data[100:200]
        assert await curl(*key, "-r", "-50", url) == data[-50:]
        part = workspace.home / "part.mp4"
        await run_sync(part.write_bytes, data[:1000])
        await curl(*key, "-C", "-", "-o", str(part), url)
        assert await run_sync(part.read_bytes) == data
        head = await curl(*key, "-I", url)
        assert f"content-length: {len(data)}".encode() in head.lower()
        link = (await http.post(f"/v1/tasks/{task['id']}/links", json={"expires_in": 60})).json()["url"]
        await _seek(link, data)
        assert (await curl(f"{link}?variant=thumbnail")).startswith(b"\xff\xd8\xff")
        assert await curl("-o", "/dev/null", "-w", "%{http_code}", url) == b"401"
        assert await curl("-o", "/dev/null", "-w", "%{http_code}", f"{link}x") == b"403"


async def _seek(link: str, data: bytes) -> None:
    """Fetch like the player of a browser: the whole from 0, then the end, then the middle, of the same version."""
    async with httpx.AsyncClient(trust_env=False) as browser:
        async with browser.stream("GET", link, headers={"Range": "bytes=0-", "Accept-Encoding": "identity"}) as first:
            assert (first.status_code, first.headers["accept-ranges"]) == (206, "bytes")
            assert first.headers["content-range"] == f"bytes 0-{len(data) - 1}/{len(data)}"
            await anext(first.aiter_raw(100))  # the player leaves in the middle
        for start in (len(data) - 100, len(data) // 2):
            headers = {"Range": f"bytes={start}-", "If-Range": first.headers["etag"]}
            reply = await browser.get(link, headers=headers)
            assert (reply.status_code, reply.content) == (206, data[start:])
        assert (await browser.get(link, headers={"If-None-Match": first.headers["etag"]})).status_code == 304


async def test_bucket_serves_its_videos_itself(workspace: Workspace) -> None:
    """With an S3 bucket the service leads to signed addresses, for keys and links; its log has no credentials."""
    pytest.importorskip("obstore", reason="the extra `objectstore` is not installed")
    with moto_server() as server:
        await run_sync(partial(httpx.put, f"{server}/videos", trust_env=False))
        more = {
            "ARCHIVE_URL": "s3://videos/results",
            "ARCHIVE_ENDPOINT": server,
            "ARCHIVE_REGION": "us-east-1",
            "ARCHIVE_ACCESS_KEY": KEY,
            "ARCHIVE_SECRET_KEY": SECRET,
            "ARCHIVE_ALLOW_HTTP": "true",
        }
        async with stored_task(workspace, **more) as (http, task):
            [output] = task["output"]
            assert output["archived_url"] == f"s3://videos/results/{task['id']}.mp4"
            link = (await http.post(f"/v1/tasks/{task['id']}/links", json={})).json()["url"]
            for url in (f"{link}?variant=video", f"{link}?variant=thumbnail"):
                headers = await curl("-o", "/dev/null", "-D", "-", url)
                assert headers.startswith(b"HTTP/1.1 302")
                assert b"X-Amz-Signature" in headers
            data = await curl("-L", link)
            assert hashlib.sha256(data).hexdigest() == output["sha256"]
            assert await curl("-L", "-r", "10-19", link) == data[10:20]
            assert (await curl("-L", f"{link}?variant=thumbnail")).startswith(b"\xff\xd8\xff")
        assert not any([SECRET in await run_sync(child.output) for child in workspace.children])
