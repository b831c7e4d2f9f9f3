"""Bodies of results: odd or missing headers, compression, bytes behind the end, permissions of the stored file."""

import gzip
import os
import stat
import zlib
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from handlers import _result_files
from handlers._responses import body_parts
from handlers.archive import archive
from service import Reject, Retry
from tests.support.delivery_builders import event, view
from tests.support.file_server import HTML, URL, VIDEO, ArchiveSetup, archive_setup
from tests.support.sample_media import image, video


@pytest.fixture
def setup(tmp_path: Path) -> ArchiveSetup:
    """Return a setup whose directory does not exist yet."""
    return archive_setup(tmp_path / "videos")


class Streamed(httpx.AsyncByteStream):
    """A body as it comes over the network, in parts of `step` bytes, which httpx has not decoded."""

    def __init__(self, content: bytes, step: int = 1000) -> None:
        self.content, self.step = content, step

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the parts."""
        for start in range(0, len(self.content), self.step):
            yield self.content[start : start + self.step]


def streamed(content: bytes, step: int = 1000, **headers: str) -> httpx.Response:
    """Return a response with these headers, `_` in place of `-`."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(200, headers=named, stream=Streamed(content, step))


RAW_DEFLATE = zlib.compressobj(wbits=-15)
RAW = RAW_DEFLATE.compress(VIDEO) + RAW_DEFLATE.flush()


@pytest.mark.parametrize("step", [5, 1000, len(VIDEO)])
@pytest.mark.parametrize(
    "encoding", ["UTF-8", "aws-chunked", "", "identity", "gzip", "br", "deflate", "gzip,aws-chunked", "none", "7bit"]
)
async def test_intact_file_is_stored_with_any_encoding(setup: ArchiveSetup, encoding: str, step: int) -> None:
    """Storage services keep the Content-Encoding of an upload, which says nothing about the bytes."""
    setup.server.respond(URL, streamed(VIDEO, step, content_encoding=encoding, content_length=str(len(VIDEO))))
    await archive(event(), setup.tools())
    assert setup.files() == {"task-1.mp4": VIDEO}
    assert setup.results.artifacts[0].bytes == len(VIDEO)


@pytest.mark.parametrize(
    ("content", "encoding"),
    [
        (gzip.compress(VIDEO), "gzip"),
        (gzip.compress(VIDEO), "x-gzip"),
        (gzip.compress(VIDEO), ""),
        (gzip.compress(VIDEO[:3000]) + gzip.compress(VIDEO[3000:]), "gzip"),
        (gzip.compress(VIDEO) + b"\0\0\0", "gzip"),
        (zlib.compress(VIDEO), "deflate"),
        (RAW, "deflate"),
    ],
    ids=["gzip", "x-gzip", "gzip undeclared", "two members", "padded", "zlib", "deflate"],
)
@pytest.mark.parametrize("step", [7, 100_000])
async def test_compressed_file_is_stored_decompressed(
    setup: ArchiveSetup, content: bytes, encoding: str, step: int
) -> None:
    """A server that compresses although it was asked not to still delivers the file."""
    setup.server.respond(URL, streamed(content, step, content_encoding=encoding, content_length=str(len(content))))
    await archive(event(), setup.tools())
    assert setup.files() == {"task-1.mp4": VIDEO}


