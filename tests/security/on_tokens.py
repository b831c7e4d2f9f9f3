"""Tokens that are forged, bent, stale or meant for something else."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

from service.domain.task import TaskId
from service.domain.tokens import Tokens
from tests.security.catalogue import add, attempt, hold
from tests.security.environment import KEY, Ground, completed, ground
from tests.security.raw import exchange, request, statuses

Bend = Callable[[Ground, str], str]
SOON = datetime.now(UTC) + timedelta(hours=1)
OTHER_KEY = "another-signing-key-of-forty-characters-0000"


def _parts(token: str) -> tuple[str, str, str, str]:
    value, _, signature = token.rpartition(".")
    task_id, submission, expiry = value.split("~")
    return task_id, submission, expiry, signature


def _spare_bits(_: Ground, token: str) -> str:
    """Return the token with another last character that base64 decodes to the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


def _later(_: Ground, token: str) -> str:
    task_id, submission, expiry, signature = _parts(token)
    return f"{task_id}~{submission}~{int(expiry) + 1}.{signature}"


def _next_submission(_: Ground, token: str) -> str:
    task_id, submission, expiry, signature = _parts(token)
    return f"{task_id}~{int(submission) + 1}~{expiry}.{signature}"


def _unsigned(_: Ground, token: str) -> str:
    return base64.urlsafe_b64encode(json.dumps({"alg": "none", "task": _parts(token)[0]}).encode()).decode().rstrip("=")


BENT: dict[str, Bend] = {
    "signed with an unknown key": lambda _, t: Tokens([OTHER_KEY]).callback_token(TaskId(_parts(t)[0]), 1, SOON),
    "signature of zeros": lambda _, t: t.rpartition(".")[0] + "." + "A" * 43,
    "no signature": lambda _, t: t.rpartition(".")[0],
    "empty signature": lambda _, t: t.rpartition(".")[0] + ".",
    "cut by one character": lambda _, t: t[:-1],
    "cut by half": lambda _, t: t[: len(t) // 2],
    "one character longer": lambda _, t: t + "A",
    "base64 padding appended": lambda _, t: t + "=",
    "spare bits of the last character": _spare_bits,
    "upper case": lambda _, t: t.upper(),
    "letters of the other case": lambda _, t: t.swapcase(),
    "one letter percent-encoded": lambda _, t: f"%{ord(t[0]):02x}{t[1:]}",
    "tilde percent-encoded": lambda _, t: t.replace("~", "%7E"),
    "percent-encoded twice": lambda _, t: t.replace("~", "%257E"),
    "full-width digits": lambda _, t: quote(t[:5] + "\uff11" + t[6:]),
    "Cyrillic lookalike": lambda _, t: quote("\u0430" + t[1:]),
    "NUL appended": lambda _, t: t + "%00",
    "line break appended": lambda _, t: t + "%0a",
    "blank appended": lambda _, t: t + "%20",
    "slash appended": lambda _, t: t + "/",
    "encoded slash appended": lambda _, t: t + "%2f",
    "a dot segment": lambda _, t: f"x/../{t}",
    "matrix parameter": lambda _, t: f"{t};a=b",
    "expiry put off by a second": _later,
    "next submission of the same task": _next_submission,
    "payload token in the address": lambda g, _: str(g.upstream.asked[0]["payload"]),
    "unsigned JSON": _unsigned,
    "expired a day ago": lambda g, t: g.tokens.callback_token(
        TaskId(_parts(t)[0]), 1, datetime.now(UTC) - timedelta(days=1)
    ),
    "two thousand characters": lambda _, t: t + "A" * 2000,
    "sixty thousand characters": lambda _, t: t + "A" * 60_000,
    "nothing at all": lambda _g, _t: "",
}


async def _bent(home: Path, bend: Bend) -> str:
    async with ground(home, CONFIRM="never") as g:
        task = await g.submit()
        body = json.dumps(completed("up1", "https://evil.example.org/x.mp4")).encode()
        path = f"/callbacks/{bend(g, g.token())}"
        received = await exchange(
            g.port, request("POST", path, f"Content-Length: {len(body)}", "Connection: close", body=body)
        )
        status = statuses(received)
        hold(status in ([403], [404], [400], [401], [414], [431]), f"answered {status}")
        now = await g.task(task["id"])
        hold(now == task, "the task changed")
        callbacks = [row for row in await g.history(task["id"]) if row["kind"] == "callback"]
        hold(not callbacks, "a callback was recorded")
        return f"{status[0]}, the task is as it was"


def _add(name: str, bend: Bend) -> None:
    async def play(home: Path) -> str:
        return await _bent(home, bend)

    add("token", name, play)


for _name, _bend in BENT.items():
    _add(_name, _bend)


@attempt("token", "every single character changed, one by one")
async def every_character(_: Path) -> str:
    """Change each character of a token to each other one that a path may hold."""
    tokens = Tokens([KEY])
    token = tokens.callback_token(TaskId("0198c2aa-1111-7000-8000-000000000000"), 1, SOON)
    tried = 0
    for at, was in enumerate(token):
        for char in "abcXYZ019-_~.":
            if char != was:
                tried += 1
                hold(not _reads(tokens, token[:at] + char + token[at + 1 :]), f"character {at} may be {char!r}")
    return f"{tried} variants, all forged"


def _reads(tokens: Tokens, token: str) -> bool:
    try:
        tokens.read_callback_token(token, datetime.now(UTC))
    except Exception as error:  # noqa: BLE001 - the very type is asserted
        hold(type(error).__name__ == "BadToken", f"raises {type(error).__name__}")
        return False
    return True


@attempt("token", "a good one by GET, PUT and DELETE")
async def other_methods(home: Path) -> str:
    """Use a good token with a method that changes nothing, or should not."""
    async with ground(home, CONFIRM="never") as g:
        task = await g.submit()
        found = [(await g.http.request(m, f"/callbacks/{g.token()}")).status_code for m in ("GET", "PUT", "DELETE")]
        hold(found == [405] * 3 and await g.task(task["id"]) == task, f"answered {found}")
        return "405 each, nothing changed"
