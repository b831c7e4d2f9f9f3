"""The dial-time guard: what may be dialled, and that what was checked is what is dialled."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import httpx
import pytest

from service.egress import Egress, EgressRefused, client, guarded_transport
from service.errors import BadSetting

INTERNAL = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",  # noqa: S104 - an address to be refused
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "169.254.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "233.252.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::127.0.0.1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:127.0.0.1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "4000::1",
    "not an address",
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "172.15.0.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2a00:1450:4001::1"]


@pytest.mark.parametrize("address", INTERNAL)
def test_internal_addresses_are_refused_by_name_of_the_setting(address: str) -> None:
    """Whatever is not plainly public is refused."""
    with pytest.raises(EgressRefused):
        Egress().check("host.test", 443, address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    """The world may be dialled."""
    Egress().check("host.test", 443, address)


def test_a_refusal_says_how_to_allow_it() -> None:
    """The message names the host, the address and the setting."""
    with pytest.raises(EgressRefused, match=r"files\.test is at 10\.0\.0\.1.*BOOMERANG_EGRESS_ALLOW"):
        Egress().check("files.test", 80, "10.0.0.1")


@pytest.mark.parametrize(
    ("entry", "host", "port", "address", "allowed"),
    [
        ("127.0.0.0/8", "a.test", 80, "127.1.2.3", True),
        ("127.0.0.0/8", "a.test", 80, "10.0.0.1", False),
        ("127.0.0.0/8", "a.test", 80, "::ffff:127.0.0.1", False),
        ("10.1.2.3", "a.test", 80, "10.1.2.3", True),
        ("10.1.2.3:8080", "a.test", 8080, "10.1.2.3", True),
        ("10.1.2.3:8080", "a.test", 80, "10.1.2.3", False),
        ("::1", "a.test", 80, "::1", True),
        ("[::1]:90", "a.test", 90, "::1", True),
        ("[::1]:90", "a.test", 91, "::1", False),
        ("fd00::/8", "a.test", 80, "fd00:ec2::254", True),
        ("media.internal", "media.internal", 80, "10.0.0.1", True),
        ("Media.Internal.", "MEDIA.internal.", 80, "10.0.0.1", True),
        ("media.internal", "evil.media.internal", 80, "10.0.0.1", False),
        ("media.internal", "media.internal.evil.test", 80, "10.0.0.1", False),
        ("media.internal:9000", "media.internal", 9000, "10.0.0.1", True),
        ("media.internal:9000", "media.internal", 80, "10.0.0.1", False),
        ("localhost", "localhost", 80, "127.0.0.1", True),
    ],
)
def test_the_operator_can_allow_networks_and_hosts(
    entry: str, host: str, port: int, address: str, *, allowed: bool
) -> None:
    """An entry covers its network or its name, at its port, and nothing beside it."""
    try:
        Egress([entry]).check(host, port, address)
    except EgressRefused:
        assert not allowed
    else:
        assert allowed


@pytest.mark.parametrize(
    "entry",
    [
        "127.0.0.1/8",
        "300.1.1.1",
        "10.0.0.0/33",
        "http://a.test",
        "*.internal",
        "a b",
        "a.test:0",
        "a.test:99999",
        "a/b",
    ],
)
def test_an_entry_that_means_nothing_stops_the_start(entry: str) -> None:
    """A misspelt entry is refused by name of the setting."""
    with pytest.raises(BadSetting, match="BOOMERANG_EGRESS_ALLOW"):
        Egress(["127.0.0.0/8", entry])


def test_blank_entries_are_nothing() -> None:
    """A trailing comma allows nothing."""
    with pytest.raises(EgressRefused):
        Egress(["", " "]).check("a.test", 80, "127.0.0.1")


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
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the next answer, the last one for ever."""
        self.asked.append((host, port))
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def through(egress: Egress, names: Names | None = None) -> httpx.AsyncClient:
    """Return a client with the guard, and a resolver of the test's."""
    transport = guarded_transport(egress, resolve=names) if names else guarded_transport(egress)
    return httpx.AsyncClient(transport=transport, trust_env=False, timeout=5)


SPELLINGS = ["127.0.0.1", "localhost", "0x7f000001", "2130706433", "0177.0.0.1", "127.1", "[::1]", "[::ffff:127.0.0.1]"]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_no_spelling_of_loopback_is_dialled(host: str) -> None:
    """However loopback is written, the server there never hears of it."""
    async with serving() as server, client(Egress()) as http:
        with pytest.raises((EgressRefused, httpx.ConnectError, httpx.InvalidURL)) as refused:
            await http.get(f"http://{host}:{server.port}/")
        assert server.hosts == []
        if host in {"127.0.0.1", "localhost", "[::1]"}:
            assert isinstance(refused.value, EgressRefused)
            assert refused.value.request.url.port == server.port


