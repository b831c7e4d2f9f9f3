"""Keeping results: whole files only, under their task's name, and nothing else left behind."""

import asyncio
import hashlib
import importlib.util
import os
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from handlers import archive as archiving
from handlers.archive import archive
from service import Reject, Retry
from service.domain.artifact import Artifact
from tests.support.delivery_builders import PATIENCE, event, view
from tests.support.file_server import FILM, HTML, URL, Workshop, workshop
from tests.support.sample_media import image, sound


@pytest.fixture
def work(tmp_path: Path) -> Workshop:
    """Return a workshop whose directory does not exist yet."""
    return workshop(tmp_path / "deep" / "videos")


async def test_a_result_is_kept_under_its_tasks_name(work: Workshop) -> None:
    """The film lies in the directory as `{task id}.mp4`, and is recorded with its length and SHA-256."""
    await archive(event(), work.tools())
    assert work.files() == {"task-1.mp4": FILM}
    assert work.results.kept == [
        Artifact(
            url=URL,
            archived_url=(work.folder / "task-1.mp4").as_uri(),
            media_type="video/mp4",
            bytes=len(FILM),
            sha256=hashlib.sha256(FILM).hexdigest(),
        )
    ]


async def test_running_twice_fetches_once(work: Workshop) -> None:
    """A second run, as after a crash before the record, records the same artifact without another download."""
    await archive(event(), work.tools())
    await archive(event(), work.tools())
    assert work.shop.asked == [URL]
    assert work.results.kept[0] == work.results.kept[1]


