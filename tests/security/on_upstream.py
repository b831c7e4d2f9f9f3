"""A hostile provider or caller: memory, log injection, secrets."""

import gzip
from collections.abc import Callable
from pathlib import Path

from starlette.responses import JSONResponse, Response

from tests.security.catalogue import add, attempt, peak, require
from tests.security.environment import (
    UPSTREAM_KEY,
    ServiceUnderTest,
    completed,
    failed,
    in_progress,
    service_under_test,
)
from tests.support.bombs import gzip_bomb, zlib_bomb

MB = 1024 * 1024
BOMB = gzip_bomb(b" ", 300)


def _packed(body: bytes, coding: str) -> Response:
    return Response(body, headers={"Content-Encoding": coding, "Content-Type": "application/json"})


BOMBS: dict[str, tuple[bytes, str]] = {
    "gzip": (BOMB, "gzip"),
    "gzip in gzip": (gzip.compress(BOMB), "gzip, gzip"),
    "deflate": (zlib_bomb(b" ", 300), "deflate"),
    "three members of gzip": (BOMB * 3, "gzip"),
}


async def _bombed(home: Path, body: bytes, coding: str) -> str:
    """Reply to a poll with hundreds of megabytes of compressed data."""
    async with service_under_test(home) as g:
        task = await g.submit()
        g.upstream.poll_reply = lambda _: _packed(body, coding)
        with peak() as memory:
            await g.call_back(g.token(), completed("up1"))
            await g.wait_until(task["id"], lambda _: bool(g.upstream.polls))
            rows = await g.history(task["id"])
            while not any(row["kind"] == "poll" for row in rows):
                rows = await g.history(task["id"])
        growth = memory[0] // MB
        require(growth < 48, f"the process grew by {growth} MB")
        require((await g.task(task["id"]))["status"] == "in_progress", "the task changed")
        return f"{len(body) // 1024} KB are treated as an unavailable provider; memory grew by {growth} MB"


def _bomb(name: str, body: bytes, coding: str) -> None:
    async def run(home: Path) -> str:
        return await _bombed(home, body, coding)

    add("upstream bomb", name, run)


for _name, (_body, _coding) in BOMBS.items():
    _bomb(_name, _body, _coding)


@attempt("upstream", "a valid reply in gzip")
async def honest_gzip(home: Path) -> str:
    """Reply in gzip although it was not requested: a small reply is read."""
    async with service_under_test(home) as g:
        task = await g.submit()
        body = JSONResponse(completed("up1")).body
        g.upstream.poll_reply = lambda _: _packed(gzip.compress(bytes(body)), "gzip")
        await g.call_back(g.token(), completed("up1"))
        now = await g.wait_until(task["id"], lambda now: now["status"] == "completed")
        return f"{now['status']}"


@attempt("upstream", "four thousand results of one task")
async def many_results(home: Path) -> str:
    """Reply with thousands of results, each of which would be stored."""
    async with service_under_test(home) as g:
        task = await g.submit()
        one = completed("up1")["output"][0]["content"]
        g.upstream.poll_reply = lambda _: JSONResponse(completed("up1") | {"output": [{"content": one * 64}] * 64})
        await g.call_back(g.token(), completed("up1"))
        now = await g.wait_until(task["id"], lambda now: now["status"] == "completed")
        require(len(now["output"]) <= 64, f"{len(now['output'])} results")
        return f"{len(now['output'])} are recorded"


Message = Callable[[ServiceUnderTest, str], str]
QUOTES: dict[str, Message] = {
    "our key": lambda _, __: f"bad key Bearer {UPSTREAM_KEY} given",
    "our callback address": lambda g, _: f"cannot reach {g.upstream.submissions[0]['callback_url']}",
    "our payload token": lambda g, _: f"bad payload {g.upstream.submissions[0]['payload']}",
    "our key just after the limit": lambda _, __: "x" * 1990 + UPSTREAM_KEY,
    "our payload token just after the limit": lambda g, _: "x" * 1980 + " " + str(g.upstream.submissions[0]["payload"]),
}


