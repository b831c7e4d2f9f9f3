"""Tokens that are forged, changed, expired or issued for another purpose."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import quote

from service.domain.task import TaskId
from service.domain.tokens import Tokens
from tests.security.catalogue import attempt, check_all, require
from tests.security.environment import KEY, ServiceUnderTest, completed, service_under_test
from tests.security.raw import exchange, request, statuses

Change = Callable[[ServiceUnderTest, str], str]
SOON = datetime.now(UTC) + timedelta(hours=1)
OTHER_KEY = "another-signing-key-of-forty-characters-0000"


def _parts(token: str) -> tuple[str, str, str, str]:
    value, _, signature = token.rpartition(".")
    task_id, submission, expiry = value.split("~")
    return task_id, submission, expiry, signature


def _spare_bits(_: ServiceUnderTest, token: str) -> str:
    """Return the token with another last character that base64 decodes to the same bytes."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return token[:-1] + alphabet[alphabet.index(token[-1]) ^ 1]


def _later(_: ServiceUnderTest, token: str) -> str:
    task_id, submission, expiry, signature = _parts(token)
    return f"{task_id}~{submission}~{int(expiry) + 1}.{signature}"


def _next_submission(_: ServiceUnderTest, token: str) -> str:
    task_id, submission, expiry, signature = _parts(token)
    return f"{task_id}~{int(submission) + 1}~{expiry}.{signature}"


def _unsigned(_: ServiceUnderTest, token: str) -> str:
    return base64.urlsafe_b64encode(json.dumps({"alg": "none", "task": _parts(token)[0]}).encode()).decode().rstrip("=")


CHANGED: dict[str, Change] = {
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
    "percent-encoded twice": lambda _, t: t.replace("~", "%257E"),
    "full-width digits": lambda _, t: quote(t[:5] + "\uff11" + t[6:]),
    "Cyrillic lookalike": lambda _, t: quote("\u0430" + t[1:]),
    "forged, in another spelling": lambda _, t: f"%{ord(t[0]):02x}{t[1:-1]}%7E/",
    "two slashes appended": lambda _, t: t + "//",
    "NUL appended": lambda _, t: t + "%00",
    "line break appended": lambda _, t: t + "%0a",
    "blank appended": lambda _, t: t + "%20",
    "a dot segment": lambda _, t: f"x/../{t}",
    "matrix parameter": lambda _, t: f"{t};a=b",
    "expiry extended by a second": _later,
    "next submission of the same task": _next_submission,
    "payload token in the address": lambda g, _: str(g.upstream.submissions[0]["payload"]),
    "unsigned JSON": _unsigned,
    "expired a day ago": lambda g, t: g.tokens.callback_token(
        TaskId(_parts(t)[0]), 1, datetime.now(UTC) - timedelta(days=1)
    ),
    "two thousand characters": lambda _, t: t + "A" * 2000,
    "sixty thousand characters": lambda _, t: t + "A" * 60_000,
    "nothing at all": lambda _g, _t: "",
}


@asynccontextmanager
async def _one_task(home: Path) -> AsyncIterator[ServiceUnderTest]:
    async with service_under_test(home, CONFIRM="never") as g:
        await g.submit()
        yield g


async def _changed(change: Change, g: ServiceUnderTest) -> str:
    task = await g.task((await g.http.get("/v1/tasks")).json()["data"][0]["id"])
    body = json.dumps(completed("up1", "https://evil.example.org/x.mp4")).encode()
    path = f"/callbacks/{change(g, g.token())}"
    received = await exchange(
        g.port, request("POST", path, f"Content-Length: {len(body)}", "Connection: close", body=body)
    )
    status = statuses(received)
    require(status in ([403], [404], [400], [401], [414], [431]), f"answered {status}")
    now = await g.task(task["id"])
    require(now == task and now["status"] == "in_progress", "the task changed")
    callbacks = [row for row in await g.history(task["id"]) if row["kind"] == "callback"]
    recorded = [row for row in callbacks if not row["verdict"].startswith("refused_")]
    require(not recorded, "a callback was recorded")
    return f"{status[0]}, the task is unchanged"


check_all("token", {name: partial(_changed, change) for name, change in CHANGED.items()}, _one_task)


@attempt("token", "every single character changed, one by one")
async def every_character(_: Path) -> str:
    """Replace each character of a token with other characters that a path may contain."""
    tokens = Tokens([KEY])
    token = tokens.callback_token(TaskId("0198c2aa-1111-7000-8000-000000000000"), 1, SOON)
    variants = 0
    for position, original in enumerate(token):
        for char in "abcXYZ019-_~.":
            if char != original:
                variants += 1
                require(
                    not _reads(tokens, token[:position] + char + token[position + 1 :]),
                    f"character {position} may be {char!r}",
                )
    return f"{variants} variants, all forged"


def _reads(tokens: Tokens, token: str) -> bool:
    try:
        tokens.read_callback_token(token, datetime.now(UTC))
    except Exception as error:  # noqa: BLE001 - the exact type is asserted
        require(type(error).__name__ == "BadToken", f"raises {type(error).__name__}")
        return False
    return True


@attempt("token", "a valid one with GET, OPTIONS, PUT and DELETE")
async def other_methods(home: Path) -> str:
    """Use a valid token with other methods."""
    async with service_under_test(home, CONFIRM="never") as g:
        task = await g.submit()
        methods = ("GET", "OPTIONS", "PUT", "DELETE")
        found = [(await g.http.request(m, f"/callbacks/{g.token()}")).status_code for m in methods]
        require(found == [204, 204, 405, 405] and await g.task(task["id"]) == task, f"answered {found}")
        return "204 for a probe, else 405, nothing changed"
