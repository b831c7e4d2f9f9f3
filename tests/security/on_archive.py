"""Results of another type than declared, and addresses inside the network."""

import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.lowlevel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from service.api.server import listen, serving
from tests.security.catalogue import add, peak, require
from tests.security.environment import HOST, ROOT, ServiceUnderTest, bearer, completed, service_under_test
from tests.support.bombs import gzip_bomb

MB = 1024 * 1024
Serve = Callable[[Request], Response]


def _box(name: bytes, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return struct.pack(">I", 8 + len(body)) + name + body


def false_mp4(samples: int) -> bytes:
    """Return a small MP4 whose sample table declares `samples` samples of one size in one chunk."""
    full = b"\0\0\0\0"
    table = _box(
        b"stbl",
        _box(
            b"stsd",
            full,
            struct.pack(">I", 1),
            _box(b"mp4v", b"\0" * 6 + b"\0\1" + b"\0" * 16, struct.pack(">HH", 320, 240), b"\0" * 50),
        ),
        _box(b"stts", full, struct.pack(">III", 1, samples, 1)),
        _box(b"stsc", full, struct.pack(">IIII", 1, 1, samples, 1)),
        _box(b"stsz", full, struct.pack(">II", 1, samples)),
        _box(b"stco", full, struct.pack(">II", 1, 0)),
    )
    mdhd = _box(b"mdhd", full, struct.pack(">IIII", 0, 0, 25, 25), b"\0" * 4)
    hdlr = _box(b"hdlr", full, b"\0\0\0\0vide", b"\0" * 13)
    minf = _box(b"minf", _box(b"vmhd", b"\0\0\0\1", b"\0" * 8), table)
    tkhd = _box(b"tkhd", b"\0\0\0\3", struct.pack(">III", 0, 0, 1), b"\0" * 72)
    mvhd = _box(b"mvhd", full, struct.pack(">IIII", 0, 0, 25, 25), b"\0" * 80)
    moov = _box(b"moov", mvhd, _box(b"trak", tkhd, _box(b"mdia", mdhd, hdlr, minf)))
    return _box(b"ftyp", b"isom\0\0\2\0isom") + moov + _box(b"mdat", b"\0" * 64)


async def _stream(head: bytes) -> AsyncIterator[bytes]:
    yield head
    while True:
        yield b"\0" * 65536
        await anyio.lowlevel.checkpoint()


def _plain(body: bytes, **headers: str) -> Serve:
    return lambda _: Response(body, headers={name.replace("_", "-"): text for name, text in headers.items()})


RESULTS: dict[str, Serve] = {
    "a page of HTML": _plain(b"<html><script>alert(1)</script></html>" * 10, content_type="video/mp4"),
    "nothing": _plain(b""),
    "a gzip bomb": _plain(gzip_bomb(b"\0", 100) * 3, content_encoding="gzip"),
    "an MP4 whose table claims two million samples": _plain(false_mp4(2_000_001)),
    "an MP4 whose table claims 60 million samples": _plain(false_mp4(60_000_000)),
    "an MP4 cut in the middle": _plain(false_mp4(1)[:-70]),
    "a list of other files (HLS)": _plain(b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/passwd\n" * 3),
    "a list of other files (concat)": _plain(b"ffconcat version 1.0\nfile /etc/passwd\n" * 3),
    "an image in place of a video": _plain(b"\x89PNG\r\n\x1a\n" + b"\0" * 20 + b"IEND\xaeB`\x82"),
    "10 GB announced": lambda _: StreamingResponse(_stream(false_mp4(1)), headers={"Content-Length": str(10**10)}),
    "a hundred redirects": lambda request: RedirectResponse(f"/{len(request.url.path)}{request.url.path}"),
    "a redirect to the metadata service": lambda _: RedirectResponse("http://169.254.169.254/latest/meta-data/"),
    "a redirect to a file": lambda _: RedirectResponse("file:///etc/passwd"),
    "a redirect to [::1]": lambda _: RedirectResponse("http://[::1]:1/x"),
}


@asynccontextmanager
async def serving_results(serve: Serve) -> AsyncIterator[str]:
    """Run a server of results inside the block."""

    async def reply(request: Request) -> Response:
        return serve(request)

    app = Starlette(routes=[Route("/{path:path}", reply, methods=["GET", "POST"])])
    async with serving(app, listen(HOST, 0), grace=0) as url:
        yield url


async def _delivery_error(g: ServiceUnderTest, url: str, handler: str, notify: list[dict[str, str]]) -> str:
    """Complete a task with this result, and return the error of its delivery to `handler`."""
    task = await g.submit(notify=notify)
    g.upstream.poll_reply = lambda _: JSONResponse(completed("up1", url))
    await g.call_back(g.token(), completed("up1"))
    with anyio.fail_after(30):
        while True:
            rows = (await g.http.get(f"/v1/deliveries?handler={handler}", headers=bearer(ROOT))).json()["data"]
            own = [row for row in rows if row["task_id"] == task["id"] and row["attempts"]]
            if own:
                return f"{own[0]['last_error'] or own[0]['status']}"
            await anyio.sleep(0.02)


async def _archived(home: Path, serve: Serve) -> str:
    """Serve an invalid result: it is not archived, and no file remains in the directory."""
    folder = home / "videos"
    async with serving_results(serve) as url:
        port = url.rpartition(":")[2]
        allow = f"127.0.0.1:{port}"
        async with service_under_test(home, ARCHIVE_URL=folder.as_uri(), EGRESS_ALLOW="127.0.0.1") as g:
            with peak() as memory:
                reason = await _delivery_error(g, f"http://{allow}/video.mp4", "archive", [])
    leftovers = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    require(not leftovers, f"{leftovers} remains in the directory")
    require(memory[0] < 64 * MB, f"{memory[0] // MB} MB were taken")
    require("delivered" not in reason, "it was archived")
    return reason[:100]


def _result(name: str, serve: Serve) -> None:
    async def run(home: Path) -> str:
        return await _archived(home, serve)

    add("archive", name, run)


for _name, _serve in RESULTS.items():
    _result(_name, _serve)

INSIDE = (
    "http://127.0.0.1:{port}/", "http://localhost:{port}/", "http://0.0.0.0:{port}/", "http://[::1]:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/", "http://2130706433:{port}/", "http://0x7f000001:{port}/",
    "http://017700000001:{port}/", "http://127.1:{port}/", "http://0:{port}/", "http://127.0.0.1.:{port}/",
    "http://user:pass@127.0.0.1:{port}/", "http://example.org@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@example.org/",
    "http://\u2460\u2461\u2466.0.0.1:{port}/", "http://169.254.169.254/latest/meta-data/", "http://10.0.0.1/",
    "http://192.168.0.1/", "http://172.16.0.1/", "http://100.64.0.1/", "http://[fe80::1]/", "http://[fd00::1]/",
    "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/", "http://224.0.0.1/", "http://255.255.255.255/",
    "http://168.63.129.16/",
)  # fmt: skip

NAMES = frozenset({"http://localhost:{port}/", "http://127.0.0.1.:{port}/"})
"""The addresses that only name resolution finds inside; the others are refused in the request."""


async def _inside(home: Path, address: str) -> str:
    """Use an inside address as a notify target and as a result: no connection is made."""
    connections: list[str] = []

    def serve(request: Request) -> Response:
        connections.append(request.url.path)
        return Response(status_code=200)

    async with serving_results(serve) as url:
        target = address.format(port=url.rpartition(":")[2])
        async with service_under_test(home, ARCHIVE_URL=(home / "videos").as_uri()) as g:
            notify = [{"handler": "webhook", "url": target}]
            response = await g.http.post("/v1/tasks", json=g.task_body(prompt="") | {"notify": notify})
            accepted = not any(fault["loc"][0] == "notify" for fault in response.json()["errors"])
            reason = await _delivery_error(g, target, "webhook" if accepted else "log", notify if accepted else [])
    require(not connections, f"connections were made: {connections}")
    require(accepted == (address in NAMES), "it was accepted" if accepted else "it was refused without resolution")
    return reason[:100] if accepted else "refused in the request"


def _target(address: str) -> None:
    async def run(home: Path) -> str:
        return await _inside(home, address)

    add("SSRF", address.replace("{port}", "PORT"), run)


for _address in INSIDE:
    _target(_address)
