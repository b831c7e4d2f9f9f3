"""Content of a local archive: regular files in it and nothing else, thumbnails made once."""

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handlers._file_types import FILE_TYPES
from service.artifacts import contents as contents_module
from service.artifacts.contents import Contents
from service.artifacts.local_archive import LocalArchive
from service.artifacts.thumbnail import make_thumbnail
from service.domain.archive_address import FolderAddress
from service.domain.artifact import StoredContent
from service.domain.errors import ArchiveUnavailable
from service.domain.media.limits import Unreadable
from tests.support.sample_media import image, video

VIDEO = video()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a directory with one stored video."""
    (tmp_path / "task-1.mp4").write_bytes(VIDEO)
    return tmp_path


@pytest.fixture
def contents(folder: Path) -> Contents:
    """Return the contents of the directory."""
    return Contents(archive=LocalArchive(FolderAddress(folder=folder)))


def item(path: Path, **changes: Any) -> dict[str, Any]:
    """Return an item of an output that is stored at `path`."""
    return {"type": "video", "url": "https://cdn.example/v", "archived_url": path.as_uri(), **changes}


async def found(contents: Contents, path: Path, **changes: Any) -> StoredContent:
    """Return the content at `path`."""
    content = await contents.find(item(path, **changes))
    assert content is not None
    return content


async def read(content: StoredContent, start: int = 0, stop: int | None = None) -> bytes:
    """Return the bytes of a content."""
    return b"".join([part async for part in content.read(start, content.size if stop is None else stop)])


def names_in(folder: Path) -> list[str]:
    """Return the names in a directory."""
    return sorted(each.name for each in folder.iterdir())


async def test_stored_file_is_read(contents: Contents, folder: Path) -> None:
    """Any part of it, with its type and its recorded SHA-256 as the version."""
    content = await found(contents, folder / "task-1.mp4", sha256="ab" * 32, bytes=len(VIDEO))
    assert (content.name, content.media_type, content.size) == ("task-1.mp4", "video/mp4", len(VIDEO))
    assert (content.sha256, content.etag) == ("ab" * 32, f'"{"ab" * 20}"')
    assert await read(content) == VIDEO
    assert await read(content, 10, 20) == VIDEO[10:20]


async def test_old_archive_has_versions_too(contents: Contents, folder: Path) -> None:
    """A file whose digest was not recorded, or that was replaced, has a version that changes with it."""
    path = folder / "task-1.mp4"
    first = await found(contents, path)
    replaced = await found(contents, path, sha256="ab" * 32, bytes=1)
    assert (first.sha256, replaced.sha256, replaced.etag) == (None, None, first.etag)
    path.write_bytes(VIDEO + b"more")
    os.utime(path, (1, 1))
    assert (await found(contents, path)).etag != first.etag


@pytest.mark.parametrize("name", ["link.mp4", "folder.mp4", "missing.mp4", "notes.txt", "task-1.poster.jpg", "up.mp4"])
async def test_only_stored_results_are_content(contents: Contents, folder: Path, name: str) -> None:
    """A symbolic link, a directory, a missing file, another type and a thumbnail are none."""
    (folder / "link.mp4").symlink_to("/etc/passwd")
    (folder / "up.mp4").symlink_to(folder / "task-1.mp4")
    (folder / "folder.mp4").mkdir()
    (folder / "notes.txt").write_text("secret")
    (folder / "task-1.poster.jpg").write_bytes(b"jpeg")
    assert await contents.find(item(folder / name)) is None


@pytest.mark.parametrize("address", [None, 7, "", "file:///etc/passwd", "s3://bucket/task-1.mp4"])
async def test_address_outside_of_the_archive(contents: Contents, address: object) -> None:
    """What is recorded as an address opens nothing elsewhere."""
    assert await contents.find({"archived_url": address}) is None
    assert await Contents().find({"archived_url": address}) is None


async def test_link_that_replaces_a_file_is_not_followed(contents: Contents, folder: Path) -> None:
    """A file that becomes a symbolic link after it was found is not read."""
    content = await found(contents, folder / "task-1.mp4")
    (folder / "task-1.mp4").unlink()
    (folder / "task-1.mp4").symlink_to("/etc/passwd")
    with pytest.raises(ArchiveUnavailable):
        await read(content)


async def test_archive_opens_no_link(folder: Path) -> None:
    """Also where the file has become one since it was found."""
    (folder / "link.mp4").symlink_to(folder / "task-1.mp4")
    archive = LocalArchive(FolderAddress(folder=folder))
    with pytest.raises(ArchiveUnavailable):
        await anext(archive.read("link.mp4", 0, 1))
    with pytest.raises(OSError), archive.blocking_reader("link.mp4"):  # noqa: PT011 - the message is the system's
        pass


async def test_thumbnail_is_closed_to_others(folder: Path) -> None:
    """As the stored file is, whatever the umask leaves."""
    before = os.umask(0)
    try:
        await LocalArchive(FolderAddress(folder=folder)).write_small("a.jpg", b"pixels", "image/jpeg")
    finally:
        os.umask(before)
    assert stat.S_IMODE((folder / "a.jpg").stat().st_mode) == 0o640


async def test_file_that_cannot_be_stored_leaves_nothing(folder: Path) -> None:
    """Its part is removed, also where it cannot get its name."""
    (folder / "a.jpg").mkdir()
    with pytest.raises(ArchiveUnavailable):
        await LocalArchive(FolderAddress(folder=folder)).write_small("a.jpg", b"pixels", "image/jpeg")
    assert names_in(folder) == ["a.jpg", "task-1.mp4"]


async def test_file_that_is_cut_is_an_error(contents: Contents, folder: Path) -> None:
    """A file that becomes shorter while it is read is no complete answer."""
    content = await found(contents, folder / "task-1.mp4")
    (folder / "task-1.mp4").write_bytes(VIDEO[:100])
    with pytest.raises(ArchiveUnavailable, match="shorter"):
        await read(content)


# ── thumbnails ───────────────────────────────────────────────────────────────


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the media types of which thumbnails were made."""
    types: list[str] = []

    def make(read_at: Callable[[int, int], bytes], size: int, media_type: str) -> bytes:
        types.append(media_type)
        return make_thumbnail(read_at, size, media_type)

    monkeypatch.setattr(contents_module, "make_thumbnail", make)
    return types


