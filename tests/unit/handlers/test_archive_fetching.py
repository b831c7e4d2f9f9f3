"""Fetching results: files that do not exist yet, expired URLs, redirects, interrupted connections."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from handlers._file_types import corruption_of, file_type_of
from handlers.archive import DELAYS, archive
from service import Reject, Retry
from service.deliveries.egress_guard import client as guarded_client
from service.deliveries.egress_policy import Egress
from tests.support.delivery_builders import event, tools, view
from tests.support.file_server import FRESH, HTML, URL, VIDEO, ArchiveSetup, archive_setup
from tests.support.sample_media import image, video


@pytest.fixture
def setup(tmp_path: Path) -> ArchiveSetup:
    """Return a setup whose directory does not exist yet."""
    return archive_setup(tmp_path / "deep" / "videos")


@pytest.mark.parametrize("status", [404, 425])
async def test_missing_file_is_retried(setup: ArchiveSetup, status: int) -> None:
    """Not found so soon after completion means not yet: growing delays, and no request to the provider."""
    setup.server.respond(URL, httpx.Response(status))
    delays = []
    for attempt in (1, 2, 3):
        with pytest.raises(Retry) as later:
            await archive(event(), setup.tools(attempt=attempt))
        delays.append(later.value.after)
    assert delays == [timedelta(seconds=seconds) for seconds in DELAYS[:3]]
    assert setup.results.refetches == 0


@pytest.mark.parametrize(("status", "attempt"), [(401, 1), (403, 1), (410, 1), (400, 1), (404, 4)])
async def test_expired_url_is_replaced(setup: ArchiveSetup, status: int, attempt: int) -> None:
    """A fresh URL is fetched from the provider, the file comes from there, and the record names the first URL."""
    setup.server.respond(URL, httpx.Response(status))
    setup.server.respond(FRESH, httpx.Response(200, content=VIDEO))
    setup.results.fresh = [{"type": "video", "url": FRESH}]
    await archive(event(), setup.tools(attempt=attempt))
    assert setup.files() == {"task-1.mp4": VIDEO}
    assert (setup.results.artifacts[0].url, setup.results.refetches) == (URL, 1)


@pytest.mark.parametrize(
    "fresh", [[], [{"type": "video"}], [{"type": "video", "url": URL}], [{"type": "video", "url": FRESH}]]
)
async def test_attempt_without_a_better_url_is_retried(setup: ArchiveSetup, fresh: list[dict[str, str]]) -> None:
    """If the provider has no better URL the file is retried later, with one refetch an attempt."""
    setup.server.respond(URL, httpx.Response(403))
    setup.server.respond(FRESH, httpx.Response(403))
    setup.results.fresh = fresh
    with pytest.raises(Retry) as later:
        await archive(event(), setup.tools(attempt=2))
    assert (later.value.after, setup.results.refetches) == (timedelta(seconds=DELAYS[1]), 1)
    assert setup.files() == {}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 206, 204])
async def test_server_error_follows_the_schedule(setup: ArchiveSetup, status: int) -> None:
    """An error of the file server follows the schedule, without a request to the provider."""
    setup.server.respond(URL, httpx.Response(status))
    with pytest.raises(Retry) as later:
        await archive(event(), setup.tools())
    assert (later.value.after, setup.results.refetches) == (None, 0)


def _redirect(to: str) -> httpx.Response:
    return httpx.Response(302, headers={"location": to})


async def test_ten_redirects_are_followed(setup: ArchiveSetup) -> None:
    """Up to ten redirects are followed, relative ones too."""
    setup.server.respond(URL, _redirect("/1"))
    for number in range(1, 10):
        target = f"{number + 1}" if number % 2 else f"https://cdn{number}.example/{number + 1}"
        base = "https://files.example" if number < 3 else f"https://cdn{(number - 1) // 2 * 2}.example"
        setup.server.respond(f"{base}/{number}", _redirect(target))
    setup.server.respond("https://cdn8.example/10", httpx.Response(200, content=VIDEO))
    await archive(event(), setup.tools())
    assert setup.files() == {"task-1.mp4": VIDEO}
    assert len(setup.server.requests) == 11


async def test_redirect_loop_ends(setup: ArchiveSetup) -> None:
    """More than ten redirects are a failure."""
    setup.server.respond(URL, _redirect(URL))
    with pytest.raises(Retry, match="more than 10 times"):
        await archive(event(), setup.tools())
    assert len(setup.server.requests) == 11


async def test_redirect_to_another_scheme_is_refused(setup: ArchiveSetup) -> None:
    """A redirect never leads to a local file."""
    setup.server.respond(URL, _redirect("file:///etc/passwd"))
    with pytest.raises(Reject, match="not http or https"):
        await archive(event(), setup.tools())


# ── over a real connection ───────────────────────────────────────────────────


@asynccontextmanager
async def _server(answer: bytes) -> AsyncIterator[str]:
    """Serve `answer`, byte for byte, to every connection, then close it; yield the address."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/video.mp4"


