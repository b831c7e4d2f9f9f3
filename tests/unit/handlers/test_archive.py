"""Storing results: complete files only, under their task's name, and nothing else."""

import asyncio
import hashlib
import importlib.util
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from handlers import _local_archive, _result_files
from handlers.archive import archive
from service import Reject, Retry
from service.domain.artifact import Artifact
from tests.support.delivery_builders import TIMEOUT, event, view
from tests.support.file_server import HTML, URL, VIDEO, ArchiveSetup, archive_setup
from tests.support.sample_media import image, sound


@pytest.fixture
def setup(tmp_path: Path) -> ArchiveSetup:
    """Return a setup whose directory does not exist yet."""
    return archive_setup(tmp_path / "deep" / "videos")


async def test_result_is_stored_under_its_tasks_name(setup: ArchiveSetup) -> None:
    """The video is stored as `{task id}.mp4`, and is recorded with its length and SHA-256."""
    await archive(event(), setup.tools())
    assert setup.files() == {"task-1.mp4": VIDEO}
    assert setup.results.artifacts == [
        Artifact(
            url=URL,
            archived_url=(setup.folder / "task-1.mp4").as_uri(),
            media_type="video/mp4",
            bytes=len(VIDEO),
            sha256=hashlib.sha256(VIDEO).hexdigest(),
            output=0,
        )
    ]


async def test_running_twice_fetches_once(setup: ArchiveSetup) -> None:
    """A second run, as after a crash before the record, records the same artifact without another download."""
    await archive(event(), setup.tools())
    await archive(event(), setup.tools())
    assert setup.server.requests == [URL]
    assert setup.results.artifacts[0] == setup.results.artifacts[1]


