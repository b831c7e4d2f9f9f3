"""Keep each task's stills on disk instead of its inputs in memory, and make its film when somebody wants it."""

import asyncio
import base64
import binascii
import tempfile
from collections import OrderedDict
from functools import cache, partial
from pathlib import Path

import httpx

from service.sandbox import video_rendering as movie
from service.sandbox.callback_sender import on_loopback
from service.sandbox.http_clients import HttpClients
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task
from service.sandbox.thread_limiter import ThreadLimiter

_TINY = movie.Shape(width=192, height=108, seconds=1.0)
_FILMS_KEPT = 256
_STILLS_KEPT = 2048
_FILMS_AT_ONCE = 2
_SPOOLS_AT_ONCE = 4
_LARGEST_FETCH = 50 * 1024 * 1024
_FETCH_TIMEOUT = 10.0


class MediaStore:
    """Take tasks' media in, and give films and covers out; use it between `open` and `close`."""

    def __init__(self, state: SandboxState, clients: HttpClients) -> None:
        self._state = state
        self._clients = clients
        self._render_threads = ThreadLimiter(_FILMS_AT_ONCE)
        self._spool_threads = ThreadLimiter(_SPOOLS_AT_ONCE)
        self._stills: OrderedDict[str, asyncio.Task[list[Path]]] = OrderedDict()
        self._videos: OrderedDict[str, asyncio.Task[Path]] = OrderedDict()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def open(self) -> None:
        """Make the folder for stills and films."""
        self._folder = tempfile.TemporaryDirectory(prefix="boomerang-sandbox-")
        if self._state.switches.tiny_videos:
            tiny_video()

    async def close(self) -> None:
        """Wait for the threads in hand, give up the rest, and remove the folder."""
        for work in (*self._stills.values(), *self._videos.values()):
            work.cancel()
        await asyncio.gather(*self._stills.values(), *self._videos.values(), return_exceptions=True)
        await self._spool_threads.drain()
        await self._render_threads.drain()
        if self._folder is not None:
            self._folder.cleanup()

    def prepare_stills(self, task: Task, media: tuple[str, ...]) -> None:
        """Start to turn references into stills; with tiny videos drop them at once."""
        if self._state.switches.tiny_videos:
            return
        self._stills[task.id] = asyncio.create_task(self._prepare(task, list(media)))
        if len(self._stills) > _STILLS_KEPT:
            _, oldest = self._stills.popitem(last=False)
            oldest.add_done_callback(_remove_stills)

    async def video(self, task: Task, *, marked: bool) -> Path | bytes:
        """Return the task's MP4: a file, or the bytes of the tiny one."""
        if self._state.switches.tiny_videos:
            return tiny_video()
        name = f"{task.id}-marked.mp4" if marked else f"{task.id}.mp4"
        if name not in self._videos:
            self._videos[name] = asyncio.create_task(self._render(task, self._path(name), marked=marked))
            self._bound_films()
        self._videos.move_to_end(name)
        return await asyncio.shield(self._videos[name])

    async def cover(self, task: Task) -> bytes:
        """Return a JPEG of the task's first still."""
        shape = _shape(task)
        stills = await asyncio.shield(self._stills[task.id]) if task.id in self._stills else []
        return stills[0].read_bytes() if stills else movie.placeholder(task.number, shape)

    async def _prepare(self, task: Task, media: list[str]) -> list[Path]:
        """Put the references on disk first, so that none of them waits in memory for its turn."""
        sources = await self._spooled(task, media)
        return [await self._render_threads.run(partial(_still, source, _shape(task))) for source in sources]

    async def _spooled(self, task: Task, media: list[str]) -> list[Path]:
        sources: list[Path] = []
        while media:
            source = self._path(f"{task.id}-{len(sources)}.jpg")
            await self._spool_threads.run(
                partial(_spool, media[0], await self._download_or_empty(media.pop(0)), source)
            )
            sources.append(source)
        return sources

    async def _download_or_empty(self, reference: str) -> bytes:
        """Return the bytes at an address, none when they cannot or may not be had."""
        if not reference.startswith(("http://", "https://")):
            return b""
        if not (self._clients.anywhere or self._state.switches.fetch_images or on_loopback(reference)):
            return b""
        try:
            return await self._download(reference)
        except (httpx.HTTPError, httpx.InvalidURL, OSError):
            return b""

    async def _download(self, address: str) -> bytes:
        content = bytearray()
        async with self._clients.http.stream("GET", address, timeout=_FETCH_TIMEOUT) as answer:
            if not answer.is_success:
                return b""
            async for chunk in answer.aiter_bytes():
                content += chunk
                if len(content) > _LARGEST_FETCH:
                    return b""
        return bytes(content)

    async def _render(self, task: Task, target: Path, *, marked: bool) -> Path:
        shape, spec = _shape(task), task.spec
        paths = await asyncio.shield(self._stills[task.id]) if task.id in self._stills else []
        mark = spec.wm_position if marked else None

        def work() -> Path:
            stills = [path.read_bytes() for path in paths] or [movie.placeholder(task.number, shape)]
            movie.render(target, stills, shape, music=spec.bgm, mark=mark)
            return target

        return await self._render_threads.run(work)

    def _path(self, name: str) -> Path:
        if self._folder is None:
            raise RuntimeError("the sandbox is not running: use `async with sandbox.running()`")
        return Path(self._folder.name) / name

    def _bound_films(self) -> None:
        if len(self._videos) > _FILMS_KEPT:
            _, oldest = self._videos.popitem(last=False)
            oldest.add_done_callback(_remove_film)


def decoded(data_uri: str) -> bytes:
    """Return the bytes of a base64 data URI, none when it cannot be read."""
    _, _, content = data_uri.partition("base64,")
    try:
        return base64.b64decode(content)
    except (binascii.Error, ValueError):
        return b""


@cache
def tiny_video() -> bytes:
    """Return one small MP4 of a second, made once a process."""
    with tempfile.TemporaryDirectory(prefix="boomerang-sandbox-") as folder:
        target = Path(folder) / "tiny.mp4"
        movie.render(target, [movie.placeholder(0, _TINY)], _TINY, music=False, mark=None)
        return target.read_bytes()


def _shape(task: Task) -> movie.Shape:
    return movie.Shape.of(task.spec.resolution, task.spec.aspect_ratio, task.spec.seconds)


def _spool(reference: str, fetched: bytes, source: Path) -> None:
    source.write_bytes(fetched or decoded(reference))


def _still(source: Path, shape: movie.Shape) -> Path:
    """Make a still of the file in its place; what cannot be read becomes a placeholder."""
    try:
        still = movie.prepare(source.read_bytes(), shape)
    except ValueError:
        still = movie.placeholder(len(source.stem), shape)
    source.write_bytes(still)
    return source


def _remove_film(done: asyncio.Task[Path]) -> None:
    if not done.cancelled() and done.exception() is None:
        done.result().unlink(missing_ok=True)


def _remove_stills(done: asyncio.Task[list[Path]]) -> None:
    if not done.cancelled() and done.exception() is None:
        for path in done.result():
            path.unlink(missing_ok=True)
