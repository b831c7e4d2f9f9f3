"""The sandbox's MP4s: rendered from the reference images with the requested length and size."""

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


def pixels(mp4: bytes) -> list[tuple[int, ...]]:
    """Return the colour in the middle of every frame."""
    with av.open(io.BytesIO(mp4), "r") as opened:
        frames = [frame.to_image() for frame in opened.decode(video=0)]  # type: ignore[no-untyped-call]  # PyAV
    middle = (frames[0].width // 2, frames[0].height // 2)
    return [frame.getpixel(middle) for frame in frames]


def near(colour: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether two colours look the same after compression."""
    return all(abs(one - two) < 40 for one, two in zip(colour, other, strict=True))


def files_in(folder: Path) -> list[Path]:
    """Return all files in a folder and its subfolders."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


@pytest.fixture
async def at() -> AsyncIterator[Bench]:
    """Run a sandbox that renders real videos, on the real clock."""
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


async def video_of(at: Bench, **params: Any) -> bytes:
    """Create a task and return its video."""
    reply = await at.client.get((await content_of(at, **params))["url"])
    assert reply.status_code == 200
    return reply.content


def test_every_shape_is_even_and_in_proportion() -> None:
    """The shorter side is the resolution's number, the ratio is exact within a pixel, and the sides are even."""
    for resolution in RESOLUTIONS:
        for ratio in RATIOS:
            shape = Shape.of(resolution, ratio, 5)
            across, down = map(int, ratio.split(":"))
            assert min(shape.width, shape.height) == int(resolution[:-1])
            assert abs(shape.width * down - shape.height * across) <= 2 * max(across, down)
            assert shape.width % 2 == shape.height % 2 == 0


async def test_video_has_the_requested_length_size_and_images(at: Bench) -> None:
    """Duration, size and colours match the request: the first image comes first, the last image last."""
    mp4 = await video_of(
        at, images=[picture(RED), picture(BLUE, "WEBP")], duration=3, resolution="540p", aspect_ratio="9:16"
    )
    with av.open(io.BytesIO(mp4), "r") as opened:
        stream = opened.streams.video[0]
        assert (stream.width, stream.height) == (540, 960)
        assert opened.duration == 3_000_000
        assert not opened.streams.audio
    colours = pixels(mp4)
    assert near(colours[0], RED)
    assert near(colours[-1], BLUE)


async def test_video_reference_is_visible_in_the_video(at: Bench) -> None:
    """The first frame of a reference video becomes a still."""
    mp4 = await video_of(at, images=[picture(RED)], videos=[uri("video/mp4", video())], duration=2, resolution="540p")
    assert near(pixels(mp4)[-1], (0, 80, 80))


async def test_bgm_adds_an_audio_track(at: Bench) -> None:
    """`bgm` adds an AAC track that is no longer than the video."""
    mp4 = await video_of(at, images=[picture(RED)], duration=2, resolution="540p", bgm=True)
    with av.open(io.BytesIO(mp4), "r") as opened:
        assert opened.streams.audio[0].codec_context.name == "aac"
        assert opened.duration == 2_000_000
        sound = b"".join(bytes(frame.planes[0]) for frame in opened.decode(audio=0))
    assert sound.strip(b"\0")


async def test_watermarked_video_differs_in_its_corner_only(at: Bench) -> None:
    """The watermark is in the requested corner of the second video."""
    content = await content_of(at, images=[picture(RED)], duration=1, resolution="540p", watermark=True, wm_position=1)
    frames = []
    for name in ("url", "watermarked_url"):
        mp4 = (await at.client.get(content[name])).content
        with av.open(io.BytesIO(mp4), "r") as opened:
            frames.append(next(opened.decode(video=0)).to_image())  # type: ignore[no-untyped-call]  # PyAV
    (_, plain), (_, marked) = (frame.crop((0, 0, 300, 70)).getchannel("G").getextrema() for frame in frames)
    assert plain < 80
    assert marked > 200
    assert near(frames[1].getpixel((900, 500)), RED)


async def test_unavailable_references_become_placeholders(at: Bench) -> None:
    """Invalid images and addresses without a response still give a video."""
    at.receiver.answer = lambda _number: httpx.Response(404)
    mp4 = await video_of(
        at, images=["data:image/png;base64,AAAA", "data:nonsense", "http://127.0.0.1:1/x.png"], duration=1
    )
    assert len(pixels(mp4)) == 12


async def test_image_address_is_downloaded(at: Bench) -> None:
    """If downloads are allowed, the video shows the image at an address."""
    written = io.BytesIO()
    Image.new("RGB", (200, 200), BLUE).save(written, "JPEG")
    at.receiver.answer = lambda _number: httpx.Response(200, content=written.getvalue())
    mp4 = await video_of(at, images=["https://images.test/blue.jpg"], duration=1, resolution="540p")
    assert near(pixels(mp4)[0], BLUE)


async def test_cover_is_a_jpeg_of_the_first_image(at: Bench) -> None:
    """Vidu's cover_url serves an image."""
    reply = (await at.create_vidu(images=[picture(RED)])).json()
    await at.sandbox.idle()
    cover = await at.client.get((await at.poll_vidu(reply["task_id"])).json()["creations"][0]["cover_url"])
    with Image.open(io.BytesIO(cover.content)) as opened:
        assert (cover.headers["Content-Type"], opened.format) == ("image/jpeg", "JPEG")
        assert near(opened.getpixel((5, 5)), RED)  # type: ignore[arg-type]  # an RGB image has tuples


async def test_video_is_rendered_once(at: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Simultaneous and later downloads share one rendering."""
    rendered: list[Path] = []

    def counted(target: Path, *args: Any, **kwargs: Any) -> None:
        rendered.append(target)
        render(target, *args, **kwargs)

    monkeypatch.setattr("service.sandbox.video_rendering.render", counted)
    content = await content_of(at, images=[picture(RED)], duration=1, resolution="540p")
    downloads = await asyncio.gather(*(at.client.get(content["url"]) for _ in range(3)))
    downloads.append(await at.client.get(content["url"]))
    assert len({download.content for download in downloads}) == 1
    assert len(rendered) == 1


async def test_no_file_remains_on_disk(at: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Stills and videos are removed when the sandbox ends."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox = Sandbox(Switches(run_time=0), now=lambda: datetime.now(UTC), random=seeded(1))
    asgi = httpx.ASGITransport(sandbox.app)
    async with sandbox.running(), httpx.AsyncClient(transport=asgi, base_url="http://sandbox.test") as client:
        await video_of(Bench(sandbox, client, at.receiver), images=[picture(RED)], duration=1)
        assert [path.suffix for path in files_in(tmp_path)] == [".jpg", ".mp4"]
    assert files_in(tmp_path) == []


async def test_close_during_rendering_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A sandbox that ends while it prepares stills waits for the thread and removes the files."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    sandbox = Sandbox(Switches(run_time=0), now=lambda: datetime.now(UTC), random=seeded(1))
    asgi = httpx.ASGITransport(sandbox.app)
    async with sandbox.running(), httpx.AsyncClient(transport=asgi, base_url="http://sandbox.test") as client:
        request = vtrix_request(images=[uri("image/png", image(size=(3000, 3000)))] * 5)
        await client.post("/model/v1/generation", json=request, headers=BEARER)
        await asyncio.sleep(0)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("tiny", [True, False])
async def test_large_inputs_are_released_from_memory(at: Bench, *, tiny: bool) -> None:
    """Nothing references the inputs after the stills are made, or at once with tiny videos."""
    at.sandbox.turn({"tiny_videos": tiny})
    big = picture(RED) + "=" * 5_000_000
    await video_of(at, images=[big], duration=1, resolution="540p")
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(4):
            await video_of(at, images=[big + "="], duration=1, resolution="540p")
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 2_000_000


@pytest.mark.parametrize("source", [b"", b"no image", image()[:60]])
def test_invalid_image_is_refused(source: bytes) -> None:
    """Unreadable bytes raise one kind of error."""
    with pytest.raises(ValueError, match="neither an image nor a video"):
        prepare(source, Shape(width=320, height=180, seconds=1))


@pytest.mark.parametrize("seconds", [1, 10])
def test_rendered_video_has_every_frame(tmp_path: Path, seconds: int) -> None:
    """Twelve frames per second, from one still or from seven."""
    shape = Shape(width=160, height=90, seconds=seconds)
    target = tmp_path / "video.mp4"
    render(target, [placeholder(number, shape) for number in range(7)], shape, music=True, watermark_corner=2)
    assert len(pixels(target.read_bytes())) == 12 * seconds
