"""The directory of the archive: existing files, endless results and file names."""

import errno
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import anyio
import anyio.lowlevel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from tests.security.catalogue import add, peak, require
from tests.security.environment import HOST, ROOT, Json, bearer, completed, service_under_test
from tests.security.on_archive import Serve, serving_results
from tests.support.sample_media import video

MB = 1024 * 1024
VIDEO = video("mp4")
OTHER_VIDEO = video("mp4", frames=20)
Prepare = Callable[[Path, Path], object]
"""Prepares the final path of the file and a directory outside of the archive, before the result arrives."""


def _valid(_: Request) -> Response:
    return Response(VIDEO, media_type="video/mp4")


async def _stream(pause: float) -> AsyncIterator[bytes]:
    yield VIDEO[: VIDEO.index(b"mdat") - 4] + b"\0\0\0\0mdat"  # the box extends to the end of the file
    while True:
        yield b"\0" * (65536 if not pause else 1)
        await (anyio.sleep(pause) if pause else anyio.lowlevel.checkpoint())


def _victim(outside: Path, content: bytes = b"precious") -> Path:
    path = outside / "victim"
    path.write_bytes(content)
    return path


EXISTING: dict[str, Prepare] = {
    "a link to a file elsewhere": lambda target, outside: target.symlink_to(_victim(outside)),
    "a link to a video elsewhere": lambda target, outside: target.symlink_to(_victim(outside, OTHER_VIDEO)),
    "a hard link to a file elsewhere": lambda target, outside: target.hardlink_to(_victim(outside)),
    "a link to nothing": lambda target, outside: target.symlink_to(outside / "nowhere"),
    "a link to a device": lambda target, _: target.symlink_to("/dev/zero"),
    "a pipe that nobody writes to": lambda target, _: os.mkfifo(target),
    "half a video": lambda target, _: target.write_bytes(VIDEO[:200]),
}


async def _archive_result(home: Path, serve: Serve, prepare: Prepare, **output: str) -> tuple[Json, Path, Path]:
    """Archive a result; return the delivery, the final path and the directory outside."""
    folder, outside = home / "archive" / "videos", home / "outside"
    folder.mkdir(parents=True)
    outside.mkdir()
    async with serving_results(serve) as url:
        more = {"ARCHIVE_URL": folder.as_uri(), "EGRESS_ALLOW": HOST}
        async with service_under_test(home, **more) as g:
            task = await g.submit()
            target = folder / f"{task['id']}.mp4"
            prepare(target, outside)
            body = completed("up1", url + output.pop("path", "/video.mp4"))
            body["output"][0]["content"][0] |= output
            g.upstream.poll_reply = lambda _: JSONResponse(body)
            await g.call_back(g.token(), completed("up1"))
            with anyio.fail_after(50):
                while not (rows := await _attempted(g.http)):  # noqa: ASYNC110 - the service has no event to wait for
                    await anyio.sleep(0.02)
    return rows[0], target, outside


async def _attempted(http: Any) -> list[Json]:
    rows = (await http.get("/v1/deliveries?handler=archive", headers=bearer(ROOT))).json()["data"]
    return [row for row in rows if row["attempts"]]


async def _replace_existing(home: Path, prepare: Prepare) -> str:
    """Create something at the final path: it is not followed, not waited for and not accepted as the result."""
    row, target, outside = await _archive_result(home, _valid, prepare)
    victims = {path.name: path.read_bytes() for path in outside.iterdir()}
    require(set(victims.values()) <= {b"precious", OTHER_VIDEO}, "its target was overwritten")
    require(row["status"] == "delivered", f"it is {row['status']}: {row['last_error']}")
    require(target.is_file() and not target.is_symlink(), "it is still a link")
    require(target.read_bytes() == VIDEO, "it is not the video")
    require([path.name for path in target.parent.iterdir()] == [target.name], "another file remains beside it")
    return "replaced by the video, its target is unchanged" if victims else "replaced by the video"


def _add_existing(name: str, prepare: Prepare) -> None:
    async def run(home: Path) -> str:
        return await _replace_existing(home, prepare)

    add("archive", f"{name} at the final path", run)


for _name, _prepare in EXISTING.items():
    _add_existing(_name, _prepare)


