"""The archive's directory: what stands there already, what never ends, and what it is called."""

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

from tests.security.catalogue import add, hold, peak
from tests.security.environment import HOST, Json, completed, ground
from tests.security.on_archive import Serve, serving_results
from tests.support.sample_media import video

MB = 1024 * 1024
FILM = video("mp4")
OTHER = video("mp4", frames=20)
Prepare = Callable[[Path, Path], object]
"""Gets the file's final place and a directory outside of the archive, before the result comes."""


def _good(_: Request) -> Response:
    return Response(FILM, media_type="video/mp4")


async def _stream(pause: float) -> AsyncIterator[bytes]:
    yield FILM[: FILM.index(b"mdat") - 4] + b"\0\0\0\0mdat"  # it goes on to the end of the file
    while True:
        yield b"\0" * (65536 if not pause else 1)
        await (anyio.sleep(pause) if pause else anyio.lowlevel.checkpoint())


def _victim(outside: Path, content: bytes = b"precious") -> Path:
    path = outside / "victim"
    path.write_bytes(content)
    return path


STANDING: dict[str, Prepare] = {
    "a link to a file elsewhere": lambda place, outside: place.symlink_to(_victim(outside)),
    "a link to a film elsewhere": lambda place, outside: place.symlink_to(_victim(outside, OTHER)),
    "a hard link to a file elsewhere": lambda place, outside: place.hardlink_to(_victim(outside)),
    "a link to nothing": lambda place, outside: place.symlink_to(outside / "nowhere"),
    "a link to a device": lambda place, _: place.symlink_to("/dev/zero"),
    "a pipe that nobody writes to": lambda place, _: os.mkfifo(place),
    "half a film": lambda place, _: place.write_bytes(FILM[:200]),
}


async def _kept(home: Path, serve: Serve, prepare: Prepare, **said: str) -> tuple[Json, Path, Path]:
    """Let a result be archived; return the delivery, the final place and the directory outside."""
    folder, outside = home / "archive" / "videos", home / "outside"
    folder.mkdir(parents=True)
    outside.mkdir()
    async with serving_results(serve) as url:
        more = {"ARCHIVE_URL": folder.as_uri(), "EGRESS_ALLOW": HOST}
        async with ground(home, **more) as g:
            task = await g.submit()
            place = folder / f"{task['id']}.mp4"
            prepare(place, outside)
            body = completed("up1", url + said.pop("path", "/film.mp4"))
            body["output"][0]["content"][0] |= said
            g.upstream.polled = lambda _: JSONResponse(body)
            await g.call_back(g.token(), completed("up1"))
            with anyio.fail_after(50):
                while not (rows := await _tried(g.http)):  # noqa: ASYNC110 - the service has no event to wait for
                    await anyio.sleep(0.02)
    return rows[0], place, outside


async def _tried(http: Any) -> list[Json]:
    rows = (await http.get("/v1/deliveries?handler=archive")).json()["data"]
    return [row for row in rows if row["attempts"]]


async def _in_the_way(home: Path, prepare: Prepare) -> str:
    """Put something where the file will stand: it is not followed, not waited for and not taken for ours."""
    row, place, outside = await _kept(home, _good, prepare)
    victims = {path.name: path.read_bytes() for path in outside.iterdir()}
    hold(set(victims.values()) <= {b"precious", OTHER}, "what it leads to was overwritten")
    hold(row["status"] == "delivered", f"it is {row['status']}: {row['last_error']}")
    hold(place.is_file() and not place.is_symlink(), "it still leads elsewhere")
    hold(place.read_bytes() == FILM, "it is not the film")
    hold([path.name for path in place.parent.iterdir()] == [place.name], "something is left beside it")
    return "replaced by the film, what it led to is untouched" if victims else "replaced by the film"


def _standing(name: str, prepare: Prepare) -> None:
    async def play(home: Path) -> str:
        return await _in_the_way(home, prepare)

    add("archive", f"{name} at the final place", play)


for _name, _prepare in STANDING.items():
    _standing(_name, _prepare)


