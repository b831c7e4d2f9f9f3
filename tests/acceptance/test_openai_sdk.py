"""The unmodified Python SDK of OpenAI against a running service with the sandbox."""

import warnings
from base64 import b64encode
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from io import BytesIO
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from tests.acceptance.environment import MODEL, Upstream, serve, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Workspace
from tests.support.ports import free_port
from tests.support.sample_media import image

KEY = "key-of-the-openai-client"
OTHER_KEY = "key-of-another-client"
DEPRECATED = "The Sora API is scheduled to permanently shut down"
"""Each call of the SDK warns that OpenAI's own service has ended; the shape lives on."""


def imported() -> Any:
    """Return the SDK, which takes too long to be imported by every process that collects the tests."""
    return pytest.importorskip("openai", reason="the SDK of OpenAI is not installed")


@contextmanager
def only_deprecated() -> Iterator[None]:
    """Ignore the SDK's warning about OpenAI's own service inside the block; any other one is an error."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=DEPRECATED, category=DeprecationWarning)
        yield


@asynccontextmanager
async def running_service(workspace: Workspace) -> AsyncIterator[tuple[str, Upstream]]:
    """Run the service with two clients and an archive; yield its address and the sandbox."""
    async with upstream(workspace, "--run-time", "500ms", "--tiny-videos") as sandbox:
        public_url = f"http://{HOST}:{free_port()}"
        more = {"API_KEYS": f"shop={KEY},other={OTHER_KEY}", "ARCHIVE_URL": (workspace.home / "videos").as_uri()}
        child = await serve(workspace, settings(sandbox.url, public_url, sqlite(workspace), **more))
        yield f"{child.url}/v1", sandbox


def _picture() -> BytesIO:
    picture = BytesIO(image("PNG"))
    picture.name = "cat.png"
    return picture


def _journey(openai: Any, base_url: str) -> None:
    """Create, poll, list, download and delete, as the documentation of the SDK shows it."""
    with only_deprecated(), openai.OpenAI(base_url=base_url, api_key=KEY) as client:
        video = client.videos.create_and_poll(
            prompt="a cat surfs", model=MODEL, seconds="4", size="1280x720", input_reference=_picture()
        )
        assert (video.status, video.progress, video.error) == ("completed", 100, None)
        assert (video.object, video.model, video.seconds, video.size) == ("video", MODEL, "4", "1280x720")
        assert video.completed_at >= video.created_at
        content = client.videos.download_content(video.id)
        assert content.response.headers["content-type"] == "video/mp4"
        assert content.read()[4:8] == b"ftyp"
        thumbnail = client.videos.download_content(video.id, variant="thumbnail")
        assert thumbnail.read().startswith(b"\xff\xd8\xff")
        with pytest.raises(openai.BadRequestError, match="no sprite sheets are made here"):
            client.videos.download_content(video.id, variant="spritesheet")
        others = [
            client.videos.create(prompt=f"cat {number}", model=MODEL, input_reference=_picture()) for number in range(3)
        ]
        newest_first = [each.id for each in client.videos.list(limit=2)]
        assert newest_first == [others[2].id, others[1].id, others[0].id, video.id]
        assert [each.id for each in client.videos.list(limit=3, order="asc")] == newest_first[::-1]
        assert client.videos.retrieve(video.id).prompt == "a cat surfs"
        deleted = client.videos.delete(video.id)
        assert (deleted.id, deleted.deleted, deleted.object) == (video.id, True, "video.deleted")
        with pytest.raises(openai.NotFoundError):
            client.videos.retrieve(video.id)
        assert [each.id for each in client.videos.list()] == newest_first[:-1]


def _refusals(openai: Any, base_url: str, own_id: str) -> None:
    """Errors have a message, and tasks of another client do not exist."""
    with only_deprecated(), openai.OpenAI(base_url=base_url, api_key=OTHER_KEY) as client:
        assert list(client.videos.list()) == []
        for call in (client.videos.retrieve, client.videos.download_content):
            with pytest.raises(openai.NotFoundError, match="no such video"):
                call(own_id)
        with pytest.raises(openai.BadRequestError) as refused:
            client.videos.create(prompt="", model=MODEL, seconds="99", size="5x5", input_reference=b"no picture")
        assert {"seconds", "size", "prompt"} <= set(refused.value.message.replace(":", " ").split())
    with (
        only_deprecated(),
        openai.OpenAI(base_url=base_url, api_key="wrong") as unknown,
        pytest.raises(openai.AuthenticationError, match="with a key of this service"),
    ):
        unknown.videos.list()


async def _async_journey(openai: Any, base_url: str) -> None:
    """Create with a reference object, read a raw response and pages, and stream the file, with asyncio."""
    reference = {"input_reference": {"image_url": f"data:image/png;base64,{b64encode(image('PNG')).decode()}"}}
    async with openai.AsyncOpenAI(base_url=base_url, api_key=KEY) as client:
        with only_deprecated():
            raw = await client.videos.with_raw_response.create(prompt="a dog", model=MODEL, extra_body=reference)
            assert raw.headers["x-request-id"] == raw.request_id
            video = await client.videos.poll(raw.parse().id, poll_interval_ms=200)
            listed = [each.id async for each in client.videos.list(limit=1)]
            assert (video.status, listed[0], len(set(listed))) == ("completed", video.id, 4)
            async with client.videos.with_streaming_response.download_content(video.id) as content:
                assert (await content.read())[4:8] == b"ftyp"
        models = [(each.id, each.object, each.owned_by) async for each in client.models.list()]
        assert (MODEL, "model", "vidu") in models
        with pytest.raises(openai.NotFoundError, match="only videos and models"):
            await client.images.generate(prompt="a cat")


async def test_sdk_makes_a_video(workspace: Workspace) -> None:
    """It creates and polls, lists in pages, downloads, and reads every error."""
    openai = imported()
    async with running_service(workspace) as (base_url, sandbox):
        with anyio.fail_after(90):
            await run_sync(partial(_journey, openai, base_url))
            with openai.OpenAI(base_url=base_url, api_key=KEY) as client, only_deprecated():
                [newest, *_] = await run_sync(lambda: list(client.videos.list()))
            await run_sync(partial(_refusals, openai, base_url, newest.id))
            await _async_journey(openai, base_url)
        assert (await sandbox.ledger())["requests"]["create"] == 5
