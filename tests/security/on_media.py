"""Inline media that are decompression bombs, mislabeled or polyglot."""

import base64
import struct
import zlib
from pathlib import Path

from anyio.to_thread import run_sync

from service.domain.errors import InvalidParams
from service.domain.models.validation import validate_params
from service.tasks.media_inspector import inspector
from tests.security.catalogue import add, peak, require
from tests.security.environment import MODEL, service_under_test
from tests.support.bombs import zlib_bomb
from tests.support.sample_media import image

MB = 1024 * 1024


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(width: int, height: int, *more: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(b"\0" * 1024))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + pixels + _chunk(b"IEND", b"")


PNG = image("PNG", (256, 256))
JPEG = image("JPEG", (256, 256), progressive=True)
SCAN = JPEG[JPEG.rindex(b"\xff\xda") : -2]
ZIP = b"PK\x03\x04" + b"\0" * 26 + b"evil.php" + b"PK\x05\x06" + b"\0" * 18
PAGE = b"<html><script>alert(document.cookie)</script></html>"
TINY = _chunk(b"abCd", b"")

MEDIA: dict[str, tuple[str, str, bytes]] = {
    "PNG of 4000x4000 with a kilobyte of pixels": ("images", "image/png", _png(4000, 4000)),
    "PNG with a text of 300 MB": (
        "images",
        "image/png",
        _png(256, 256, _chunk(b"zTXt", b"a\0\0" + zlib_bomb(b" ", 100) * 3)),
    ),
    "PNG of 0x0": ("images", "image/png", _png(0, 0)),
    "PNG 60000x1": ("images", "image/png", _png(60_000, 1)),
    "GIF as PNG": ("images", "image/png", b"GIF89a" + b"\0" * 100),
    "SVG as PNG": ("images", "image/png", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'),
    "SVG as SVG": ("images", "image/svg+xml", b"<svg/>"),
    "HTML as JPEG": ("images", "image/jpeg", b"<html><script>alert(1)</script>"),
    "ZIP behind a JPEG's first bytes": ("images", "image/jpeg", b"\xff\xd8\xffPK\x03\x04" + b"\0" * 200),
    "HLS as MP4": ("videos", "video/mp4", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"),
    "concat as MP4": ("videos", "video/mp4", b"ffconcat version 1.0\nfile /etc/passwd\n"),
    "EBML as MP4": ("videos", "video/mp4", b"\x1a\x45\xdf\xa3" + b"\0" * 200),
    "GIF that is a ZIP": ("images", "image/png", b"GIF89a" + b"\0" * 100 + ZIP),
    "ZIP as PNG": ("images", "image/png", ZIP),
    "HTML as PNG": ("images", "image/png", PAGE),
    "HTML as WebP": ("images", "image/webp", b"RIFF" + PAGE),
    "PDF as JPEG": ("images", "image/jpeg", b"%PDF-1.7\n" + PAGE),
    "PNG as JPEG": ("images", "image/jpeg", PNG),
    "PNG whose colours unpack to 90 MB": (
        "images",
        "image/png",
        PNG[:33] + _chunk(b"iCCP", b"a\0\0" + zlib_bomb(b" ", 90)) + PNG[33:],
    ),
    "PNG of a million chunks": ("images", "image/png", PNG[:33] + TINY * 800_000 + PNG[33:]),
    "JPEG of fifty thousand scans": ("images", "image/jpeg", JPEG[:-2] + SCAN * 50_000 + JPEG[-2:]),
    "JPEG of two million segments": (
        "images",
        "image/jpeg",
        JPEG.replace(b"\xff\xda", b"\xff\xe0\x00\x02" * 2_000_000 + b"\xff\xda", 1),
    ),
    "a data URI in a data URI": ("images", "image/png", b"data:image/png;base64,AAAA"),
}

POLYGLOT: dict[str, tuple[str, bytes]] = {
    "PNG with a ZIP behind it": ("image/png", PNG + ZIP),
    "PNG with a page of HTML in a comment": ("image/png", PNG[:33] + _chunk(b"tEXt", b"a\0" + PAGE) + PNG[33:]),
    "JPEG with a script behind it": ("image/jpeg", JPEG + b"*/=alert(1)/*" + PAGE),
    "PNG with 8 MB behind it": ("image/png", PNG + b"\0" * 8 * MB),
}
"""Valid images that are something else, too."""  # fmt: skip


async def _inline(_: Path, parameter: str, media_type: str, data: bytes) -> str:
    """Send an invalid inline medium: it is refused with a reason, and needs little memory."""
    uri = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    params = {"prompt": "a", "images": ["https://example.org/a.png"], parameter: [uri]}
    with peak() as memory:
        try:
            await run_sync(lambda: validate_params(MODEL, params, inspect=inspector()))
            output = ""
        except InvalidParams as invalid:
            output = invalid.faults[0].msg
    require(bool(output), "it was accepted")
    require(memory[0] < 96 * MB, f"{memory[0] // MB} MB were taken")
    return output[:110]


def _medium(name: str, parameter: str, media_type: str, data: bytes) -> None:
    async def run(home: Path) -> str:
        return await _inline(home, parameter, media_type, data)

    add("media", name, run)


for _name, (_parameter, _type, _data) in MEDIA.items():
    _medium(_name, _parameter, _type, _data)


async def _polyglot(home: Path, media_type: str, data: bytes) -> str:
    """Send a valid image with foreign content: no response contains its bytes."""
    async with service_under_test(home) as g:
        inline = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
        response = await g.http.post("/v1/tasks", json=g.task_body(images=[inline]))
        require(response.status_code == 202, f"answered {response.status_code}: {response.text[:200]}")
        task = await g.wait_until(response.json()["id"], lambda now: now["status"] == "in_progress")
        require(g.upstream.submissions[0]["images"] == [inline], "the provider received something else")
        require(set(task["params"]["images"][0]) == {"media_type", "bytes", "sha256"}, "more than a digest is exposed")
        exposed = str(await g.history(task["id"])) + g.logged.getvalue()
        require(
            "alert(" not in exposed and "evil.php" not in exposed and inline[-200:] not in exposed,
            "bytes are exposed",
        )
        return f"accepted as {media_type}, sent to the provider unchanged, never served"


def _add_polyglot(name: str, media_type: str, data: bytes) -> None:
    async def run(home: Path) -> str:
        return await _polyglot(home, media_type, data)

    add("polyglot", name, run)


for _name, (_type, _data) in POLYGLOT.items():
    _add_polyglot(_name, _type, _data)