@pytest.mark.parametrize(
    ("content", "encoding", "reason"),
    [
        (gzip.compress(VIDEO)[:-20], "gzip", "compressed result was cut off"),
        (gzip.compress(VIDEO)[:500] + b"\xff" * 500, "gzip", "compressed result is damaged"),
        (b"\x8b\x2c\x80" + bytes(range(100)), "br", "compressed with br"),
        (gzip.compress(HTML * 9, mtime=0), "gzip", "served something else"),
        (gzip.compress(VIDEO[: len(VIDEO) // 2]), "gzip", "was cut off"),
    ],
)
async def test_compressed_file_that_is_not_whole_is_retried(
    setup: ArchiveSetup, content: bytes, encoding: str, reason: str
) -> None:
    """Damage, another compression and another content leave nothing behind."""
    setup.server.respond(URL, streamed(content, content_encoding=encoding))
    with pytest.raises(Retry, match=reason):
        await archive(event(), setup.tools())
    assert (setup.files(), setup.results.artifacts) == ({}, [])


async def test_limit_applies_to_the_decompressed_bytes(setup: ArchiveSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small body that decompresses to more than the limit is refused, and no part of it is large in memory."""
    monkeypatch.setattr(_result_files, "MAX_BYTES", 4 * _result_files.CHUNK)
    bomb = gzip.compress(VIDEO + bytes(20 * _result_files.CHUNK))
    assert len(bomb) < _result_files.CHUNK
    setup.server.respond(URL, streamed(bomb, len(bomb), content_encoding="gzip"))
    with pytest.raises(Reject, match="larger than"):
        await archive(event(), setup.tools())
    assert setup.files() == {}
    parts = [len(part) async for part in body_parts(streamed(bomb, len(bomb)), _result_files.CHUNK)]
    assert max(parts) <= _result_files.CHUNK
    assert sum(parts) == len(VIDEO) + 20 * _result_files.CHUNK


@pytest.mark.parametrize("content_type", [None, "", "text/html", "application/json", "image/png", "video/x-unknown"])
async def test_content_type_does_not_matter(setup: ArchiveSetup, content_type: str | None) -> None:
    """The bytes of the file decide, not what the server calls them."""
    headers = {} if content_type is None else {"content-type": content_type}
    setup.server.respond(URL, httpx.Response(200, headers=headers, stream=Streamed(VIDEO)))
    await archive(event(), setup.tools())
    assert setup.files() == {"task-1.mp4": VIDEO}


PNG, JPEG, WEBP = image("PNG"), image("JPEG"), image("WEBP")
JPEG_WITH_THUMBNAIL = JPEG[:2] + b"\xff\xe1\x00\x08Ex\xff\xd9if" + JPEG[2:]


@pytest.mark.parametrize("more", [b"\0", b"junk", b"\r\n", bytes(100), b"<!-- served by proxy -->" * 100, b"\xff" * 40])
@pytest.mark.parametrize("content", [VIDEO, video("mp4", codec="libx264", frames=30), PNG, JPEG, WEBP])
async def test_bytes_behind_the_end_are_tolerated(setup: ArchiveSetup, content: bytes, more: bytes) -> None:
    """Players ignore what follows the last part of a file, so it is stored as it came."""
    setup.server.respond(URL, httpx.Response(200, content=content + more))
    await archive(event(task=view(output=[{"type": "", "url": URL}])), setup.tools())
    assert [*setup.files().values()] == [content + more]


@pytest.mark.parametrize("content", [PNG, JPEG, JPEG_WITH_THUMBNAIL, WEBP, VIDEO])
@pytest.mark.parametrize("missing", [2, 20, 300])
async def test_file_without_its_end_is_retried(setup: ArchiveSetup, content: bytes, missing: int) -> None:
    """The tolerance for more bytes does not extend to missing ones."""
    setup.server.respond(URL, httpx.Response(200, content=content[:-missing]))
    tolerated = content is PNG and missing == 2  # only the last checksum
    if tolerated:
        await archive(event(task=view(output=[{"type": "", "url": URL}])), setup.tools())
    else:
        with pytest.raises(Retry):
            await archive(event(task=view(output=[{"type": "", "url": URL}])), setup.tools())
    assert len(setup.files()) == tolerated


async def test_answer_of_a_transforming_proxy_is_stored(setup: ArchiveSetup) -> None:
    """The status 203 carries a whole file as well."""
    setup.server.respond(URL, httpx.Response(203, content=VIDEO))
    await archive(event(), setup.tools())
    assert setup.files() == {"task-1.mp4": VIDEO}


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o640), (0o022, 0o640), (0o027, 0o640), (0o077, 0o600)])
async def test_stored_files_are_not_for_everybody(setup: ArchiveSetup, umask: int, mode: int) -> None:
    """Files have the permissions 0640 at most, and fewer where the umask says so; the new directory has 0750."""
    before = os.umask(umask)
    try:
        await archive(event(), setup.tools())
    finally:
        os.umask(before)
    assert stat.S_IMODE((setup.folder / "task-1.mp4").stat().st_mode) == mode
    assert stat.S_IMODE(setup.folder.stat().st_mode) == 0o750 & ~umask
