"""Several results of one task: each is stored, recorded and tried again by itself."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import httpx
import pytest

from handlers import archive as archive_module
from handlers.archive import DELAYS, archive
from service import Artifact, Reject, Retry
from service.deliveries.attempt_outcome import responsible_party
from tests.support.delivery_builders import event, view
from tests.support.file_server import HTML, VIDEO, ArchiveSetup, archive_setup
from tests.support.sample_media import image

FIRST, SECOND, THIRD = (f"https://files.example/{number}" for number in (1, 2, 3))
OUTPUT = [{"type": "video", "url": url} for url in (FIRST, SECOND, THIRD)]
TASK = event(task=view(output=OUTPUT))


@pytest.fixture
def setup(tmp_path: Path) -> ArchiveSetup:
    """Return a setup whose server has all three videos."""
    setup = archive_setup(tmp_path / "videos")
    for url in (FIRST, SECOND, THIRD):
        setup.server.respond(url, httpx.Response(200, content=VIDEO))
    return setup


def recorded(setup: ArchiveSetup) -> list[str]:
    """Return the addresses of the recorded artifacts."""
    return [artifact.url for artifact in setup.results.artifacts]


@pytest.mark.parametrize(
    "bad",
    [
        httpx.Response(200, content=HTML),
        httpx.Response(200, content=VIDEO[:-100]),
        httpx.Response(200, content=image("PNG")),
        httpx.Response(404),
        httpx.Response(500),
        httpx.Response(302, headers={"location": "file:///etc/passwd"}),
        httpx.Response(200, headers={"content-length": str(2**40)}, content=VIDEO),
    ],
    ids=["HTML", "cut", "an image", "not found", "error", "a local file", "too large"],
)
@pytest.mark.parametrize("position", [0, 1, 2])
async def test_bad_result_does_not_keep_the_others(setup: ArchiveSetup, bad: httpx.Response, position: int) -> None:
    """The other results are stored and recorded, and the error says which one is missing."""
    setup.server.respond(OUTPUT[position]["url"], bad)
    with pytest.raises((Retry, Reject), match=rf"^output {position + 1} of 3: "):
        await archive(TASK, setup.tools())
    assert recorded(setup) == [item["url"] for item in OUTPUT if item is not OUTPUT[position]]
    assert len(setup.files()) == 2


async def test_retry_downloads_only_what_is_missing(setup: ArchiveSetup) -> None:
    """What an earlier attempt has stored is not requested again; the missing one completes the delivery."""
    setup.server.respond(SECOND, httpx.Response(503), httpx.Response(200, content=VIDEO))
    with pytest.raises(Retry, match="output 2 of 3"):
        await archive(TASK, setup.tools())
    assert recorded(setup) == [FIRST, THIRD]
    await archive(TASK, setup.tools(attempt=2))
    assert set(recorded(setup)) == {FIRST, SECOND, THIRD}
    assert setup.server.requests == [FIRST, SECOND, THIRD, SECOND]


async def test_every_bad_result_is_named(setup: ArchiveSetup) -> None:
    """Of several delays the shortest applies, since each attempt tries all that is missing."""
    setup.server.respond(FIRST, httpx.Response(404))
    setup.server.respond(THIRD, httpx.Response(404))
    with pytest.raises(Retry, match=r"^output 1 of 3: .* 404; output 3 of 3: .* 404$") as later:
        await archive(TASK, setup.tools(attempt=2))
    assert later.value.after == timedelta(seconds=DELAYS[1])


async def test_result_that_can_come_later_decides(setup: ArchiveSetup) -> None:
    """A delivery is a dead letter only when no missing result can be stored by a later attempt."""
    setup.server.respond(FIRST, httpx.Response(302, headers={"location": "file:///etc/passwd"}))
    setup.server.respond(SECOND, httpx.Response(503))
    with pytest.raises(Retry, match=r"output 1 of 3: .*; output 2 of 3: ") as later:
        await archive(TASK, setup.tools())
    assert later.value.after is None
    setup.server.respond(SECOND, httpx.Response(200, content=VIDEO))
    with pytest.raises(Reject, match=r"^output 1 of 3: "):
        await archive(TASK, setup.tools(attempt=2))


@pytest.mark.parametrize(
    ("error", "party"),
    [
        (httpx.ConnectError("no route"), "destination"),
        (OSError(28, "No space left on device"), "ours"),
        (KeyError("x"), "ours"),
    ],
)
async def test_type_of_the_error_stays(
    setup: ArchiveSetup, monkeypatch: pytest.MonkeyPatch, error: Exception, party: str
) -> None:
    """A full disk is a fault of this installation, and a refused connection one of the destination."""
    keep = setup.results.keep

    async def failing(task_id: str, artifact: Artifact) -> None:
        if artifact.url == SECOND:
            raise error
        await keep(task_id, artifact)

    monkeypatch.setattr(setup.results, "keep", failing)
    with pytest.raises(type(error), match="output 2 of 3: ") as raised:
        await archive(TASK, setup.tools())
    assert responsible_party(raised.value) == party
    assert recorded(setup) == [FIRST, THIRD]


async def test_slow_result_does_not_take_the_time_of_the_others(
    setup: ArchiveSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that brings a byte now and then ends with its share of the attempt's time."""
    shares: list[float] = []

    class Slow(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            """Yield the head of a video, then wait for more than any attempt takes."""
            yield VIDEO[:100]
            await asyncio.Event().wait()

    def move_on_after(share: float) -> anyio.CancelScope:
        shares.append(share)
        return anyio.move_on_after(0.05 if len(shares) == 1 else share)

    setup.server.respond(FIRST, httpx.Response(200, stream=Slow()))
    monkeypatch.setattr(archive_module, "move_on_after", move_on_after)
    with pytest.raises(Retry, match=r"^output 1 of 3: the result did not arrive within 290 seconds$"):
        await archive(TASK, setup.tools())
    assert recorded(setup) == [SECOND, THIRD]
    assert len(setup.files()) == 2
    total = archive_module.TIMEOUT - archive_module.RESERVE
    assert shares[0] == pytest.approx(total / 3, abs=1)
    assert min(shares[1:]) > total / 3


async def test_output_without_an_address_counts(setup: ArchiveSetup) -> None:
    """The number in an error is the position in the task's output, which the client sees."""
    output = [{"type": "text"}, *OUTPUT]
    setup.server.respond(SECOND, httpx.Response(500))
    with pytest.raises(Retry, match=r"^output 3 of 4: "):
        await archive(event(task=view(output=output)), setup.tools())