@contextmanager
def _small_limits(*, seconds: float = 900.0, max_bytes: int = 2 * 1024 * MB) -> Iterator[None]:
    """Reduce the limits of the archive inside the block, so that the test is short."""
    import handlers._result_files as files  # noqa: PLC0415 - see the next line
    import handlers.archive as module  # noqa: PLC0415 - the module that the service has loaded

    registered = module.handlers._handlers
    original = registered["archive"]
    registered["archive"] = replace(original, timeout=seconds)
    try:
        with patch.object(files, "MAX_BYTES", max_bytes):
            yield
    finally:
        registered["archive"] = original


class FullDiskFile:
    """A file on a disk that is full after `capacity` bytes."""

    def __init__(self, file: Any, capacity: int) -> None:
        self._file = file
        self._capacity = capacity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    async def __aenter__(self) -> "FullDiskFile":
        await self._file.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._file.__aexit__(*error)

    async def write(self, data: bytes) -> int:
        """Write data; raise OSError when the disk is full."""
        self._capacity -= len(data)
        if self._capacity < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written: int = await self._file.write(data)
        return written


@contextmanager
def _full_disk(capacity: int) -> Iterator[None]:
    real = anyio.open_file

    async def opened(path: Any, *more: Any) -> Any:
        return FullDiskFile(await real(path, *more), capacity)

    with patch.object(anyio, "open_file", opened):
        yield


async def _rejected(home: Path, serve: Serve, error: str) -> str:
    """Send a result that cannot be archived: no file remains, and the delivery has the reason."""
    with peak() as memory:
        row, target, _ = await _archive_result(home, serve, lambda *_: None)
    require(row["status"] != "delivered", "it was archived")
    require(error in row["last_error"], f"the error is: {row['last_error']}")
    require(list(target.parent.iterdir()) == [], "a file remains in the directory")
    require(memory[0] < 32 * MB, f"{memory[0] // MB} MB were taken")
    return str(row["last_error"])[:100]


async def _endless(home: Path) -> str:
    with _small_limits(max_bytes=4 * MB):
        return await _rejected(home, lambda _: StreamingResponse(_stream(0)), "larger than")


async def _slow_stream(home: Path) -> str:
    with _small_limits(seconds=2.0):
        return await _rejected(home, lambda _: StreamingResponse(_stream(0.1)), "no end within")


async def _full(home: Path) -> str:
    with _full_disk(1000):
        return await _rejected(home, _valid, "No space left")


add("archive", "a video without end", _endless)
add("archive", "a video without end, slowly", _slow_stream)
add("archive", "a disk that fills up in the middle", _full)


def _named_response(name: str) -> Serve:
    return lambda _: Response(VIDEO, headers={"Content-Disposition": f'attachment; filename="{name}"'})


NAMED: dict[str, tuple[Serve, dict[str, str]]] = {
    "an address with path parts": (_valid, {"path": "/..%2f..%2foutside%2fx.mp4"}),
    "an address with a NUL and a line break": (_valid, {"path": "/a%00%0a../../outside/x.mp4"}),
    "Content-Disposition with path parts": (_named_response("../../outside/x.mp4"), {}),
    "Content-Disposition with an absolute path": (_named_response("/etc/cron.d/x"), {}),
    "Content-Disposition of 60,000 characters": (_named_response("x" * 60_000), {}),
    "a job id with path parts": (_valid, {"jobId": "../../outside/x"}),
    "a page of HTML in a box that players skip": (
        lambda _: Response(VIDEO + (48).to_bytes(4, "big") + b"free<script>alert(document.cookie)</script>".ljust(44)),
        {},
    ),
    "a ZIP behind an MP4": (lambda _: Response(VIDEO + b"PK\x03\x04" + b"\0" * 200), {}),
}  # fmt: skip


async def _named(home: Path, serve: Serve, output: dict[str, str]) -> str:
    """Send a hostile file name: the name of the file is made from the task id only."""
    row, target, outside = await _archive_result(home, serve, lambda *_: None, **output)
    require(list(outside.iterdir()) == [], "a file was written elsewhere")
    require([path.name for path in (home / "archive").iterdir()] == ["videos"], "a file was written beside the archive")
    found = [path.name for path in target.parent.iterdir()]
    require(found in ([], [target.name]), f"it is called {found}")
    return "archived as {task id}.mp4" if found else str(row["last_error"])[:100]


def _add_named(name: str, serve: Serve, output: dict[str, str]) -> None:
    async def run(home: Path) -> str:
        return await _named(home, serve, dict(output))

    add("archive", name, run)


for _name, (_serve, _output) in NAMED.items():
    _add_named(_name, _serve, _output)
