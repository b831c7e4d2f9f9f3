"""Store each task's still images on disk, not its inputs in memory, and render its video on the first download."""

import asyncio
import base64
import binascii
import tempfile
from collections import OrderedDict
from functools import cache, partial
from pathlib import Path

import httpx

from service.sandbox import video_rendering as rendering
from service.sandbox.callback_sender import on_loopback
from service.sandbox.http_clients import HttpClients
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task
from service.sandbox.thread_limiter import ThreadLimiter

_TINY = rendering.Shape(width=192, height=108, seconds=1.0)
_MAX_VIDEOS = 256
_MAX_STILLS = 2048
_RENDER_THREADS = 2
_SPOOL_THREADS = 4
_MAX_DOWNLOAD_BYTES = 50 * 1024 * 1024
_DOWNLOAD_TIMEOUT = 10.0


class MediaStore:
    """Accept tasks' media, and return videos and covers, between `open` and `close`."""

    def __init__(self, state: SandboxState, clients: HttpClients) -> None:
        self._state = state
        self._clients = clients
        self._render_threads = ThreadLimiter(_RENDER_THREADS)
        self._spool_threads = ThreadLimiter(_SPOOL_THREADS)
        self._stills: OrderedDict[str, asyncio.Task[list[Path]]] = OrderedDict()
        self._videos: OrderedDict[str, asyncio.Task[Path]] = OrderedDict()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def open(self) -> None:
        """Create the folder for stills and videos."""
        self._folder = tempfile.TemporaryDirectory(prefix="boomerang-sandbox-")
        if self._state.switches.tiny_videos:
            tiny_video()

    async def close(self) -> None:
        """Cancel all work, wait for running threads, and remove the folder."""
        for work in (*self._stills.values(), *self._videos.values()):
            work.cancel()
        await asyncio.gather(*self._stills.values(), *self._videos.values(), return_exceptions=True)
        await self._spool_threads.drain()
        await self._render_threads.drain()
        if self._folder is not None:
            self._folder.cleanup()

    def prepare_stills(self, task: Task, media: tuple[str, ...]) -> None:
        """Start to make stills from the references; with tiny videos, drop the references."""
        if self._state.switches.tiny_videos:
            return
        self._stills[task.id] = asyncio.create_task(self._prepare(task, list(media)))
        if len(self._stills) > _MAX_STILLS:
            _, oldest = self._stills.popitem(last=False)
            oldest.add_done_callback(_remove_stills)

    async def video(self, task: Task, *, watermarked: bool) -> Path | bytes:
        """Return the task's MP4: a file, or the bytes of the tiny video."""
        if self._state.switches.tiny_videos:
            return tiny_video()
        name = f"{task.file_stem}-marked.mp4" if watermarked else f"{task.file_stem}.mp4"
        if name not in self._videos:
            self._videos[name] = asyncio.create_task(self._render(task, self._path(name), watermarked=watermarked))
            if len(self._videos) > _MAX_VIDEOS:
                _, oldest = self._videos.popitem(last=False)
                oldest.add_done_callback(_remove_video)
        self._videos.move_to_end(name)
        return await asyncio.shield(self._videos[name])

    async def cover(self, task: Task) -> bytes:
        """Return a JPEG of the task's first still."""
        stills = await self._stills_of(task)
        return stills[0].read_bytes() if stills else rendering.placeholder(task.number, _shape(task))

    async def _stills_of(self, task: Task) -> list[Path]:
        return await asyncio.shield(self._stills[task.id]) if task.id in self._stills else []

    async def _prepare(self, task: Task, media: list[str]) -> list[Path]:
        """Write all references to disk first, so that none waits in memory for a rendering thread."""
        sources: list[Path] = []
        while media:
            source = self._path(f"{task.file_stem}-{len(sources)}.jpg")
            await self._spool_threads.run(partial(_spool, media[0], await self._download(media.pop(0)), source))
            sources.append(source)
        return [await self._render_threads.run(partial(_still, source, _shape(task))) for source in sources]

    async def _download(self, reference: str) -> bytes:
        """Return the bytes at an address; none if the download fails, is too large or is not allowed."""
        if not reference.startswith(("http://", "https://")):
            return b""
        if not (self._clients.anywhere or self._state.switches.fetch_images or on_loopback(reference)):
            return b""
        content = bytearray()
        try:
            async with self._clients.http.stream("GET", reference, timeout=_DOWNLOAD_TIMEOUT) as response:
                if not response.is_success:
                    return b""
                async for chunk in response.aiter_bytes():
                    content += chunk
                    if len(content) > _MAX_DOWNLOAD_BYTES:
                        return b""
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            return b""
        return bytes(content)

    async def _render(self, task: Task, target: Path, *, watermarked: bool) -> Path:
        shape, spec = _shape(task), task.spec
        paths = await self._stills_of(task)
        corner = spec.wm_position if watermarked else None

        def work() -> Path:
            stills = [path.read_bytes() for path in paths] or [rendering.placeholder(task.number, shape)]
            rendering.render(target, stills, shape, music=spec.bgm, watermark_corner=corner)
            return target

        return await self._render_threads.run(work)

    def _path(self, name: str) -> Path:
        if self._folder is None:
            raise RuntimeError("the sandbox is not running: use `async with sandbox.running()`")
        return Path(self._folder.name) / name


def decode_data_uri(data_uri: str) -> bytes:
    """Return the bytes of a base64 data URI; none if it is invalid."""
    _, _, content = data_uri.partition("base64,")
    try:
        return base64.b64decode(content)
    except (binascii.Error, ValueError):
        return b""


@cache
def tiny_video() -> bytes:
    """Return a small MP4 of one second, rendered once per process."""
    with tempfile.TemporaryDirectory(prefix="boomerang-sandbox-") as folder:
        target = Path(folder) / "tiny.mp4"
        rendering.render(target, [rendering.placeholder(0, _TINY)], _TINY, music=False, watermark_corner=None)
        return target.read_bytes()


def _shape(task: Task) -> rendering.Shape:
    return rendering.Shape.of(task.spec.resolution, task.spec.aspect_ratio, task.spec.seconds)


def _spool(reference: str, downloaded: bytes, source: Path) -> None:
    source.write_bytes(downloaded or decode_data_uri(reference))


def _still(source: Path, shape: rendering.Shape) -> Path:
    """Replace the file by its still, or by a placeholder if it is not readable."""
    try:
        still = rendering.prepare(source.read_bytes(), shape)
    except ValueError:
        still = rendering.placeholder(len(source.stem), shape)
    source.write_bytes(still)
    return source


def _remove_video(done: asyncio.Task[Path]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().unlink(missing_ok=True)


def _remove_stills(done: asyncio.Task[list[Path]]) -> None:
    if not done.cancelled() and done.exception() is None:
        for path in done.result():
            path.unlink(missing_ok=True)