async def test_an_allowed_network_is_dialled() -> None:
    """With the network allowed, a loopback server answers."""
    async with serving() as server, client(Egress(["127.0.0.0/8"])) as http:
        reply = await http.get(f"http://127.0.0.1:{server.port}/")
        assert reply.text == "ok"


async def test_the_checked_address_is_the_one_that_is_dialled() -> None:
    """A name that would resolve to something else a second time is resolved once; Host keeps the name."""
    names = Names(["127.0.0.1"], ["10.255.255.1"])
    async with serving() as server, through(Egress(["127.0.0.1"]), names) as http:
        reply = await http.get(f"http://rebinding.test:{server.port}/")
        assert reply.text == "ok"
        assert server.hosts == [f"rebinding.test:{server.port}"]
        assert names.asked == [("rebinding.test", server.port)]


async def test_a_name_that_turns_inwards_later_is_refused_then() -> None:
    """Each new connection is checked again."""
    names = Names(["127.0.0.1"], ["127.0.0.2"])
    async with serving() as server, through(Egress(["127.0.0.1"]), names) as http:
        assert (await http.get(f"http://rebinding.test:{server.port}/")).text == "ok"
        with pytest.raises(EgressRefused, match=r"127\.0\.0\.2"):
            await http.get(f"http://rebinding.test:{server.port}/")
        assert len(server.hosts) == 1


async def test_one_internal_address_among_public_ones_is_enough_to_refuse() -> None:
    """A mixed answer is refused before anything is dialled."""
    async with through(Egress(), Names(["8.8.8.8", "10.0.0.1"])) as http:
        with pytest.raises(EgressRefused, match=r"10\.0\.0\.1"):
            await http.get("http://mixed.test/")


async def test_an_allowed_name_covers_whatever_it_resolves_to() -> None:
    """The operator's word on a name stands for its addresses, at its port only."""
    async with serving() as server:
        egress = Egress([f"media.internal:{server.port}"])
        async with through(egress, Names(["127.0.0.1"])) as http:
            assert (await http.get(f"http://media.internal:{server.port}/")).text == "ok"
            with pytest.raises(EgressRefused):
                await http.get(f"http://media.internal:{server.port + 1}/")
            with pytest.raises(EgressRefused):
                await http.get(f"http://other.internal:{server.port}/")


async def test_the_next_address_is_tried_when_one_does_not_answer() -> None:
    """A name with a dead first address is reached at its second."""
    async with serving() as server, through(Egress(["127.0.0.0/8"]), Names(["127.0.0.9", "127.0.0.1"])) as http:
        assert (await http.get(f"http://two.test:{server.port}/")).text == "ok"


async def test_a_name_without_an_address_is_a_connection_error() -> None:
    """Nothing to dial is an ordinary failure, not a refusal."""

    async def nowhere(host: str, port: int) -> Sequence[str]:
        raise OSError(f"{host}:{port}")

    for resolver in (nowhere, Names([])):
        transport = guarded_transport(Egress(), resolve=resolver)
        async with httpx.AsyncClient(transport=transport) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get("http://nowhere.test/")


async def test_a_resolver_that_hangs_is_bounded_by_the_connect_timeout() -> None:
    """The time-out for connecting covers the resolution too."""

    async def hanging(host: str, port: int) -> Sequence[str]:  # noqa: ARG001 - the interface
        await asyncio.Event().wait()
        return []

    async with httpx.AsyncClient(transport=guarded_transport(Egress(), resolve=hanging)) as http:
        with pytest.raises(httpx.ConnectTimeout):
            await http.get("http://slow.test/", timeout=0.05)


@pytest.mark.parametrize("url", ["ftp://example.org/", "file:///etc/passwd", "gopher://example.org/"])
async def test_only_http_and_https_are_dialled(url: str) -> None:
    """Another scheme is refused."""
    async with client(Egress(["127.0.0.0/8"])) as http:
        with pytest.raises((EgressRefused, httpx.UnsupportedProtocol)):
            await http.get(url)


async def test_redirects_are_not_followed_and_cookies_not_kept() -> None:
    """An answer that leads elsewhere is the answer."""
    async with serving() as server, client(Egress(["127.0.0.1"])) as http:
        server.answer = (
            b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254/\r\nSet-Cookie: a=b\r\n"
            b"Content-Length: 0\r\nConnection: close\r\n\r\n"
        )
        reply = await http.get(f"http://127.0.0.1:{server.port}/")
        assert reply.status_code == 302
        assert len(http.cookies) == 0


async def test_proxies_of_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would dial for us, past the guard."""
    async with serving() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{proxy.port}")
        async with client(Egress()) as http:
            with pytest.raises(EgressRefused):
                await http.get("http://10.0.0.1/")
        assert proxy.hosts == []


async def test_tls_asks_for_the_name_and_not_for_the_address() -> None:
    """SNI carries the name, though the checked address is dialled."""
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
