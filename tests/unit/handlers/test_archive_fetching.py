"""Fetching results: addresses that are not there yet, expired, redirected, broken off."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from handlers._file_types import fault_of, kind_of
from handlers.archive import PAUSES, archive
from service import Reject, Retry
from service.deliveries.egress import Egress
from service.deliveries.egress import client as guarded_client
from tests.support.delivery_builders import event, tools, view
from tests.support.file_server import FILM, FRESH, HTML, URL, Workshop, workshop
from tests.support.sample_media import image, video


@pytest.fixture
def work(tmp_path: Path) -> Workshop:
    """Return a workshop whose directory does not exist yet."""
    return workshop(tmp_path / "deep" / "videos")


@pytest.mark.parametrize("status", [404, 425])
async def test_a_file_that_is_not_there_yet_is_waited_for(work: Workshop, status: int) -> None:
    """Not found so soon after the end means not yet: growing pauses, and no question to the upstream."""
    work.shop.lay_out(URL, httpx.Response(status))
    pauses = []
    for attempt in (1, 2, 3):
        with pytest.raises(Retry) as later:
            await archive(event(), work.tools(attempt=attempt))
        pauses.append(later.value.after)
    assert pauses == [timedelta(seconds=seconds) for seconds in PAUSES[:3]]
    assert work.results.asked == 0


@pytest.mark.parametrize(("status", "attempt"), [(401, 1), (403, 1), (410, 1), (400, 1), (404, 4)])
async def test_an_expired_address_is_replaced(work: Workshop, status: int, attempt: int) -> None:
    """The upstream is asked for a fresh address, the file comes from there, and the record names the first address."""
    work.shop.lay_out(URL, httpx.Response(status))
    work.shop.lay_out(FRESH, httpx.Response(200, content=FILM))
    work.results.fresh = [{"type": "video", "url": FRESH}]
    await archive(event(), work.tools(attempt=attempt))
    assert work.files() == {"task-1.mp4": FILM}
    assert (work.results.kept[0].url, work.results.asked) == (URL, 1)


@pytest.mark.parametrize(
    "fresh", [[], [{"type": "video"}], [{"type": "video", "url": URL}], [{"type": "video", "url": FRESH}]]
)
async def test_without_a_better_address_it_waits(work: Workshop, fresh: list[dict[str, str]]) -> None:
    """When the upstream has no better address it is tried later, with one question an attempt."""
    work.shop.lay_out(URL, httpx.Response(403))
    work.shop.lay_out(FRESH, httpx.Response(403))
    work.results.fresh = fresh
    with pytest.raises(Retry) as later:
        await archive(event(), work.tools(attempt=2))
    assert (later.value.after, work.results.asked) == (timedelta(seconds=PAUSES[1]), 1)
    assert work.files() == {}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 206, 204])
async def test_a_server_in_trouble_is_tried_by_the_schedule(work: Workshop, status: int) -> None:
    """A server's own trouble follows the schedule, and the upstream is left in peace."""
    work.shop.lay_out(URL, httpx.Response(status))
    with pytest.raises(Retry) as later:
        await archive(event(), work.tools())
    assert (later.value.after, work.results.asked) == (None, 0)


def _redirect(to: str) -> httpx.Response:
    return httpx.Response(302, headers={"location": to})


async def test_three_redirects_are_followed(work: Workshop) -> None:
    """Redirects are followed by hand, relative ones too."""
    work.shop.lay_out(URL, _redirect("/1"))
    work.shop.lay_out("https://files.example/1", _redirect("https://cdn.example/2"))
    work.shop.lay_out("https://cdn.example/2", _redirect("3"))
    work.shop.lay_out("https://cdn.example/3", httpx.Response(200, content=FILM))
    await archive(event(), work.tools())
    assert work.files() == {"task-1.mp4": FILM}


async def test_a_circle_of_redirects_ends(work: Workshop) -> None:
    """More than three redirects are a failure."""
    work.shop.lay_out(URL, _redirect(URL))
    with pytest.raises(Retry, match="more than 3 times"):
        await archive(event(), work.tools())
    assert len(work.shop.asked) == 4


async def test_a_redirect_to_another_scheme_is_refused(work: Workshop) -> None:
    """A redirect never leads to a file of ours."""
    work.shop.lay_out(URL, _redirect("file:///etc/passwd"))
    with pytest.raises(Reject, match="not http or https"):
        await archive(event(), work.tools())


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
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/film.mp4"


async def _archive_over_http(work: Workshop, answer: bytes) -> None:
    async with _server(answer) as url, guarded_client(Egress(["127.0.0.0/8"])) as http:
        task = view(output=[{"type": "video", "url": url}])
        settings = {"ARCHIVE_URL": work.folder.as_uri()}
        await archive(event(task=task), tools(http, settings=settings, results=work.results))


async def test_a_real_download_is_kept(work: Workshop) -> None:
    """Over a real connection the film arrives whole."""
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(FILM)}\r\n\r\n"
    await _archive_over_http(work, head.encode() + FILM)
    assert work.files() == {"task-1.mp4": FILM}


@pytest.mark.parametrize(
    "head",
    [
        f"HTTP/1.1 200 OK\r\ncontent-length: {len(FILM)}\r\n\r\n",
        f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{len(FILM):x}\r\n",
        "HTTP/1.0 200 OK\r\n\r\n",
    ],
    ids=["with its length", "chunked", "until the end"],
)
async def test_a_connection_that_drops_leaves_nothing(work: Workshop, head: str) -> None:
    """A body that breaks off is noticed however its length is told, and nothing is kept."""
    with pytest.raises((httpx.RemoteProtocolError, Retry)):
        await _archive_over_http(work, head.encode() + FILM[: len(FILM) // 2])
    assert (work.files(), work.results.kept) == ({}, [])


# ── kinds of files ───────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (FILM, "mp4"),
        (video("webm", codec="libvpx"), "webm"),
        (image("PNG"), "png"),
        (image("JPEG"), "jpg"),
        (image("WEBP"), "webp"),
    ],
    ids=["mp4", "webm", "png", "jpg", "webp"],
)
def test_whole_files_of_every_kind_are_known(tmp_path: Path, content: bytes, name: str) -> None:
    """A real file of each kind is known by its bytes and found whole; cut in two it is not."""
    kind = kind_of(content[:16])
    assert kind is not None
    assert kind.name == name
    path = tmp_path / "file"
    path.write_bytes(content)
    assert fault_of(path, kind) is None
    path.write_bytes(content[: len(content) // 2])
    assert name == "webm" or fault_of(path, kind) is not None


@pytest.mark.parametrize("content", [HTML, b"", b"GIF89a" + bytes(20), b"RIFF\x00\x00\x00\x00AVI LIST", bytes(64)])
def test_other_files_are_not_known(content: bytes) -> None:
    """HTML, emptiness and kinds that are not kept have no name."""
    assert kind_of(content) is None
