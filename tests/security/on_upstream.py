"""An upstream, or a caller, that wants our memory, our log or our secrets."""

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path

from starlette.responses import JSONResponse, Response

from tests.security.catalogue import add, attempt, hold, peak
from tests.security.environment import UPSTREAM_KEY, Ground, completed, failed, ground, in_progress

MB = 1024 * 1024
BOMB = gzip.compress(b" " * 300 * MB)


def _packed(body: bytes, coding: str) -> Response:
    return Response(body, headers={"Content-Encoding": coding, "Content-Type": "application/json"})


BOMBS: dict[str, tuple[bytes, str]] = {
    "gzip": (BOMB, "gzip"),
    "gzip in gzip": (gzip.compress(BOMB), "gzip, gzip"),
    "deflate": (zlib.compress(b" " * 300 * MB), "deflate"),
    "three members of gzip": (BOMB * 3, "gzip"),
}


async def _bombed(home: Path, body: bytes, coding: str) -> str:
    """Answer a question with an archive that unpacks to hundreds of megabytes."""
    async with ground(home) as g:
        task = await g.submit()
        g.upstream.polled = lambda _: _packed(body, coding)
        with peak() as memory:
            await g.call_back(g.token(), completed("up1"))
            await g.until(task["id"], lambda _: bool(g.upstream.polls))
            rows = await g.history(task["id"])
            while not any(row["kind"] == "poll" for row in rows):
                rows = await g.history(task["id"])
        grown = memory[0] // MB
        hold(grown < 48, f"the process grew by {grown} MB")
        hold((await g.task(task["id"]))["status"] == "in_progress", "the task changed")
        return f"{len(body) // 1024} KB taken for an ailing upstream; grew by {grown} MB"


def _bomb(name: str, body: bytes, coding: str) -> None:
    async def play(home: Path) -> str:
        return await _bombed(home, body, coding)

    add("upstream bomb", name, play)


for _name, (_body, _coding) in BOMBS.items():
    _bomb(_name, _body, _coding)


@attempt("upstream", "an honest answer in gzip")
async def honest_gzip(home: Path) -> str:
    """Answer in gzip although plain was asked for: a small one is read."""
    async with ground(home) as g:
        task = await g.submit()
        body = JSONResponse(completed("up1")).body
        g.upstream.polled = lambda _: _packed(gzip.compress(bytes(body)), "gzip")
        await g.call_back(g.token(), completed("up1"))
        now = await g.until(task["id"], lambda now: now["status"] == "completed")
        return f"{now['status']}"


@attempt("upstream", "four thousand results of one task")
async def many_results(home: Path) -> str:
    """Name results without end, each of which would be kept."""
    async with ground(home) as g:
        task = await g.submit()
        one = completed("up1")["output"][0]["content"]
        g.upstream.polled = lambda _: JSONResponse(completed("up1") | {"output": [{"content": one * 64}] * 64})
        await g.call_back(g.token(), completed("up1"))
        now = await g.until(task["id"], lambda now: now["status"] == "completed")
        hold(len(now["output"]) <= 64, f"{len(now['output'])} results")
        return f"{len(now['output'])} are believed"


Say = Callable[[Ground, str], str]
SAID: dict[str, Say] = {
    "our key": lambda _, __: f"bad key Bearer {UPSTREAM_KEY} given",
    "our callback address": lambda g, _: f"cannot reach {g.upstream.asked[0]['callback_url']}",
    "our payload token": lambda g, _: f"bad payload {g.upstream.asked[0]['payload']}",
    "our key just past the cut": lambda _, __: "x" * 1990 + UPSTREAM_KEY,
    "our payload token just past the cut": lambda g, _: "x" * 1980 + " " + str(g.upstream.asked[0]["payload"]),
}


async def _quoted(home: Path, say: Say) -> str:
    """Let the upstream quote a secret in a failure: neither task, events, history nor log repeat it."""
    async with ground(home) as g:
        task = await g.submit()
        secrets = [UPSTREAM_KEY[:10], g.token()[-30:], str(g.upstream.asked[0]["payload"])[-30:]]
        g.upstream.polled = lambda _: JSONResponse(failed("up1", say(g, "")))
        await g.call_back(g.token(), completed("up1"))
        now = await g.until(task["id"], lambda now: now["status"] == "failed")
        told = f"{now} {await g.history(task['id'])} {g.logged.getvalue()}"
        found = [secret for secret in secrets if secret in told]
        hold(not found, f"it is told: {now['error']['message'][-120:]}")
        return str(now["error"]["message"][-60:])


def _quote(name: str, say: Say) -> None:
    async def play(home: Path) -> str:
        return await _quoted(home, say)

    add("upstream quotes", name, play)


for _name, _say in SAID.items():
    _quote(_name, _say)


EVIL = "a\r\n2026-01-01 [info] paid user=root\x1b[2J\x1b]0;pwned\x07\u009b31m\u2028\u202eb"


async def _logged(home: Path, style: str) -> str:
    """Put line breaks and escapes wherever text goes: the log has our lines only, and nothing steers a terminal."""
    async with ground(home, log_format=style) as g:
        g.upstream.created = lambda n, _: JSONResponse(in_progress("up1")) if n == 1 else JSONResponse(
            {"error": {"code": EVIL, "message": EVIL}}, status_code=400)  # fmt: skip
        good = await g.submit(**g.asking(prompt=EVIL, payload=EVIL), metadata={EVIL: EVIL})
        await g.submit()
        g.upstream.polled = lambda _: JSONResponse({"message": EVIL}, status_code=500)
        await g.call_back(g.token(), completed("up1") | {"error": EVIL}, {"User-Agent": "a [2J b"})
        await g.until(good["id"], lambda _: bool(g.upstream.polls))
        await g.history(good["id"])
        await g.http.get("/v1/%0d%0apaid%1b[2J")
        text = g.logged.getvalue()
        _hold_clean(text, style)
        return f"{len(text.splitlines())} lines, each of ours"


def _hold_clean(text: str, style: str) -> None:
    own = text.replace("\x1b[0m", "") if style == "console" else text
    hold("\x1b[2J" not in text and "\x1b]0;" not in text and "\x07" not in text, "an escape sequence is in the log")
    hold("\u009b" not in own and "\u202e" not in own, "a control character is in the log")
    hold(not any(line.lstrip().startswith("2026-01-01 [info] paid") for line in text.splitlines()), "a forged line")


def _log(style: str) -> None:
    async def play(home: Path) -> str:
        return await _logged(home, style)

    add("log injection", style, play)


for _style in ("json", "console"):
    _log(_style)


@attempt("log injection", "a handler's own careless line, console")
async def careless(home: Path) -> str:
    """Log a prompt as it is, as a handler may: it stays one line."""
    import logging  # noqa: PLC0415 - what a handler's tools.log is

    async with ground(home, log_format="console") as g:
        logging.getLogger("boomerang.handlers.mine").warning("prompt %s", EVIL)
        _hold_clean(g.logged.getvalue(), "console")
        last = g.logged.getvalue().splitlines()[-1]
        hold("prompt" in last and "paid" in last, "it is two lines")
        return "escaped, on one line"
