"""What `tools.content` gives a handler: the stored file, else the provider's, within bounds."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.artifacts.contents import Contents
from service.artifacts.local_archive import LocalArchive
from service.deliveries.handler_content import no_content
from service.deliveries.task_content import ContentOpener, TaskContent
from service.domain.archive_address import FolderAddress
from service.domain.errors import Reject, Retry
from service.domain.link_tokens import LinkTokens
from service.domain.task import Json, TaskId
from tests.support.delivery_builders import NOW, tools, view
from tests.support.sample_media import video

VIDEO = video()
URL = "https://files.example/video.mp4?sig=hidden"
FRESH = "https://files.example/fresh.mp4"


@dataclass
class Recorded:
    """The recorded output of the task, and what the provider says now."""

    output: list[Json] = field(default_factory=list)
    fresh: list[Json] = field(default_factory=list)

    async def latest(self, task_id: str) -> list[Json]:
        """Return the recorded output."""
        assert task_id == "task-1"
        return self.output

    async def refetch(self, task_id: str) -> list[Json]:
        """Return the fresh output."""
        assert task_id == "task-1"
        return self.fresh


def source(folder: Path, recorded: Recorded | None = None, **replies: httpx.Response) -> TaskContent:
    """Return a source whose provider answers by the last part of an address."""

    def answer(request: httpx.Request) -> httpx.Response:
        return replies[request.url.path.strip("/").partition(".")[0]]

    opener = ContentOpener(
        contents=Contents(archive=LocalArchive(FolderAddress(folder=folder))),
        results=recorded or Recorded(),
        links=LinkTokens(["a signing key"]),
        now=lambda: NOW,
        public_url="https://b.example",
    )
    return opener.for_client(httpx.AsyncClient(transport=httpx.MockTransport(answer)))


def stored_output(folder: Path) -> list[Json]:
    """Store a video and return the output that says so."""
    path = folder / "task-1.mp4"
    path.write_bytes(VIDEO)
    return [{"type": "video", "url": URL, "archived_url": path.as_uri(), "sha256": "ab" * 32, "bytes": len(VIDEO)}]


async def test_stored_file(tmp_path: Path) -> None:
    """What was stored since the event is read from the archive, with a poster and a link."""
    content_of = source(tmp_path, Recorded(output=stored_output(tmp_path)))
    async with content_of(view()) as content:
        assert (content.stored, content.size, content.media_type) == (True, len(VIDEO), "video/mp4")
        assert (content.name, content.sha256) == ("task-1.mp4", "ab" * 32)
        assert b"".join([chunk async for chunk in content.chunks]) == VIDEO
        poster = await content.poster()
        link = content.link(timedelta(hours=1))
    assert poster is not None
    assert poster.startswith(b"\xff\xd8\xff")
    assert link is not None
    assert LinkTokens(["a signing key"]).read(link.rpartition("/")[2], NOW)[0] == TaskId("task-1")


async def test_provider_while_nothing_is_stored(tmp_path: Path) -> None:
    """The provider's file comes with its length and type; it has neither poster nor link."""
    reply = httpx.Response(200, content=VIDEO, headers={"content-type": "video/mp4; x=y"})
    moved = httpx.Response(302, headers={"location": "/moved.mp4"})
    async with source(tmp_path, video=moved, moved=reply)(view()) as content:
        assert (content.stored, content.size, content.media_type) == (False, len(VIDEO), "video/mp4")
        assert (content.name, content.sha256) == ("task-1.mp4", None)
        assert b"".join([chunk async for chunk in content.chunks]) == VIDEO
        assert (await content.poster(), content.link(timedelta(hours=1))) == (None, None)


async def test_type_that_is_no_media_type(tmp_path: Path) -> None:
    """A name is made of the task's id and a known extension, whatever the provider sends."""
    reply = httpx.Response(200, content=VIDEO, headers={"content-type": "../../etc/passwd"})
    async with source(tmp_path, video=reply)(view()) as content:
        assert (content.name, content.media_type) == ("task-1.mp4", "video/mp4")


async def test_expired_address_is_fetched_anew(tmp_path: Path) -> None:
    """A fresh address is asked for once."""
    replies = {"video": httpx.Response(403), "fresh": httpx.Response(200, content=VIDEO)}
    recorded = Recorded(fresh=[{"type": "video", "url": FRESH}])
    async with source(tmp_path, recorded, **replies)(view()) as content:
        assert b"".join([chunk async for chunk in content.chunks]) == VIDEO
    replies["fresh"] = httpx.Response(404)
    with pytest.raises(Retry, match="so did a fresh address"):
        async with source(tmp_path, recorded, **replies)(view()):
            pass


class Endless(httpx.AsyncByteStream):
    """A body without an end."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield bytes forever."""
        while True:
            yield bytes(1000)


@pytest.mark.parametrize(
    ("reply", "error", "text"),
    [
        (httpx.Response(200, content=bytes(2000)), Reject, "2000 bytes, more than 1500"),
        (httpx.Response(200, stream=Endless()), Reject, "more than 1500 bytes"),
        (httpx.Response(200, content=bytes(9), headers={"content-length": "10"}), Retry, "cut off after 9 of 10"),
        (httpx.Response(500), Retry, "answered 500"),
        (httpx.Response(302, headers={"location": "/video.mp4"}), Retry, "redirects more than"),
        (httpx.Response(302, headers={"location": "file:///etc/passwd"}), Reject, "not http"),
    ],
)
async def test_provider_is_bounded(tmp_path: Path, reply: httpx.Response, error: type[Exception], text: str) -> None:
    """A file that is too large, cut off or not there ends with an error that says whether to try again."""

    async def read() -> None:
        async with source(tmp_path, video=reply)(view(), max_bytes=1500) as content:
            async for _ in content.chunks:
                pass

    with pytest.raises(error, match=text):
        await read()


async def test_stored_file_is_bounded(tmp_path: Path) -> None:
    """A handler that can send only small files does not read a large one."""
    with pytest.raises(Reject, match=f"{len(VIDEO)} bytes, more than 100"):
        async with source(tmp_path, Recorded(output=stored_output(tmp_path)))(view(), max_bytes=100):
            pass


@pytest.mark.parametrize("output", [1, -1])
async def test_output_that_does_not_exist(tmp_path: Path, output: int) -> None:
    """A position outside of the output is no file."""
    with pytest.raises(Reject, match="1 outputs, counted from 0"):
        async with source(tmp_path)(view(), output):
            pass


def test_tools_of_nobody_have_no_content() -> None:
    """Tools that a test made alone say so."""
    given: Any = tools().content
    assert given is no_content
    with pytest.raises(Reject, match="no content of output 0"):
        given(view())
