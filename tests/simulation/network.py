"""A seeded network: requests are delayed, dropped, repeated, reordered and cut, and end with their process."""

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx
from starlette.types import ASGIApp, Message

from tests.simulation.history import History
from tests.simulation.loop import Owner, SimLoop
from tests.simulation.seeded_faults import SeededFaults

REFUSE = (httpx.ConnectError, "refused")
CUT = (httpx.ReadError, "cut")
STREAM = "stream"
"""The kind of a request that follows the stream of events: it waits, and does not keep the network busy."""


class Server(Protocol):
    """A destination of requests: its tasks run in `context`; it answers nothing once it is dead."""

    name: str
    dead: bool
    app: ASGIApp | None
    context: Context


@dataclass(kw_only=True)
class OutsideServer:
    """A server outside of the service; it never crashes."""

    name: str
    app: ASGIApp | None
    context: Context
    dead: bool = False


@dataclass(frozen=True, kw_only=True)
class NetworkFaults:
    """Probabilities of network faults, and the maximum usual and rare delay in seconds."""

    refuse: float = 0.0
    cut_request: float = 0.0
    cut_reply: float = 0.0
    double: float = 0.0
    slow: float = 0.0
    delay: float = 0.05
    long_delay: float = 8.0


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """One request under way: its kind, and its number within its kind."""

    kind: str
    number: int
    host: str
    request: httpx.Request
    body: bytes = field(repr=False)

    @property
    def occasion(self) -> str:
        """Return its key for random draws."""
        return f"{self.kind}/{self.number}"


Observer = Callable[["Transfer", int], None]


class Network:
    """Transfers every request of a run; `arrived`, `replied` and `served` are called for each."""

    def __init__(
        self, loop: SimLoop, seeded_faults: SeededFaults, network_faults: NetworkFaults, history: History
    ) -> None:
        self._loop = loop
        self._seeded_faults = seeded_faults
        self.network_faults = network_faults
        self._history = history
        self._servers: dict[str, list[Server]] = {}
        self._counts: Counter[str] = Counter()
        self._repeated: set[asyncio.Task[Any]] = set()
        self._open: set[asyncio.Task[Any]] = set()
        self.arrived: Callable[[Transfer, Server], None] = lambda _passage, _server: None
        self.replied: Callable[[Transfer, int], None] = lambda _passage, _status: None
        self.served: Callable[[Transfer, Server, int], None] = lambda _passage, _server, _status: None

    def serve(self, host: str, server: Server) -> None:
        """Add `server` to those that serve `host`."""
        self._servers.setdefault(host, []).append(server)

    def withdraw(self, host: str, server: Server) -> None:
        """Remove `server` from those that serve `host`."""
        if server in self._servers.get(host, []):
            self._servers[host].remove(server)

    @property
    def busy(self) -> bool:
        """Return whether a repeated request is still to arrive, or any request to be answered."""
        return bool(self._repeated or self._open)

    async def send_request(self, source: Owner | None, request: httpx.Request) -> httpx.Response:
        """Return the response to `request`, or raise the client's exception."""
        body = await request.aread()
        kind = kind_of(request)
        self._counts[kind] += 1
        transfer = Transfer(kind=kind, number=self._counts[kind], host=request.url.host, request=request, body=body)
        began = self._loop.time()
        try:
            async with asyncio.timeout(request.extensions.get("timeout", {}).get("read")):
                return await self._transfer(source, transfer)
        except TimeoutError:
            self._note_failure(transfer, began, "timeout")
            raise httpx.ReadTimeout("the response took too long", request=request) from None
        except httpx.TransportError as error:
            self._note_failure(transfer, began, str(error))
            raise

    def _note_failure(self, transfer: Transfer, began: float, what: str) -> None:
        if what != "no server":
            self._history.note(self._loop.time(), transfer.kind, f"#{transfer.number} {what}")
        if transfer.kind in {"fetch", "list", "create"}:
            self._history.note_disturbance(transfer.kind, began, self._loop.time(), transfer.request.url.path)

    async def _transfer(self, source: Owner | None, transfer: Transfer) -> httpx.Response:
        self._fail_if(source is not None and source.dead, REFUSE)
        await asyncio.sleep(self._delay(transfer, "out"))
        self._fail_if(self._is_injected("refuse", transfer), REFUSE)
        self._fail_if(self._is_injected("cut_request", transfer), CUT)
        server = self._pick(transfer)
        if server is None:
            raise httpx.ConnectError("no server")
        serving = self._serve(transfer, server)
        if self._is_injected("double", transfer) and transfer.kind in {"callback", "fetch", "hook", "client"}:
            self._repeat(transfer)
        answer = await self._answer(serving, server)
        self._fail_if(self._is_injected("cut_reply", transfer), CUT)
        await asyncio.sleep(self._delay(transfer, "back"))
        self.replied(transfer, answer.status_code)
        return answer

    def _fail_if(self, injected: bool, how: tuple[type[httpx.TransportError], str]) -> None:
        if injected:
            raise how[0](how[1])

    async def _answer(self, serving: "asyncio.Task[httpx.Response]", server: Server) -> httpx.Response:
        await asyncio.wait([serving])
        if serving.cancelled() or server.dead:
            raise httpx.ReadError("the server crashed")
        error = serving.exception()
        if error is not None:
            raise httpx.ReadError(f"the connection broke: {type(error).__name__}") from error
        return serving.result()

    def _serve(self, transfer: Transfer, server: Server) -> "asyncio.Task[httpx.Response]":
        self.arrived(transfer, server)
        work = self._served(transfer, server)
        serving = self._loop.create_task(work, context=server.context.copy())
        if transfer.kind != STREAM:
            self._open.add(serving)
            serving.add_done_callback(self._open.discard)
        serving.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # the client may have stopped waiting
        return serving

    async def _served(self, transfer: Transfer, server: Server) -> httpx.Response:
        if server.app is None:
            raise ConnectionResetError("gone")

        def answered(status: int) -> None:
            self._history.note(self._loop.time(), transfer.kind, f"#{transfer.number} {server.name} answers {status}")
            self.served(transfer, server, status)

        return await exchange(server.app, transfer.request, transfer.body, answered)

    def _repeat(self, transfer: Transfer) -> None:
        async def later() -> None:
            await asyncio.sleep(self._delay(transfer, "again"))
            server = self._pick(transfer)
            if server:
                self._serve(transfer, server)

        task = asyncio.create_task(later())
        self._repeated.add(task)
        task.add_done_callback(self._repeated.discard)

    def _pick(self, transfer: Transfer) -> Server | None:
        servers = [server for server in self._servers.get(transfer.host, []) if not server.dead]
        return servers[int(self._seeded_faults.draw("pick", transfer.occasion) * len(servers))] if servers else None

    def _is_injected(self, fault: str, transfer: Transfer) -> bool:
        chance: float = getattr(self.network_faults, fault)
        return chance > 0 and self._seeded_faults.draw(fault, transfer.occasion) < chance

    def _delay(self, transfer: Transfer, leg: str) -> float:
        slow = (
            self.network_faults.slow > 0
            and self._seeded_faults.draw(f"slow {leg}", transfer.occasion) < self.network_faults.slow
        )
        max_delay = self.network_faults.long_delay if slow else self.network_faults.delay
        return max_delay * self._seeded_faults.draw(leg, transfer.occasion)


