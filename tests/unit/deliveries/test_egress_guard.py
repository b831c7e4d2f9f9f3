"""The egress guard with real connections: the checked address is the one that is connected."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from service.deliveries.egress_guard import GuardedTransport, client
from service.deliveries.egress_policy import Egress, EgressRefused
from service.domain.errors import Reject


class Server:
    """A real server on loopback that notes the Host of each request."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.port = 0
        self.answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
        except asyncio.IncompleteReadError as error:
            head = repr(error.partial)
        self.hosts += [line[6:] for line in head.split("\r\n") if line.lower().startswith("host: ")] or [head]
        writer.write(self.answer)
        await writer.drain()
        writer.close()


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    """Run a server on a free loopback port."""
    double = Server()
    server = await asyncio.start_server(double.serve, "127.0.0.1", 0)
    async with server:
        double.port = server.sockets[0].getsockname()[1]
        yield double


class Names:
    """A resolver that gives another answer each time."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.lookups: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the next answer, the last one for ever."""
        self.lookups.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def through(egress: Egress, names: Names | None = None) -> httpx.AsyncClient:
    """Return a client with the guard, and a resolver of the test's."""
    transport = GuardedTransport(egress, resolve=names) if names else GuardedTransport(egress)
    return httpx.AsyncClient(transport=transport, trust_env=False, timeout=5)


SPELLINGS = ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_loopback_is_connected(host: str) -> None:
    """However loopback is written, the server there receives nothing."""
    async with serving() as server, client(Egress()) as http:
        with pytest.raises((EgressRefused, httpx.ConnectError, httpx.InvalidURL)) as refused:
            await http.get(f"http://{host}:{server.port}/")
        assert server.hosts == []
        if host in {"127.0.0.1", "localhost", "[::1]"}:
            assert isinstance(refused.value, EgressRefused)
            assert refused.value.request.url.port == server.port
            assert isinstance(refused.value, Reject) == (host != "localhost")  # a name may come to mean something else


async def test_allowed_network_is_connected() -> None:
    """With the network allowed, a loopback server answers."""
    async with serving() as server, client(Egress(["127.0.0.0/8"])) as http:
        reply = await http.get(f"http://127.0.0.1:{server.port}/")
        assert reply.text == "ok"


async def test_connection_uses_the_checked_address() -> None:
    """A name that would resolve to something else a second time is resolved once; Host keeps the name."""
    names = Names(["127.0.0.1"], ["10.255.255.1"])
    async with serving() as server, through(Egress(["127.0.0.1"]), names) as http:
        reply = await http.get(f"http://rebinding.test:{server.port}/")
        assert reply.text == "ok"
        assert server.hosts == [f"rebinding.test:{server.port}"]
        assert names.lookups == [("rebinding.test", server.port)]


async def test_name_that_becomes_internal_is_refused() -> None:
    """Each new connection is checked again."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with serving() as server, through(Egress(["127.0.0.1"]), names) as http:
        assert (await http.get(f"http://rebinding.test:{server.port}/")).text == "ok"
        with pytest.raises(EgressRefused, match=r"127\.0\.0\.2"):
            await http.get(f"http://rebinding.test:{server.port}/")
        assert len(server.hosts) == 1


async def test_one_internal_address_beside_public_ones_is_refused() -> None:
    """A mixed answer is refused before any connection."""
    async with through(Egress(), Names(["8.8.8.8", "10.0.0.1"])) as http:
        with pytest.raises(EgressRefused, match=r"10\.0\.0\.1"):
            await http.get("http://mixed.test/")


async def test_allowed_name_covers_all_its_addresses() -> None:
    """A name that the operator allows covers its addresses, at its port only."""
    async with serving() as server:
        egress = Egress([f"media.internal:{server.port}"])
        async with through(egress, Names(["127.0.0.1"])) as http:
            assert (await http.get(f"http://media.internal:{server.port}/")).text == "ok"
            with pytest.raises(EgressRefused):
                await http.get(f"http://media.internal:{server.port + 1}/")
            with pytest.raises(EgressRefused):
                await http.get(f"http://other.internal:{server.port}/")


async def test_next_address_is_tried_when_one_does_not_answer() -> None:
    """A name whose first address does not answer is reached at its second."""
    async with serving() as server, through(Egress(["127.0.0.0/8"]), Names(["127.0.0.9", "127.0.0.1"])) as http:
        assert (await http.get(f"http://two.test:{server.port}/")).text == "ok"


async def test_name_without_an_address_is_a_connection_error() -> None:
    """A name without addresses is an ordinary failure, not a refusal."""

    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError(f"{host}:{port}")

    for resolver in (nowhere, Names([])):
        transport = GuardedTransport(Egress(), resolve=resolver)
        async with httpx.AsyncClient(transport=transport) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get("http://nowhere.test/")


async def test_connect_timeout_limits_a_hanging_resolver() -> None:
    """The timeout for connecting covers the resolution too."""

    async def hanging(host: str, port: int) -> Sequence[str]:  # noqa: ARG001 - the interface
        await asyncio.Event().wait()
        return []

    async with httpx.AsyncClient(transport=GuardedTransport(Egress(), resolve=hanging)) as http:
        with pytest.raises(httpx.ConnectTimeout):
            await http.get("http://slow.test/", timeout=0.05)


@pytest.mark.parametrize("url", ["ftp://example.org/", "file:///etc/passwd", "gopher://example.org/"])
async def test_only_http_and_https_are_allowed(url: str) -> None:
    """Another scheme is refused."""
    async with client(Egress(["127.0.0.0/8"])) as http:
        with pytest.raises((EgressRefused, httpx.UnsupportedProtocol)):
            await http.get(url)


async def test_redirects_are_not_followed_and_cookies_not_stored() -> None:
    """A redirect is returned as it is."""
    async with serving() as server, client(Egress(["127.0.0.1"])) as http:
        server.answer = (
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nSet-Cookie: a=b\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        reply = await http.get(f"http://127.0.0.1:{server.port}/")
        assert reply.status_code == 302
        assert len(http.cookies) == 0


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would connect for us, past the guard."""
    async with serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with client(Egress()) as http:
            with pytest.raises(EgressRefused):
                await http.get("http://10.0.0.1/")
        assert proxy.hosts == []


async def test_tls_uses_the_name_and_not_the_address() -> None:
    """SNI contains the name, though the connection uses the checked address."""
    hellos: list[bytes] = []

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hellos.append(await reader.read(4096))
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, through(Egress(["127.0.0.1"]), Names(["127.0.0.1"])) as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(f"https://named.test:{port}/")
    assert b"named.test" in hellos[0]
