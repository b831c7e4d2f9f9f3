"""The sandbox's real MP4s: made from the reference images, as long and as large as was asked."""

import asyncio
import gc
import io
import tracemalloc
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from PIL import Image

from service.sandbox import Sandbox, Switches
from service.sandbox.request_checks import RATIOS, RESOLUTIONS
from service.sandbox.video_rendering import Shape, placeholder, prepare, render
from tests.support.sample_media import image, uri, video
from tests.unit.sandbox.test_bench import BEARER, Bench, Receiver, seeded, vtrix_request

RED, BLUE = (220, 20, 20), (20, 20, 220)


def picture(colour: tuple[int, int, int], form: str = "PNG") -> str:
    """Return an image of one colour as a data URI."""
    written = io.BytesIO()
    Image.new("RGB", (320, 240), colour).save(written, form)
    return uri(f"image/{form.lower()}", written.getvalue())


def pixels(film: bytes) -> list[tuple[int, ...]]:
    """Return the colour in the middle of every frame."""
    with av.open(io.BytesIO(film), "r") as opened:
        frames = [frame.to_image() for frame in opened.decode(video=0)]  # type: ignore[no-untyped-call]  # PyAV
    middle = (frames[0].width // 2, frames[0].height // 2)
    return [frame.getpixel(middle) for frame in frames]


def near(colour: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Say whether two colours look the same after compression."""
    return all(abs(one - two) < 40 for one, two in zip(colour, other, strict=True))


def files_in(folder: Path) -> list[Path]:
    """Return everything in a folder and below, files only."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    """Run a sandbox that makes real films, on the real clock."""
    receiver = Receiver()
    transport = httpx.MockTransport(receiver)
    sandbox = Sandbox(Switches(run_time=0), now=lambda: datetime.now(UTC), random=seeded(1), transport=transport)
    asgi = httpx.ASGITransport(sandbox.app)
    async with sandbox.running(), httpx.AsyncClient(transport=asgi, base_url="http://sandbox.test") as client:
        yield Bench(sandbox, client, receiver)


async def content_of(at: Bench, **params: Any) -> dict[str, Any]:
    """Create a task, poll until it is completed, and return its content."""
    task_id = await at.created(**params)
    await at.sandbox.idle()
    content: dict[str, Any] = (await at.poll(task_id)).json()["output"][0]["content"][0]
    return content


async def film_of(at: Bench, **params: Any) -> bytes:
    """Create a task and return its film."""
    reply = await at.client.get((await content_of(at, **params))["url"])
    assert reply.status_code == 200
    return reply.content


def test_every_shape_is_even_and_in_proportion() -> None:
    """The shorter side is the resolution's number, the ratio holds within a pixel, sides are even."""
    for resolution in RESOLUTIONS:
        for ratio in RATIOS:
            shape = Shape.of(resolution, ratio, 5)
            across, down = map(int, ratio.split(":"))
            assert min(shape.width, shape.height) == int(resolution[:-1])
            assert abs(shape.width * down - shape.height * across) <= 2 * max(across, down)
            assert shape.width % 2 == shape.height % 2 == 0


async def test_a_film_has_the_asked_length_size_and_pictures(at: Bench) -> None:
    """Duration, pixels and colours are those of the order: first the first image, last the last."""
    film = await film_of(
        at, images=[picture(RED), picture(BLUE, "WEBP")], duration=3, resolution="540p", aspect_ratio="9:16"
    )
    with av.open(io.BytesIO(film), "r") as opened:
        stream = opened.streams.video[0]
        assert (stream.width, stream.height) == (540, 960)
        assert opened.duration == 3_000_000
        assert not opened.streams.audio
    colours = pixels(film)
    assert near(colours[0], RED)
    assert near(colours[-1], BLUE)


async def test_a_video_reference_is_seen_in_the_film(at: Bench) -> None:
    """The first frame of a video becomes a picture of the film."""
    film = await film_of(at, images=[picture(RED)], videos=[uri("video/mp4", video())], duration=2, resolution="540p")
    assert near(pixels(film)[-1], (0, 80, 80))


async def test_music_is_heard_when_asked_for(at: Bench) -> None:
    """`bgm` adds an AAC track that is no longer than the picture."""
    film = await film_of(at, images=[picture(RED)], duration=2, resolution="540p", bgm=True)
    with av.open(io.BytesIO(film), "r") as opened:
        assert opened.streams.audio[0].codec_context.name == "aac"
        assert opened.duration == 2_000_000
        sound = b"".join(bytes(frame.planes[0]) for frame in opened.decode(audio=0))
    assert sound.strip(b"\0")


async def test_a_watermarked_film_differs_in_its_corner_only(at: Bench) -> None:
    """The mark is written into the ordered corner of the second film."""
    content = await content_of(at, images=[picture(RED)], duration=1, resolution="540p", watermark=True, wm_position=1)
    frames = []
    for name in ("url", "watermarked_url"):
        film = (await at.client.get(content[name])).content
        with av.open(io.BytesIO(film), "r") as opened:
            frames.append(next(opened.decode(video=0)).to_image())  # type: ignore[no-untyped-call]  # PyAV
    (_, plain), (_, marked) = (frame.crop((0, 0, 300, 70)).getchannel("G").getextrema() for frame in frames)
    assert plain < 80
    assert marked > 200
    assert near(frames[1].getpixel((900, 500)), RED)


async def test_references_that_cannot_be_had_become_placeholders(at: Bench) -> None:
    """What is no image, and an address that does not answer, still lead to a film."""
    at.receiver.answer = lambda _number: httpx.Response(404)
    film = await film_of(
        at, images=["data:image/png;base64,AAAA", "data:nonsense", "http://127.0.0.1:1/x.png"], duration=1
    )
    assert len(pixels(film)) == 12


async def test_an_image_address_is_fetched(at: Bench) -> None:
    """Where dialling is allowed, the image at an address is in the film."""
    written = io.BytesIO()
    Image.new("RGB", (200, 200), BLUE).save(written, "JPEG")
    at.receiver.answer = lambda _number: httpx.Response(200, content=written.getvalue())
    film = await film_of(at, images=["https://images.test/blue.jpg"], duration=1, resolution="540p")
    assert near(pixels(film)[0], BLUE)


async def test_a_cover_is_a_jpeg_of_the_first_picture(at: Bench) -> None:
    """Vidu's cover_url serves an image."""
    reply = (await at.create_vidu(images=[picture(RED)])).json()
    await at.sandbox.idle()
    cover = await at.client.get((await at.poll_vidu(reply["task_id"])).json()["creations"][0]["cover_url"])
    with Image.open(io.BytesIO(cover.content)) as opened:
        assert (cover.headers["Content-Type"], opened.format) == ("image/jpeg", "JPEG")
        assert near(opened.getpixel((5, 5)), RED)  # type: ignore[arg-type]  # an RGB image has tuples


async def test_a_film_is_made_once(at: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Downloads at the same time and later ones share one rendering."""
    made: list[Path] = []

    def counted(target: Path, *args: Any, **kwargs: Any) -> None:
        made.append(target)
        render(target, *args, **kwargs)

    monkeypatch.setattr("service.sandbox.video_rendering.render", counted)
    content = await content_of(at, images=[picture(RED)], duration=1, resolution="540p")
    films = await asyncio.gather(*(at.client.get(content["url"]) for _ in range(3)))
    films.append(await at.client.get(content["url"]))
    assert len({film.content for film in films}) == 1
    assert len(made) == 1


async def test_nothing_is_left_on_disk(at: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stills and films go with the sandbox that made them."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox = Sandbox(Switches(run_time=0), now=lambda: datetime.now(UTC), random=seeded(1))
    asgi = httpx.ASGITransport(sandbox.app)
    async with sandbox.running(), httpx.AsyncClient(transport=asgi, base_url="http://sandbox.test") as client:
        await film_of(Bench(sandbox, client, at.receiver), images=[picture(RED)], duration=1)
        assert [path.suffix for path in files_in(tmp_path)] == [".jpg", ".mp4"]
    assert files_in(tmp_path) == []


async def test_a_close_in_the_middle_of_a_film_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sandbox that ends while stills are being made waits for the thread and cleans up."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox = Sandbox(Switches(run_time=0), now=lambda: datetime.now(UTC), random=seeded(1))
    asgi = httpx.ASGITransport(sandbox.app)
    async with sandbox.running(), httpx.AsyncClient(transport=asgi, base_url="http://sandbox.test") as client:
        request = vtrix_request(images=[uri("image/png", image(size=(3000, 3000)))] * 5)
        await client.post("/model/v1/generation", json=request, headers=BEARER)
        await asyncio.sleep(0)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("tiny", [True, False])
async def test_big_inputs_do_not_stay_in_memory(at: Bench, *, tiny: bool) -> None:
    """Once the stills are made, or at once with tiny videos, nothing holds the references."""
    at.sandbox.turn({"tiny_videos": tiny})
    big = picture(RED) + "=" * 5_000_000
    await film_of(at, images=[big], duration=1, resolution="540p")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(4):
            await film_of(at, images=[big + "="], duration=1, resolution="540p")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000_000


@pytest.mark.parametrize("source", [b"", b"no image", image()[:60]])
def test_what_is_no_picture_is_refused(source: bytes) -> None:
    """Bytes that cannot be read raise one kind of error."""
    with pytest.raises(ValueError, match="neither an image nor a video"):
        prepare(source, Shape(width=320, height=180, seconds=1))


@pytest.mark.parametrize("seconds", [1, 10])
def test_a_rendered_film_has_every_frame(tmp_path: Path, seconds: int) -> None:
    """Twelve frames a second, from one still or from seven."""
    shape = Shape(width=160, height=90, seconds=seconds)
    target = tmp_path / "film.mp4"
    render(target, [placeholder(number, shape) for number in range(7)], shape, music=True, watermark_corner=2)
    assert len(pixels(target.read_bytes())) == 12 * seconds
