"""Names whose owner answers what he likes: inside addresses, another one each time, nonsense, or nothing for long."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from service.deliveries import egress
from tests.security.catalogue import add, attempt, hold
from tests.security.environment import Ground, completed, ground
from tests.security.on_archive import serving_results
from tests.security.raw import HOST, talking

NAME = "hooks.attacker.example"
INSIDE = "127.0.0.2"
"""Where something of ours listens that nobody outside may reach. 127.0.0.1 is allowed, and plays the public part."""

Answers = Callable[[int], list[str]]


@dataclass(kw_only=True)
class NameServer:
    """Answers for the attacker's names, and counts how often it was asked."""

    answers: Answers
    asked: int = 0

    def resolve(self, real: Callable[..., Any], host: str, port: int, *more: Any, **some: Any) -> Any:
        """Stand in for the system's resolver; a look that asks nobody is not answered by the attacker."""
        if not str(host).endswith("attacker.example") or some.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, port, *more, **some)
        self.asked += 1
        found = self.answers(self.asked)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@contextmanager
def naming(answers: Answers) -> Iterator[NameServer]:
    """Let the attacker's names be answered like this inside the block."""
    server, real = NameServer(answers=answers), socket.getaddrinfo
    socket.getaddrinfo = partial(server.resolve, real)
    try:
        yield server
    finally:
        socket.getaddrinfo = real


@dataclass(kw_only=True)
class Listening:
    """Two listeners on one port: the one that may be dialled, and the one inside."""

    port: int
    allowed: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)


@asynccontextmanager
async def listening(answer: Callable[[Request], Response]) -> AsyncIterator[Listening]:
    """Run both inside the block; the allowed one answers as it is told."""
    found = Listening(port=0)

    def serve(request: Request) -> Response:
        found.allowed.append(request.headers["host"])
        return answer(request)

    async with serving_results(serve) as url:
        found.port = int(url.rpartition(":")[2])

        async def touched(*_: object) -> None:
            found.inside.append("dialled")

        async with talking(touched, INSIDE, found.port):
            yield found


async def _tried(g: Ground, handler: str, times: int) -> list[str]:
    """Return the last error of the handler's delivery once it was tried so often, or has succeeded."""
    with anyio.fail_after(50):
        while True:
            rows = (await g.http.get(f"/v1/deliveries?handler={handler}")).json()["data"]
            done = [row for row in rows if row["attempts"] >= times or row["status"] == "delivered"]
            if done:
                return [str(row["last_error"] or row["status"]) for row in done]
            await anyio.sleep(0.02)


NAMES: dict[str, Answers] = {
    "resolves to an inside address": lambda _: [INSIDE],
    "resolves to an allowed and an inside address": lambda _: [HOST, INSIDE],
    "resolves to an inside and an allowed address": lambda _: [INSIDE, HOST],
    "resolves to ::ffff: and an inside address": lambda _: [f"::ffff:{INSIDE}"],
    "resolves to an address with a zone": lambda _: ["fe80::1%lo"],
    "resolves to 0.0.0.0": lambda _: ["0.0.0.0"],  # noqa: S104 - nobody binds it here
    "resolves to another name": lambda _: ["localhost"],
    "resolves to something with a line break": lambda _: [f"{HOST}\r\nX-Evil: 1"],
    "resolves to nothing": lambda _: [],
}


async def _named(home: Path, answers: Answers) -> str:
    """Give the name as a webhook's address: nothing inside is dialled, and the reason is told."""
    async with listening(lambda _: Response()) as there:
        with naming(answers) as server:
            async with ground(home, EGRESS_ALLOW=HOST) as g:
                await g.submit(notify=[{"handler": "webhook", "url": f"http://{NAME}:{there.port}/"}])
                why = await _tried(g, "webhook", 1)
        hold(server.asked > 0, "the stand-in was not asked")
    hold(not there.inside, "the inside was dialled")
    hold(not there.allowed, "it was dialled although one of its addresses is inside")
    return why[0][:100]


def _name(what: str, answers: Answers) -> None:
    async def play(home: Path) -> str:
        return await _named(home, answers)

    add("DNS", what, play)


for _what, _answers in NAMES.items():
    _name(_what, _answers)


@attempt("DNS", "rebinding: allowed at the first look, inside at the second")
async def rebound(home: Path) -> str:
    """Change the answer between check and dial, and between attempts: what was checked is what is dialled."""
    async with listening(lambda _: Response(status_code=503, headers={"Connection": "close"})) as there:
        with naming(lambda asked: [HOST] if asked == 1 else [INSIDE]) as server:
            async with ground(home, EGRESS_ALLOW=HOST, RETRY_SCHEDULE="0s,100ms") as g:
                await g.submit(notify=[{"handler": "webhook", "url": f"http://{NAME}:{there.port}/"}])
                why = await _tried(g, "webhook", 2)
    hold(not there.inside, "the inside was dialled")
    hold(len(there.allowed) == 1, f"the allowed one was dialled {len(there.allowed)} times")
    hold(server.asked >= 2, f"looked up {server.asked} times")
    return f"one look for each dial; the second is refused: {why[0][:60]}"


@attempt("DNS", "a result that redirects to a name which resolves inside")
async def redirected(home: Path) -> str:
    """Let an allowed host send the archive on to the attacker's name."""
    async with listening(lambda request: RedirectResponse(f"http://{NAME}:{request.url.port}/film.mp4")) as there:
        with naming(lambda _: [INSIDE]):
            more = {"EGRESS_ALLOW": HOST, "ARCHIVE_URL": (home / "videos").as_uri()}
            async with ground(home, **more) as g:
                await g.submit()
                film = f"http://{HOST}:{there.port}/film.mp4"
                g.upstream.polled = lambda _: JSONResponse(completed("up1", film))
                await g.call_back(g.token(), completed("up1"))
                why = await _tried(g, "archive", 1)
    hold(not there.inside, "the inside was dialled")
    return why[0][:100]


@attempt("DNS", "a name server that never answers, asked by many webhooks at once")
async def silent(_: Path) -> str:
    """Let forty look-ups hang: those of the upstream and of others must not wait behind them."""
    release = threading.Event()

    def hang(_: int) -> list[str]:
        release.wait(40)
        return []

    with naming(hang):
        async with anyio.create_task_group() as group:
            try:
                for number in range(40):
                    group.start_soon(_looked_up, f"n{number}.attacker.example")
                await anyio.wait_all_tasks_blocked()
                with anyio.move_on_after(20) as waited:
                    await asyncio.get_running_loop().getaddrinfo("localhost", 80)  # as the upstream's client does
            finally:
                release.set()
    hold(not waited.cancelled_caught, "nobody else's name is looked up while the attacker's hang")
    return "the upstream's name is looked up at once"


async def _looked_up(name: str) -> None:
    with suppress(OSError):
        await egress.resolve(name, 80)
