"""Limits of a download: what is refused before a byte of it is read."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from handlers import _result_files
from handlers.archive import archive
from service import Reject
from tests.support.delivery_builders import event
from tests.support.file_server import URL, VIDEO, ArchiveSetup, archive_setup


@pytest.fixture
def setup(tmp_path: Path) -> ArchiveSetup:
    """Return a setup whose directory does not exist yet."""
    return archive_setup(tmp_path / "videos")


class Noted(httpx.AsyncByteStream):
    """A body that notes whether it was read."""

    def __init__(self, content: bytes) -> None:
        self.content, self.read = content, False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield the content."""
        self.read = True
        yield self.content


@pytest.mark.parametrize(("over", "read"), [(0, True), (1, False)])
async def test_declared_length_over_the_limit_is_refused_unread(
    setup: ArchiveSetup, monkeypatch: pytest.MonkeyPatch, over: int, read: bool
) -> None:
    """A result of exactly the limit is stored; of one that declares a byte more nothing is downloaded."""
    monkeypatch.setattr(_result_files, "MAX_BYTES", len(VIDEO) - over)
    body = Noted(VIDEO)
    setup.server.respond(URL, httpx.Response(200, headers={"content-length": str(len(VIDEO))}, stream=body))
    if over:
        with pytest.raises(Reject, match="larger than"):
            await archive(event(), setup.tools())
        assert setup.files() == {}
    else:
        await archive(event(), setup.tools())
        assert setup.files() == {"task-1.mp4": VIDEO}
    assert body.read is read


async def test_every_step_of_the_download_has_a_time_limit(setup: ArchiveSetup) -> None:
    """A server that stalls takes a slot for half a minute, not for the timeout of the handler."""
    seen: list[dict[str, float | None]] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.extensions["timeout"])
        return await setup.server(request)

    tools = replace(setup.tools(), http=httpx.AsyncClient(transport=httpx.MockTransport(respond)))
    await archive(event(), tools)
    [limits] = seen
    assert all(limit is not None and 0 < limit <= 30 for limit in limits.values())


async def test_file_is_requested_uncompressed(setup: ArchiveSetup) -> None:
    """The request excludes content encodings, so that length and digest are those of the file."""
    seen: list[str] = []

    async def respond(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["accept-encoding"])
        return await setup.server(request)

    await archive(event(), replace(setup.tools(), http=httpx.AsyncClient(transport=httpx.MockTransport(respond))))
    assert seen == ["identity"]