async def test_thumbnail_is_made_once(contents: Contents, folder: Path, made: list[str]) -> None:
    """Requests at the same time, and later ones, get the same stored JPEG."""
    content = await found(contents, folder / "task-1.mp4")
    thumbnails = await asyncio.gather(*(contents.thumbnail(content) for _ in range(5)))
    later = await Contents(archive=contents.archive).thumbnail(content)
    assert made == ["video/mp4"]
    assert len({await read(each) for each in [*thumbnails, later]}) == 1
    assert (later.name, later.media_type, later.stored) == ("task-1.poster.jpg", "image/jpeg", True)
    assert (await read(later)).startswith(b"\xff\xd8\xff")
    assert sorted(os.listdir(folder)) == ["task-1.mp4", "task-1.poster.jpg"]  # noqa: PTH208 - not blocking for long


async def test_thumbnail_of_an_archive_that_cannot_be_written(
    contents: Contents, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is made each time, and not stored."""

    async def refuse(*_: object) -> None:
        raise ArchiveUnavailable("read-only")

    monkeypatch.setattr(LocalArchive, "write_small", refuse)
    thumbnail = await contents.thumbnail(await found(contents, folder / "task-1.mp4"))
    assert (thumbnail.stored, len(await read(thumbnail))) == (False, thumbnail.size)


async def test_file_without_a_picture(contents: Contents, folder: Path) -> None:
    """A damaged file has no thumbnail, and nothing is stored."""
    (folder / "task-2.mp4").write_bytes(VIDEO[:40] + bytes(1000))
    with pytest.raises(Unreadable):
        await contents.thumbnail(await found(contents, folder / "task-2.mp4"))
    assert not (folder / "task-2.poster.jpg").exists()


async def test_results_that_were_not_recorded_are_erased_too(contents: Contents, folder: Path) -> None:
    """A killed process leaves a file that no task names yet, or a part of one: both are named after the task."""
    names = ("task-1.mp4", "task-1-2.png", ".task-1-2.ab12.part", "task-1-3.mp4", "task-10.mp4", ".task-10.ab12.part")
    for name in names:
        (folder / name).write_bytes(VIDEO)
    await contents.erase("task-1", [{"url": "x"}, {"url": "y"}])
    assert sorted(os.listdir(folder)) == [".task-10.ab12.part", "task-1-3.mp4", "task-10.mp4"]  # noqa: PTH208 - as below


def test_every_type_that_is_stored_is_known() -> None:
    """The names of files that are not recorded have one of their extensions."""
    assert {each.name for each in FILE_TYPES} == contents_module.MEDIA_TYPES.keys()


async def test_thumbnail_that_is_made_while_its_file_is_erased_is_not_left(
    contents: Contents, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The erasure has deleted all files before the thumbnail is written."""
    content = await found(contents, folder / "task-1.mp4")

    def slow(*args: Any) -> bytes:
        data = make_thumbnail(*args)
        (folder / "task-1.mp4").unlink()
        return data

    monkeypatch.setattr(contents_module, "make_thumbnail", slow)
    assert (await contents.thumbnail(content)).size > 0
    assert os.listdir(folder) == []  # noqa: PTH208 - as below


async def test_erased_results_are_gone(contents: Contents, folder: Path) -> None:
    """The files of a task go with their thumbnails; others stay, and a second time is no error."""
    (folder / "task-1-2.png").write_bytes(image())
    (folder / "task-2.mp4").write_bytes(VIDEO)
    await contents.thumbnail(await found(contents, folder / "task-1.mp4"))
    output = [item(folder / "task-1.mp4"), item(folder / "task-1-2.png"), {"url": "x"}, item(Path("/etc/passwd"))]
    await contents.erase("task-1", output)
    await contents.erase("task-1", output)
    assert os.listdir(folder) == ["task-2.mp4"]  # noqa: PTH208 - not blocking for long
