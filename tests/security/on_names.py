"""Hostile name servers: inside addresses, changing addresses, invalid data, or no reply."""

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

from service.network import addresses
from tests.security.catalogue import add, attempt, require
from tests.security.environment import ROOT, ServiceUnderTest, bearer, completed, service_under_test
from tests.security.on_archive import serving_results
from tests.security.raw import HOST, talking

NAME = "hooks.attacker.example"
INSIDE = "127.0.0.2"
"""The address of an internal server. 127.0.0.1 is allowed, and represents a public address."""

Addresses = Callable[[int], list[str]]


@dataclass(kw_only=True)
class NameServer:
    """Resolves the names of the attacker, and counts the lookups."""

    addresses: Addresses
    lookups: int = 0

    def resolve(self, real: Callable[..., Any], host: str, port: int, *more: Any, **some: Any) -> Any:
        """Replace the resolver of the system; a lookup of a numeric address does not reach the attacker."""
        if not str(host).endswith("attacker.example") or some.get("flags", 0) & socket.AI_NUMERICHOST:
            return real(host, port, *more, **some)
        self.lookups += 1
        found = self.addresses(self.lookups)
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]


@contextmanager
def resolving(addresses: Addresses) -> Iterator[NameServer]:
    """Resolve the names of the attacker to these addresses inside the block."""
    server, real = NameServer(addresses=addresses), socket.getaddrinfo
    socket.getaddrinfo = partial(server.resolve, real)
    try:
        yield server
    finally:
        socket.getaddrinfo = real


@dataclass(kw_only=True)
class Listening:
    """Two servers on one port, and their requests: the allowed one and the one inside."""

    port: int
    allowed: list[str] = field(default_factory=list)
    inside: list[str] = field(default_factory=list)


@asynccontextmanager
async def listening(reply: Callable[[Request], Response]) -> AsyncIterator[Listening]:
    """Run both inside the block; the allowed one responds with `reply`."""
    found = Listening(port=0)

    def serve(request: Request) -> Response:
        found.allowed.append(request.headers["host"])
        return reply(request)

    async with serving_results(serve) as url:
        found.port = int(url.rpartition(":")[2])

        async def connected(*_: object) -> None:
            found.inside.append("connected")

        async with talking(connected, INSIDE, found.port):
            yield found


async def _last_errors(g: ServiceUnderTest, handler: str, times: int) -> list[str]:
    """Return the last errors of the handler's deliveries with so many attempts, or with success."""
    with anyio.fail_after(50):
        while True:
            rows = (await g.http.get(f"/v1/deliveries?handler={handler}", headers=bearer(ROOT))).json()["data"]
            done = [row for row in rows if row["attempts"] >= times or row["status"] == "delivered"]
            if done:
                return [str(row["last_error"] or row["status"]) for row in done]
            await anyio.sleep(0.02)


NAMES: dict[str, Addresses] = {
    "resolves to an inside address": lambda _: [INSIDE],
    "resolves to an allowed and an inside address": lambda _: [HOST, INSIDE],
    "resolves to an inside and an allowed address": lambda _: [INSIDE, HOST],
    "resolves to ::ffff: and an inside address": lambda _: [f"::ffff:{INSIDE}"],
    "resolves to an address with a zone": lambda _: ["fe80::1%lo"],
    "resolves to 0.0.0.0": lambda _: ["0.0.0.0"],  # noqa: S104 - no server binds it
    "resolves to another name": lambda _: ["localhost"],
    "resolves to something with a line break": lambda _: [f"{HOST}\r\nX-Evil: 1"],
    "resolves to nothing": lambda _: [],
}


async def _named(home: Path, addresses: Addresses) -> str:
    """Use the name in a webhook URL: no connection goes inside, and the delivery has the reason."""
    async with listening(lambda _: Response()) as listeners:
        with resolving(addresses) as server:
            async with service_under_test(home, NOTIFY_ALLOW=HOST) as g:
                await g.submit(notify=[{"handler": "webhook", "url": f"http://{NAME}:{listeners.port}/"}])
                reason = await _last_errors(g, "webhook", 1)
        require(server.lookups > 0, "the name server was not used")
    require(not listeners.inside, "the inside server got a connection")
    require(not listeners.allowed, "it got a connection although one of its addresses is inside")
    return reason[0][:100]


def _name(label: str, addresses: Addresses) -> None:
    async def run(home: Path) -> str:
        return await _named(home, addresses)

    add("DNS", label, run)


for _label, _addresses in NAMES.items():
    _name(_label, _addresses)


@attempt("DNS", "rebinding: allowed at the first lookup, inside at the second")
async def rebinding(home: Path) -> str:
    """Change the addresses between check and connection, and between attempts: only a checked address is used."""
    async with listening(lambda _: Response(status_code=503, headers={"Connection": "close"})) as listeners:
        with resolving(lambda lookups: [HOST] if lookups == 1 else [INSIDE]) as server:
            async with service_under_test(home, NOTIFY_ALLOW=HOST, RETRY_SCHEDULE="0s,100ms") as g:
                await g.submit(notify=[{"handler": "webhook", "url": f"http://{NAME}:{listeners.port}/"}])
                reason = await _last_errors(g, "webhook", 2)
    require(not listeners.inside, "the inside server got a connection")
    require(len(listeners.allowed) == 1, f"the allowed one got a connection {len(listeners.allowed)} times")
    require(server.lookups >= 2, f"resolved {server.lookups} times")
    return f"one lookup a connection; the second is refused: {reason[0][:60]}"


@attempt("DNS", "a result that redirects to a name which resolves inside")
async def redirected(home: Path) -> str:
    """Redirect the archive from an allowed host to the name of the attacker."""
    async with listening(lambda request: RedirectResponse(f"http://{NAME}:{request.url.port}/video.mp4")) as listeners:
        with resolving(lambda _: [INSIDE]):
            more = {"EGRESS_ALLOW": HOST, "ARCHIVE_URL": (home / "videos").as_uri()}
            async with service_under_test(home, **more) as g:
                await g.submit()
                video_url = f"http://{HOST}:{listeners.port}/video.mp4"
                g.upstream.poll_reply = lambda _: JSONResponse(completed("up1", video_url))
                await g.call_back(g.token(), completed("up1"))
                reason = await _last_errors(g, "archive", 1)
    require(not listeners.inside, "the inside server got a connection")
    return reason[0][:100]


@attempt("DNS", "a name server that never replies, used by many webhooks at once")
async def hanging_lookups(_: Path) -> str:
    """Block forty lookups: other lookups do not wait for them."""
    release = threading.Event()

    def hang(_: int) -> list[str]:
        release.wait(40)
        return []

    with resolving(hang):
        async with anyio.create_task_group() as group:
            try:
                for number in range(40):
                    group.start_soon(_look_up, f"n{number}.attacker.example")
                await anyio.wait_all_tasks_blocked()
                with anyio.move_on_after(20) as waited:
                    await addresses.resolve("localhost", 80)  # as the provider's client does
            finally:
                release.set()
    require(not waited.cancelled_caught, "other names are not resolved while the lookups of the attacker hang")
    return "the name of the provider is resolved immediately"


async def _look_up(name: str) -> None:
    with suppress(OSError):
        await addresses.resolve_foreign(name, 80)