class SimTransport(httpx.AsyncBaseTransport):
    """The network as a transport of one client; `source` is the client's process, None outside of all."""

    def __init__(self, network: Network, source: Owner | None) -> None:
        self._network = network
        self._source = source

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Transfer one request."""
        request.extensions["from"] = getattr(self._source, "name", "")
        return await self._network.send_request(self._source, request)


def params_of(transfer: Transfer) -> dict[str, Any]:
    """Return the parameters of a submission."""
    body: dict[str, Any] = json.loads(transfer.body)
    return body["input"][0]["params"] if "input" in body else body


def payload_of(transfer: Transfer) -> str:
    """Return the payload token of a submission."""
    return str(params_of(transfer)["payload"])


KINDS: tuple[tuple[str, str, str], ...] = (
    ("POST", "/model/v1/generation", "create"),
    ("POST", "/ent/v2/reference2video", "create"),
    ("GET", "/model/v1/generation/task/", "fetch"),
    ("POST", "/callbacks/", "callback"),
    ("GET", "/ent/v2/tasks", "list"),
    ("GET", "/v1/events", STREAM),
    ("POST", "/v1/endpoints", "operator"),
)


def kind_of(request: httpx.Request) -> str:
    """Return the kind of a request."""
    path = request.url.path
    if request.url.host == "hooks.test":
        return "hook"
    if path.endswith("/creations"):
        return "fetch"
    found = (kind for method, start, kind in KINDS if request.method == method and path.startswith(start))
    return next(found, "client")


async def exchange(
    app: ASGIApp, request: httpx.Request, body: bytes, answered: Callable[[int], None]
) -> httpx.Response:
    """Send one request to an ASGI application; `answered` is called with the status when it is sent."""
    sent: list[Message] = []
    bodies = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        message = next(bodies, None)
        return message if message is not None else await _never()

    async def send(message: Message) -> None:
        sent.append(message)
        if message["type"] == "http.response.start":
            answered(message["status"])

    await app(_scope(request), receive, send)
    content = b"".join(message.get("body", b"") for message in sent if message["type"] == "http.response.body")
    return httpx.Response(sent[0]["status"], headers=sent[0]["headers"], content=content)


def _never() -> Awaitable[Message]:
    return asyncio.get_running_loop().create_future()


def _scope(request: httpx.Request) -> dict[str, Any]:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "client": ("127.0.0.1", 1),
        "server": (request.url.host, request.url.port or 80),
    }
