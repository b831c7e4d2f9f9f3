"""Secrets on their way through a whole journey, the comparisons that guard them, and files that hold them."""

import ast
import base64
import stat
import struct
import zlib
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from starlette.responses import JSONResponse

from service.core.params import check
from service.errors import BadSetting, InvalidParams
from service.key_file import read_or_make
from service.media import inspector
from tests.attacks.attempts import add, attempt, hold, peak
from tests.attacks.ground import ALICE, BOB, KEY, MODEL, ROOT, UPSTREAM_KEY, completed, ground

MB = 1024 * 1024
NOTIFY = "whsec_" + base64.b64encode(b"notify-secret-of-alice-32-bytes!").decode()
HOOKS = "whsec_" + base64.b64encode(b"hooks-secret-of-the-operator-32!").decode()
PAYLOAD = "payload-of-alice-that-is-hers"


@attempt("secrets", "a whole journey, then everything logged and answered is searched")
async def journey(home: Path) -> str:
    """Let a task live with recognisable secrets in it, failing webhooks too."""
    async with ground(
        home, WEBHOOK_SECRETS=HOOKS, WEBHOOK_URL="http://user:hook-password@127.0.0.1:1/?t=hook-query"
    ) as g:
        notify = [{"handler": "webhook", "url": "http://u:url-password@127.0.0.1:1/?token=url-token", "secret": NOTIFY}]
        task = await g.submit(**g.asking(payload=PAYLOAD), notify=notify)
        token, payload = g.token(), str(g.upstream.asked[0]["payload"])
        g.upstream.polled = lambda _: JSONResponse(completed("up1"))
        await g.call_back(token, completed("up1"))
        await g.call_back(token[:-2] + "xx", completed("up1"))
        await g.until(task["id"], lambda now: now["status"] == "completed")
        paths = [f"/v1/tasks/{task['id']}", "/v1/tasks", "/v1/deliveries", "/metrics", "/v1/models"]
        answers = "".join([(await g.http.get(path)).text for path in [*paths, f"{paths[0]}/events"]])
        secrets = (
            KEY,
            UPSTREAM_KEY,
            ALICE,
            BOB,
            ROOT,
            NOTIFY,
            HOOKS,
            token,
            payload,
            "-password",
            "url-token",
            "hook-query",
        )
        logged = g.logged.getvalue()
        found = [each[:12] for each in secrets if each in logged or each in answers]
        hold(not found, f"told: {found}")
        hold(PAYLOAD not in logged and "a cat" not in logged, "payload or prompt is in the log")
        return f"{len(secrets)} secrets, {len(logged)} characters of log, {len(answers)} of answers: none told"


@attempt("timing", "every comparison of a secret takes the same time")
async def constant_time(_: Path) -> str:
    """Look for == beside a signature, digest, token or key; demand compare_digest at the doors."""
    root = Path(__file__).parents[2] / "service"
    doors = ("core/tokens.py", "core/vidu_signature.py", "web/keys.py")
    texts = {path: await anyio.Path(path).read_text() for path in (root / door for door in doors)}
    for path, text in texts.items():
        hold("compare_digest" in text, f"{path.name} compares without compare_digest")
        found = [ast.unparse(node) for node in ast.walk(ast.parse(text)) if _compares_a_secret(node)]
        hold(not found, f"{path.name}: {found}")
    return f"compare_digest in {', '.join(doors)}, and no == beside it"


def _compares_a_secret(node: ast.AST) -> bool:
    secrets = {"signature", "given", "digest", "token", "key", "mac"}
    if not isinstance(node, ast.Compare) or not any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops):
        return False
    return any(isinstance(each, ast.Name) and each.id in secrets for each in (node.left, *node.comparators))


@attempt("key file", "twenty processes make it at once, and its mode")
async def key_race(home: Path) -> str:
    """Race for the key: all agree on one, only the owner reads it, nothing is left beside it."""
    found: set[tuple[str, ...]] = set()
    path = home / "boomerang.db.key"

    async def one() -> None:
        kept = await run_sync(lambda: read_or_make(path))
        found.add(kept.secret_keys)

    async with anyio.create_task_group() as group:
        for _ in range(20):
            group.start_soon(one)
    mode = stat.S_IMODE(path.stat().st_mode)
    hold(len(found) == 1 and mode == 0o600, f"{len(found)} keys, mode {mode:o}")
    return "one key, mode 600"


@attempt("key file", "readable by everybody")
async def key_open(home: Path) -> str:
    """Leave the key open to others: the start is refused."""
    path = home / "boomerang.db.key"
    read_or_make(path)
    path.chmod(0o644)
    try:
        read_or_make(path)
    except BadSetting as refused:
        return str(refused).replace(str(home), "…")[:90]
    hold(False, "it is used all the same")
    return ""


def _chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _png(width: int, height: int, *more: bytes) -> bytes:
    head = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 6, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(b"\0" * 1024))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + pixels + _chunk(b"IEND", b"")


MEDIA: dict[str, tuple[str, str, bytes]] = {
    "PNG of 4000x4000 with a kilobyte of pixels": ("images", "image/png", _png(4000, 4000)),
    "PNG with a text of 300 MB": (
        "images", "image/png", _png(256, 256, _chunk(b"zTXt", b"a\0\0" + zlib.compress(b" " * 100 * MB) * 3))),
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
}  # fmt: skip


async def _inline(_: Path, place: str, media_type: str, data: bytes) -> str:
    """Send a medium inline that is a bomb or a disguise: refused with a reason, for little memory."""
    uri = f"data:{media_type};base64,{base64.b64encode(data).decode()}"
    params = {"prompt": "a", "images": ["https://example.org/a.png"], place: [uri]}
    with peak() as memory:
        try:
            await run_sync(lambda: check(MODEL, params, inspect=inspector()))
            said = ""
        except InvalidParams as refused:
            said = refused.faults[0].msg
    hold(bool(said), "it was taken")
    hold(memory[0] < 96 * MB, f"{memory[0] // MB} MB were taken")
    return said[:110]


def _medium(name: str, place: str, media_type: str, data: bytes) -> None:
    async def play(home: Path) -> str:
        return await _inline(home, place, media_type, data)

    add("media", name, play)


for _name, (_place, _type, _data) in MEDIA.items():
    _medium(_name, _place, _type, _data)