async def test_a_damaged_file_is_fetched_again(work: Workshop) -> None:
    """What stands at the final place and is not whole is replaced."""
    work.folder.mkdir(parents=True)
    (work.folder / "task-1.mp4").write_bytes(FILM[: len(FILM) // 2])
    await archive(event(), work.tools())
    assert work.files() == {"task-1.mp4": FILM}


async def test_several_results_have_names_of_their_own(work: Workshop) -> None:
    """The second result is `{task id}-2`, with the extension of what it really is."""
    cover = "https://files.example/cover"
    work.shop.lay_out(cover, httpx.Response(200, content=image("PNG")))
    output = [{"type": "video", "url": URL}, {"type": "image", "url": cover}, {"type": "text"}]
    await archive(event(task=view(output=output)), work.tools())
    assert sorted(work.files()) == ["task-1-2.png", "task-1.mp4"]
    assert [artifact.media_type for artifact in work.results.kept] == ["video/mp4", "image/png"]


@pytest.mark.parametrize("output", [[], [{"type": "video"}], [{"type": "video", "url": ""}]])
async def test_no_result_is_a_dead_letter(work: Workshop, output: list[dict[str, str]]) -> None:
    """A completed task without an address never can be kept, so that a person hears of it."""
    with pytest.raises(Reject, match="no result with an address"):
        await archive(event(task=view(output=output)), work.tools())


@pytest.mark.parametrize("task_id", ["../escape", "a/b", "", ".", "a\x00b", "x" * 65])
async def test_a_name_never_leaves_the_directory(work: Workshop, task_id: str) -> None:
    """An id that is no plain file name is refused before anything is written."""
    with pytest.raises(Reject, match="cannot be a file name"):
        await archive(event(task=view(id=task_id)), work.tools())
    assert not work.folder.exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://files.example/x", "https://", "data:video/mp4;base64,AA"])
async def test_only_web_addresses_are_fetched(work: Workshop, url: str) -> None:
    """An address that is not http or https is refused."""
    with pytest.raises(Reject, match="address"):
        await archive(event(task=view(output=[{"type": "video", "url": url}])), work.tools())


@pytest.mark.parametrize(
    "content",
    [
        HTML,
        b"",
        b"\x00\x00",
        b'{"error": "expired"}' * 10,
        FILM[:-10],
        FILM[: len(FILM) // 2],
        FILM[:4] + b"free" + FILM[8:],
        image("PNG"),
        sound(),
    ],
    ids=["html", "empty", "tiny", "json", "cut at the end", "cut in the middle", "no ftyp", "an image", "sound only"],
)
async def test_what_is_no_whole_video_is_not_stored(work: Workshop, content: bytes) -> None:
    """Whatever is not the video that it claims to be is tried again later, and leaves nothing behind."""
    work.shop.lay_out(URL, httpx.Response(200, content=content))
    with pytest.raises(Retry):
        await archive(event(), work.tools())
    assert (work.files(), work.results.kept) == ({}, [])


@pytest.mark.skipif(importlib.util.find_spec("av") is None, reason="the extra `media` is not installed")
async def test_a_file_that_only_looks_like_a_video_is_not_stored(work: Workshop) -> None:
    """Boxes that are in order and hold nothing are no video."""
    boxes = b"".join((8 + len(body)).to_bytes(4, "big") + name + body for name, body in _hollow())
    work.shop.lay_out(URL, httpx.Response(200, content=boxes))
    with pytest.raises(Retry, match="no video stream"):
        await archive(event(), work.tools())
    assert work.files() == {}


def _hollow() -> list[tuple[bytes, bytes]]:
    return [(b"ftyp", b"isom\x00\x00\x02\x00isom"), (b"moov", bytes(100)), (b"mdat", bytes(1000))]


async def test_without_the_extra_the_frame_is_still_checked(work: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without PyAV a whole file is kept and a cut one is not."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    await archive(event(), work.tools())
    work.shop.lay_out(URL, httpx.Response(200, content=FILM[:-10]))
    with pytest.raises(Retry, match="it was cut off"):
        await archive(event(task=view(id="task-2")), work.tools())
    assert sorted(work.files()) == ["task-1.mp4"]


async def test_a_result_that_says_it_is_too_large_is_refused(work: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """A length over the cap is refused before the body is read."""
    monkeypatch.setattr(archiving, "MAX_BYTES", len(FILM) - 1)
    with pytest.raises(Reject, match="larger than"):
        await archive(event(), work.tools())
    assert work.files() == {}


class Endless(httpx.AsyncByteStream):
    """A film that never ends."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the film again and again."""
        while True:
            yield FILM


async def test_a_result_that_does_not_end_is_refused(work: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cap counts what really comes, when no length was given."""
    monkeypatch.setattr(archiving, "MAX_BYTES", 3 * archiving.CHUNK)
    work.shop.lay_out(URL, httpx.Response(200, stream=Endless()))
    with pytest.raises(Reject, match="larger than"):
        await archive(event(), work.tools())
    assert work.files() == {}


async def test_a_compressed_answer_is_not_kept(work: Workshop) -> None:
    """A body in a content encoding would not have the length and digest of the file."""
    work.shop.lay_out(URL, httpx.Response(200, headers={"content-encoding": "br"}, stream=Endless()))
    with pytest.raises(Retry, match="compressed"):
        await archive(event(), work.tools())


async def test_a_stopped_download_leaves_nothing(work: Workshop) -> None:
    """A handler that is cancelled in the middle of a download removes its temporary file."""
    begun = asyncio.Event()

    class Stalled(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            """Give some, then stall."""
            yield FILM + bytes(archiving.CHUNK)
            begun.set()
            await asyncio.Event().wait()

    work.shop.lay_out(URL, httpx.Response(200, stream=Stalled()))
    running = asyncio.ensure_future(archive(event(), work.tools()))
    await asyncio.wait_for(begun.wait(), PATIENCE)
    assert [name.endswith(".part") for name in work.files()] == [True]
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert work.files() == {}


async def test_what_a_killed_process_left_is_swept(work: Workshop) -> None:
    """Temporary files of this result older than a day go; younger ones, and other results', stay."""
    work.folder.mkdir(parents=True)
    old, young, other = (work.folder / f".{name}.part" for name in ("task-1.aa", "task-1.bb", "task-11.cc"))
    for part in (old, young, other):
        part.write_bytes(b"x")
    yesterday = time.time() - 2 * 86_400
    for part in (old, other):
        os.utime(part, (yesterday, yesterday))
    await archive(event(), work.tools())
    assert sorted(work.files()) == [young.name, other.name, "task-1.mp4"]


async def test_a_directory_that_cannot_be_written_is_our_fault(work: Workshop) -> None:
    """A file where the directory should be is an error of the system's, not of the destination."""
    work.folder.parent.mkdir(parents=True)
    work.folder.write_bytes(b"in the way")
    with pytest.raises(FileExistsError):
        await archive(event(), work.tools())
