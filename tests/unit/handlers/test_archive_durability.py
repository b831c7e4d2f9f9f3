"""A stored result survives a power failure, and its digest is that of all its bytes."""

import hashlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from handlers import _result_files
from handlers.archive import archive
from tests.support.delivery_builders import event
from tests.support.file_server import URL, VIDEO, ArchiveSetup, archive_setup
from tests.support.recorded_syncs import recorded_syncs

CHUNKS = 3


@pytest.fixture
def setup(tmp_path: Path) -> ArchiveSetup:
    """Return a setup whose file server has a video of several chunks."""
    setup = archive_setup(tmp_path / "videos")
    setup.server.respond(URL, httpx.Response(200, content=long_video()))
    return setup


def long_video() -> bytes:
    """Return a playable video of more than CHUNKS chunks, whose parts all differ."""
    size = CHUNKS * _result_files.CHUNK
    padding = b"".join(number.to_bytes(4, "big") for number in range(size // 4))
    return VIDEO + (len(padding) + 8).to_bytes(4, "big") + b"free" + padding


class InPieces(httpx.AsyncByteStream):
    """A body that arrives in pieces of `size` bytes."""

    def __init__(self, content: bytes, size: int) -> None:
        self.content, self.size = content, size

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the pieces."""
        for start in range(0, len(self.content), self.size):
            yield self.content[start : start + self.size]


@pytest.mark.parametrize("size", [10_007, 2**18 + 1, 2**30], ids=["small pieces", "over a chunk", "at once"])
async def test_digest_and_length_are_those_of_the_whole_video(setup: ArchiveSetup, size: int) -> None:
    """A video of several chunks is stored byte for byte and recorded with the digest of all of it, twice the same."""
    content = long_video()
    setup.server.respond(URL, httpx.Response(200, stream=InPieces(content, size)))
    await archive(event(), setup.tools())
    await archive(event(), setup.tools())
    assert setup.files() == {"task-1.mp4": content}
    expected = (hashlib.sha256(content).hexdigest(), len(content))
    assert [(artifact.sha256, artifact.bytes) for artifact in setup.results.artifacts] == [expected] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
async def test_file_is_synced_before_its_name_and_the_name_after(
    setup: ArchiveSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All bytes are on the disk before the file has its final name, and the name is before the result is recorded."""
    steps = recorded_syncs(monkeypatch)
    await archive(event(), setup.tools())
    final = setup.folder / "task-1.mp4"
    names = [(kind, path) for kind, path, _ in steps]
    renamed = names.index(("rename", final))
    [written] = [size for kind, path, size in steps[:renamed] if kind == "sync" and path.suffix == ".part"]
    assert written == len(long_video())
    assert ("sync", setup.folder) in names[renamed:]