async def _quoted(home: Path, message: Message) -> str:
    """Quote a secret in an error of the provider: task, events, history and log do not repeat it."""
    async with service_under_test(home) as g:
        task = await g.submit()
        secrets = [UPSTREAM_KEY[:10], g.token()[-30:], str(g.upstream.submissions[0]["payload"])[-30:]]
        g.upstream.poll_reply = lambda _: JSONResponse(failed("up1", message(g, "")))
        await g.call_back(g.token(), completed("up1"))
        now = await g.wait_until(task["id"], lambda now: now["status"] == "failed")
        exposed = f"{now} {await g.history(task['id'])} {g.logged.getvalue()}"
        found = [secret for secret in secrets if secret in exposed]
        require(not found, f"it is exposed: {now['error']['message'][-120:]}")
        return str(now["error"]["message"][-60:])


def _quote(name: str, message: Message) -> None:
    async def run(home: Path) -> str:
        return await _quoted(home, message)

    add("upstream quotes", name, run)


for _name, _message in QUOTES.items():
    _quote(_name, _message)


@attempt("upstream quotes", "words and addresses that contain a short key")
async def short_key(home: Path) -> str:
    """Use a key that is an ordinary word: no body is changed before it is read, and no text afterwards."""
    async with service_under_test(home, UPSTREAM_KEY="key") as g:
        task = await g.submit()
        g.upstream.poll_reply = lambda _: JSONResponse(failed("up1", "too monkey requests"))
        await g.call_back(g.token(), completed("up1"))
        now = await g.wait_until(task["id"], lambda now: now["status"] == "failed")
        require(now["error"]["message"] == "too monkey requests", f"it became {now['error']['message']!r}")
        return str(now["error"]["message"])


EVIL = "a\r\n2026-01-01 [info] paid user=root\x1b[2J\x1b]0;pwned\x07\u009b31m\u2028\u202eb"


async def _logged(home: Path, style: str) -> str:
    """Send line breaks and escapes in every text: the log has no forged lines and no control characters."""
    async with service_under_test(home, log_format=style) as g:
        g.upstream.create_reply = lambda n, _: JSONResponse(in_progress("up1")) if n == 1 else JSONResponse(
            {"error": {"code": EVIL, "message": EVIL}}, status_code=400)  # fmt: skip
        good = await g.submit(**g.task_body(prompt=EVIL, payload=EVIL), metadata={EVIL: EVIL})
        await g.submit()
        g.upstream.poll_reply = lambda _: JSONResponse({"message": EVIL}, status_code=500)
        await g.call_back(g.token(), completed("up1") | {"error": EVIL}, {"User-Agent": "a [2J b"})
        await g.wait_until(good["id"], lambda _: bool(g.upstream.polls))
        await g.history(good["id"])
        await g.http.get("/v1/%0d%0apaid%1b[2J")
        text = g.logged.getvalue()
        _require_clean(text, style)
        return f"{len(text.splitlines())} lines, none forged"


def _require_clean(text: str, style: str) -> None:
    own = text.replace("\x1b[0m", "") if style == "console" else text
    require("\x1b[2J" not in text and "\x1b]0;" not in text and "\x07" not in text, "an escape sequence is in the log")
    require("\u009b" not in own and "\u202e" not in own, "a control character is in the log")
    require(not any(line.lstrip().startswith("2026-01-01 [info] paid") for line in text.splitlines()), "a forged line")


def _log(style: str) -> None:
    async def run(home: Path) -> str:
        return await _logged(home, style)

    add("log injection", style, run)


for _style in ("json", "console"):
    _log(_style)


@attempt("log injection", "a log line of a handler with control characters, console")
async def handler_log_line(home: Path) -> str:
    """Log a prompt unchanged, as a handler may: it stays one line."""
    import logging  # noqa: PLC0415 - the logger of a handler

    async with service_under_test(home, log_format="console") as g:
        logging.getLogger("boomerang.handlers.mine").warning("prompt %s", EVIL)
        _require_clean(g.logged.getvalue(), "console")
        last = g.logged.getvalue().splitlines()[-1]
        require("prompt" in last and "paid" in last, "it is two lines")
        return "escaped, on one line"