async def test_damaged_file_is_fetched_again(setup: ArchiveSetup) -> None:
    """A file with the final name that is not complete is replaced."""
    setup.folder.mkdir(parents=True)
    (setup.folder / "task-1.mp4").write_bytes(VIDEO[: len(VIDEO) // 2])
    await archive(event(), setup.tools())
    assert setup.files() == {"task-1.mp4": VIDEO}


async def test_each_result_has_its_own_name(setup: ArchiveSetup) -> None:
    """The second result is `{task id}-2`, with the extension of its real type."""
    cover = "https://files.example/cover"
    setup.server.respond(cover, httpx.Response(200, content=image("PNG")))
    output = [{"type": "video", "url": URL}, {"type": "image", "url": cover}, {"type": "text"}]
    await archive(event(task=view(output=output)), setup.tools())
    assert sorted(setup.files()) == ["task-1-2.png", "task-1.mp4"]
    assert [artifact.media_type for artifact in setup.results.artifacts] == ["video/mp4", "image/png"]


@pytest.mark.parametrize("output", [[], [{"type": "video"}], [{"type": "video", "url": ""}]])
async def test_task_without_a_result_is_a_dead_letter(setup: ArchiveSetup, output: list[dict[str, str]]) -> None:
    """A completed task without a URL can never be stored, so that an operator sees it."""
    with pytest.raises(Reject, match="no result with an address"):
        await archive(event(task=view(output=output)), setup.tools())


@pytest.mark.parametrize("task_id", ["../escape", "a/b", "", ".", "a\x00b", "x" * 65])
async def test_file_name_never_leaves_the_directory(setup: ArchiveSetup, task_id: str) -> None:
    """An id that is not a plain file name is refused before anything is written."""
    with pytest.raises(Reject, match="cannot be a file name"):
        await archive(event(task=view(id=task_id)), setup.tools())
    assert not setup.folder.exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://files.example/x", "https://", "data:video/mp4;base64,AA"])
async def test_only_http_urls_are_fetched(setup: ArchiveSetup, url: str) -> None:
    """A URL that is not http or https is refused."""
    with pytest.raises(Reject, match="address"):
        await archive(event(task=view(output=[{"type": "video", "url": url}])), setup.tools())


@pytest.mark.parametrize(
    "content",
    [
        HTML,
        b"",
        b"\x00\x00",
        b'{"error": "expired"}' * 10,
        VIDEO[:-10],
        VIDEO[: len(VIDEO) // 2],
        VIDEO[:4] + b"free" + VIDEO[8:],
        image("PNG"),
        sound(),
    ],
    ids=["html", "empty", "tiny", "json", "cut at the end", "cut in the middle", "no ftyp", "an image", "sound only"],
)
async def test_incomplete_video_is_not_stored(setup: ArchiveSetup, content: bytes) -> None:
    """A file that is not the declared video is retried later, and leaves nothing behind."""
    setup.server.respond(URL, httpx.Response(200, content=content))
    with pytest.raises(Retry):
        await archive(event(), setup.tools())
    assert (setup.files(), setup.results.artifacts) == ({}, [])


@pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="the extra `media` is not installed")
async def test_empty_container_is_not_stored(setup: ArchiveSetup) -> None:
    """Valid boxes without content are not a video."""
    boxes = b"".join((8 + len(body)).to_bytes(4, "big") + name + body for name, body in _hollow())
    setup.server.respond(URL, httpx.Response(200, content=boxes))
    with pytest.raises(Retry, match="no video stream"):
        await archive(event(), setup.tools())
    assert setup.files() == {}


def _hollow() -> list[tuple[bytes, bytes]]:
    return [(b"ftyp", b"isom\x00\x00\x02\x00isom"), (b"moov", bytes(100)), (b"mdat", bytes(1000))]


async def test_container_is_checked_without_the_extra(setup: ArchiveSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyAV a complete file is stored and a truncated one is not."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    await archive(event(), setup.tools())
    setup.server.respond(URL, httpx.Response(200, content=VIDEO[:-10]))
    with pytest.raises(Retry, match="it was cut off"):
        await archive(event(task=view(id="task-2")), setup.tools())
    assert sorted(setup.files()) == ["task-1.mp4"]


async def test_declared_length_above_the_limit_is_refused(setup: ArchiveSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A length above the limit is refused before the body is read."""
    monkeypatch.setattr(_result_files, "MAX_BYTES", len(VIDEO) - 1)
    with pytest.raises(Reject, match="larger than"):
        await archive(event(), setup.tools())
    assert setup.files() == {}


class Endless(httpx.AsyncByteStream):
    """A body of 64 MiB and more: over every limit, and yet a handler without a limit does not fill the disk."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the video again and again."""
        for _ in range(2**26 // len(VIDEO) + 1):
            yield VIDEO


async def test_endless_body_is_refused(setup: ArchiveSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit counts the received bytes if no length was declared."""
    monkeypatch.setattr(_result_files, "MAX_BYTES", 3 * _result_files.CHUNK)
    setup.server.respond(URL, httpx.Response(200, stream=Endless()))
    with pytest.raises(Reject, match="larger than"):
        await archive(event(), setup.tools())
    assert setup.files() == {}


async def test_cancelled_download_leaves_nothing(setup: ArchiveSetup) -> None:
    """A handler that is cancelled during a download removes its temporary file."""
    begun = asyncio.Event()

    class Stalled(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            """Yield a part, then stall."""
            yield VIDEO + bytes(_result_files.CHUNK)
            begun.set()
            await asyncio.Event().wait()

    setup.server.respond(URL, httpx.Response(200, stream=Stalled()))
    running = asyncio.ensure_future(archive(event(), setup.tools()))
    await asyncio.wait_for(begun.wait(), TIMEOUT)
    assert [name.endswith(".part") for name in setup.files()] == [True]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert setup.files() == {}


async def test_temporary_files_of_killed_processes_are_removed(setup: ArchiveSetup) -> None:
    """Those of all results and of thumbnails older than a day are removed; newer ones and other hidden files stay.

    After a kill the result is stored by its next attempt, when the file that is left is minutes old.
    """
    setup.folder.mkdir(parents=True)
    left = (".task-1.aa.part", ".task-11.cc.part", ".task-2.jpg.0f.part")
    names = (*left, ".notes.part", "task-9.part", ".task-1.bb.part")
    for name in names:
        (setup.folder / name).write_bytes(b"x")
    yesterday = time.time() - 2 * 86_400
    for name in names[:-1]:
        os.utime(setup.folder / name, (yesterday, yesterday))
    await archive(event(), setup.tools())
    assert sorted(setup.files()) == sorted([*names[len(left) :], "task-1.mp4"])


async def test_directory_is_searched_for_temporary_files_once_an_hour(
    setup: ArchiveSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may hold very many results."""
    await archive(event(), setup.tools())
    (part := setup.folder / ".task-7.aa.part").write_bytes(b"x")
    os.utime(part, (0, 0))
    (setup.folder / "task-1.mp4").unlink()
    await archive(event(), setup.tools())
    assert part.exists()
    monkeypatch.setattr(_local_archive, "SWEEP_INTERVAL", 0.0)
    (setup.folder / "task-1.mp4").unlink()
    await archive(event(), setup.tools())
    assert not part.exists()


async def test_directory_that_cannot_be_written_is_a_local_error(setup: ArchiveSetup) -> None:
    """A file with the name of the directory is a local error, not one of the destination."""
    setup.folder.parent.mkdir(parents=True)
    setup.folder.write_bytes(b"in the way")
    with pytest.raises(FileExistsError):
        await archive(event(), setup.tools())