async def _archive_over_http(setup: ArchiveSetup, answer: bytes) -> None:
    async with _server(answer) as url, guarded_client(Egress(["127.0.0.0/8"])) as http:
        task = view(output=[{"type": "video", "url": url}])
        settings = {"ARCHIVE_URL": setup.folder.as_uri()}
        await archive(event(task=task), tools(http, settings=settings, results=setup.results))


async def test_real_download_is_stored(setup: ArchiveSetup) -> None:
    """Over a real connection the video arrives complete."""
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(VIDEO)}\r\n\r\n"
    await _archive_over_http(setup, head.encode() + VIDEO)
    assert setup.files() == {"task-1.mp4": VIDEO}


@pytest.mark.parametrize(
    "head",
    [
        f"HTTP/1.1 200 OK\r\ncontent-length: {len(VIDEO)}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{len(VIDEO):x}\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
    ],
    ids=["with its length", "chunked", "until the end"],
)
async def test_interrupted_connection_leaves_nothing(setup: ArchiveSetup, head: str) -> None:
    """A truncated body is detected however its length is declared, and nothing is stored."""
    with pytest.raises((httpx.RemoteProtocolError, Retry)):
        await _archive_over_http(setup, head.encode() + VIDEO[: len(VIDEO) // 2])
    assert (setup.files(), setup.results.artifacts) == ({}, [])


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "http://10.0.0.1/", "http://[::1]:1/"])
async def test_redirect_to_an_internal_address_is_refused(setup: ArchiveSetup, target: str) -> None:
    """The egress guard checks every redirect, not only the first address."""
    answer = f"HTTP/1.1 302 Found\r\nlocation: {target}\r\ncontent-length: 0\r\n\r\n"
    with pytest.raises(Reject, match="EGRESS_ALLOW"):
        await _archive_over_http(setup, answer.encode())
    assert setup.results.artifacts == []


# ── types of files ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (VIDEO, "mp4"),
        (video("webm", codec="libvpx"), "webm"),
        (image("PNG"), "png"),
        (image("JPEG"), "jpg"),
        (image("WEBP"), "webp"),
    ],
    ids=["mp4", "webm", "png", "jpg", "webp"],
)
def test_complete_files_of_every_type_are_detected(tmp_path: Path, content: bytes, name: str) -> None:
    """A real file of each type is detected by its bytes and found complete; its first half is not."""
    file_type = file_type_of(content[:16])
    assert file_type is not None
    assert file_type.name == name
    path = tmp_path / "file"
    path.write_bytes(content)
    assert corruption_of(path, file_type) is None
    path.write_bytes(content[: len(content) // 2])
    assert name == "webm" or corruption_of(path, file_type) is not None


@pytest.mark.parametrize("content", [HTML, b"", b"GIF89a" + bytes(20), b"RIFF\x00\x00\x00\x00AVI LIST", bytes(64)])
def test_other_files_are_not_detected(content: bytes) -> None:
    """HTML, empty files and other formats have no type."""
    assert file_type_of(content) is None