@contextmanager
def _hasty(*, seconds: float = 900.0, most: int = 2 * 1024 * MB) -> Iterator[None]:
    """Narrow the archive's limits inside the block, so that nobody waits for gigabytes or quarters of an hour."""
    import handlers.archive as module  # noqa: PLC0415 - the module that the service has loaded by now

    registered = module.handlers._handlers
    whole = registered["archive"]
    registered["archive"] = replace(whole, timeout=seconds)
    try:
        with patch.object(module, "MAX_BYTES", most):
            yield
    finally:
        registered["archive"] = whole


class Filling:
    """A file on a disk that is full after `room` bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self._file = file
        self._room = room

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    async def __aenter__(self) -> "Filling":
        await self._file.__aenter__()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self._file.__aexit__(*error)

    async def write(self, data: bytes) -> int:
        """Write, while there is room."""
        self._room -= len(data)
        if self._room < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written: int = await self._file.write(data)
        return written


@contextmanager
def _full_disk(room: int) -> Iterator[None]:
    real = anyio.open_file

    async def opened(path: Any, *more: Any) -> Any:
        return Filling(await real(path, *more), room)

    with patch.object(anyio, "open_file", opened):
        yield


async def _given_up(home: Path, serve: Serve, error: str) -> str:
    """Send what cannot be kept: nothing of it stays, and the reason is told."""
    with peak() as memory:
        row, place, _ = await _kept(home, serve, lambda *_: None)
    hold(row["status"] != "delivered", "it was taken for kept")
    hold(error in row["last_error"], f"told: {row['last_error']}")
    hold(list(place.parent.iterdir()) == [], "something stays in the directory")
    hold(memory[0] < 32 * MB, f"{memory[0] // MB} MB were taken")
    return str(row["last_error"])[:100]


async def _endless(home: Path) -> str:
    with _hasty(most=4 * MB):
        return await _given_up(home, lambda _: StreamingResponse(_stream(0)), "larger than")


async def _dripping(home: Path) -> str:
    with _hasty(seconds=2.0):
        return await _given_up(home, lambda _: StreamingResponse(_stream(0.1)), "no end within")


async def _full(home: Path) -> str:
    with _full_disk(1000):
        return await _given_up(home, _good, "No space left")


add("archive", "a film without end", _endless)
add("archive", "a film without end, slowly", _dripping)
add("archive", "a disk that fills up in the middle", _full)


def _called(name: str) -> Serve:
    return lambda _: Response(FILM, headers={"Content-Disposition": f'attachment; filename="{name}"'})


NAMED: dict[str, tuple[Serve, dict[str, str]]] = {
    "an address with path parts": (_good, {"path": "/..%2f..%2foutside%2fx.mp4"}),
    "an address with a NUL and a line break": (_good, {"path": "/a%00%0a../../outside/x.mp4"}),
    "Content-Disposition with path parts": (_called("../../outside/x.mp4"), {}),
    "Content-Disposition with an absolute path": (_called("/etc/cron.d/x"), {}),
    "Content-Disposition of 60,000 characters": (_called("x" * 60_000), {}),
    "a job id with path parts": (_good, {"jobId": "../../outside/x"}),
    "a page of HTML in a box that players skip": (
        lambda _: Response(FILM + (48).to_bytes(4, "big") + b"free<script>alert(document.cookie)</script>".ljust(44)),
        {},
    ),
}  # fmt: skip


async def _named(home: Path, serve: Serve, said: dict[str, str]) -> str:
    """Call the result what it should not be called: the file's name comes from the task's id alone."""
    row, place, outside = await _kept(home, serve, lambda *_: None, **said)
    hold(list(outside.iterdir()) == [], "a file was written elsewhere")
    hold([path.name for path in (home / "archive").iterdir()] == ["videos"], "a file was written beside the archive")
    found = [path.name for path in place.parent.iterdir()]
    hold(found in ([], [place.name]), f"it is called {found}")
    return "kept as {task id}.mp4" if found else str(row["last_error"])[:100]


def _name_it(name: str, serve: Serve, said: dict[str, str]) -> None:
    async def play(home: Path) -> str:
        return await _named(home, serve, dict(said))

    add("archive", name, play)


for _name, (_serve, _said) in NAMED.items():
    _name_it(_name, _serve, _said)


async def _zipped(home: Path) -> str:
    return await _given_up(home, lambda _: Response(FILM + b"PK\x03\x04" + b"\0" * 200), "cut off")


add("archive", "a ZIP behind an MP4", _zipped)
