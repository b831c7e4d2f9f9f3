"""Requests through a real forward proxy: tunnels, forwarding, passwords, faults."""

import asyncio
import errno
import socket
from pathlib import Path

import httpx
import pytest

from service.network.connection_errors import transport_reason
from service.network.transport import OutgoingTransport, outgoing
from service.providers import PooledTransport, connection_opener, connection_pool
from tests.support.forward_proxy import ForwardProxy, forward_proxy
from tests.support.private_ca import PrivateCa, Site, site

NAME = "api.provider.test"
"""A name that only the proxy resolves."""


@pytest.fixture
def ca(tmp_path: Path) -> PrivateCa:
    """Return a private authority."""
    return PrivateCa(tmp_path)


def client(proxy: str, ca: PrivateCa | None = None, **variables: str) -> httpx.AsyncClient:
    """Return a client that uses `proxy` and trusts `ca`."""
    given = {
        "HTTPS_PROXY": proxy,
        "HTTP_PROXY": proxy,
        **({"BOOMERANG_CA_FILE": str(ca.file)} if ca else {}),
        **variables,
    }
    return httpx.AsyncClient(transport=OutgoingTransport(outgoing(given)), trust_env=False, timeout=20)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 Connection established\r\n\r\n",
        b"HTTP/1.0 200 Connection established\r\nProxy-Agent: old\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 \r\n\r\n",
    ],
    ids=["1.1", "1.0", "with lengths", "after 100"],
)
async def test_https_uses_a_tunnel(ca: PrivateCa, answer: bytes) -> None:
    """The proxy is asked for the name; TLS and certificate are those of the host, whatever form the answer has."""
    async with site(Site(), ca.server_context(NAME)) as target:
        async with (
            forward_proxy(ForwardProxy(default=target.port, answer=answer)) as proxy,
            client(proxy.url, ca) as http,
        ):
            assert (await http.post(f"https://{NAME}/tasks", json={})).status_code == 200
        assert proxy.requests == [f"CONNECT {NAME}:443"]
        assert (target.requests, target.hosts, target.names) == (["POST /tasks"], [NAME], [NAME])
    assert "authorization" not in proxy.heads[0].lower()


async def test_http_is_forwarded_with_its_whole_address(ca: PrivateCa) -> None:
    """A plain address is sent to the proxy in absolute form, with its port and query."""
    async with site(Site()) as target:
        async with forward_proxy(ForwardProxy(default=target.port)) as proxy, client(proxy.url, ca) as http:
            for _ in range(2):
                assert (await http.get(f"http://{NAME}:8099/tasks/1?a=b%20c")).status_code == 200
        assert proxy.requests == [f"GET http://{NAME}:8099/tasks/1?a=b%20c"] * 2
        assert target.requests == ["GET /tasks/1?a=b%20c"] * 2
        assert target.hosts == [f"{NAME}:8099"] * 2


async def test_proxy_over_tls(ca: PrivateCa) -> None:
    """An https proxy is verified like a host, carries tunnels in its own TLS, and forwards."""
    async with site(Site(), ca.server_context(NAME)) as secure, site(Site()) as plain:
        routes = {f"{NAME}:443": secure.port, f"{NAME}:80": plain.port}
        async with forward_proxy(ForwardProxy(routes=routes), ca.server_context("127.0.0.1")) as proxy:
            async with client(proxy.url, ca) as http:
                for scheme in ("https", "http"):
                    assert (await http.get(f"{scheme}://{NAME}/")).status_code == 200
            async with client(proxy.url) as http:
                for scheme in ("https", "http"):
                    with pytest.raises(httpx.ProxyError) as refused:
                        await http.get(f"{scheme}://{NAME}/")
                    reason = "certificate verify failed: unable to get local issuer certificate"
                    assert transport_reason(refused.value) == f"the proxy: {reason}"
        assert proxy.requests == [f"CONNECT {NAME}:443", f"GET http://{NAME}/"]


async def test_plain_proxy_with_an_https_address_is_named(ca: PrivateCa) -> None:
    """The common mistake `HTTPS_PROXY=https://...` for a proxy without TLS gives a reason that names both."""
    async with forward_proxy(ForwardProxy(refuses_tls=True)) as proxy:
        http = client(proxy.url.replace("http:", "https:"), ca)
        with pytest.raises(httpx.ProxyError) as refused:
            await http.get(f"https://{NAME}/")
        await http.aclose()
    assert transport_reason(refused.value).startswith("the proxy: TLS failed: ")


async def test_ipv6_addresses_are_in_brackets(ca: PrivateCa) -> None:
    """CONNECT and the whole address name an IPv6 address so that its port is recognized."""
    host = "[2001:db8::7]"
    async with site(Site(), ca.server_context("2001:db8::7")) as secure, site(Site()) as plain:
        routes = {f"{host}:443": secure.port, f"{host}:80": plain.port, f"{host}:8443": secure.port}
        async with forward_proxy(ForwardProxy(routes=routes)) as proxy, client(proxy.url, ca) as http:
            for url in (f"https://{host}/", f"http://{host}/", f"https://{host}:8443/"):
                assert (await http.get(url)).status_code == 200
        assert proxy.requests == [f"CONNECT {host}:443", f"GET http://{host}/", f"CONNECT {host}:8443"]
        assert "host: [2001:db8::7]:443" in proxy.heads[0].lower()


async def test_no_proxy_is_direct(ca: PrivateCa) -> None:
    """A loopback address and an entry of NO_PROXY never reach the proxy."""
    async with site(Site()) as target, forward_proxy(ForwardProxy()) as proxy:
        for host in ("127.0.0.1", "localhost", "[::ffff:127.0.0.1]"):
            async with client(proxy.url, ca) as http:
                assert (await http.get(f"http://{host}:{target.port}/")).status_code == 200
        async with client(proxy.url, ca, NO_PROXY=".provider.test") as http:
            with pytest.raises(httpx.ConnectError, match="does not resolve"):
                await http.get(f"http://{NAME}:{target.port}/")
    assert proxy.requests == []


async def test_password_is_sent_to_the_proxy_only(ca: PrivateCa) -> None:
    """The proxy gets user and password, decoded, with both kinds of request; the host gets neither."""
    authorization = "Basic dTpwQHNz"  # u:p@ss
    seen: list[str] = []

    class Noting(Site):
        async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            seen.append(head)
            writer.write(self._answer())
            await writer.drain()
            writer.close()

    async with site(Noting(), ca.server_context(NAME)) as secure, site(Noting()) as plain:
        routes = {f"{NAME}:443": secure.port, f"{NAME}:80": plain.port}
        async with forward_proxy(ForwardProxy(routes=routes, authorization=authorization)) as proxy:
            async with client(proxy.url.replace("://", "://u:p%40ss@"), ca) as http:
                for scheme in ("https", "http"):
                    assert (await http.get(f"{scheme}://{NAME}/")).status_code == 200
            async with client(proxy.url, ca) as http:
                for scheme in ("https", "http"):
                    with pytest.raises(httpx.ProxyError) as refused:
                        await http.get(f"{scheme}://{NAME}/")
                    assert transport_reason(refused.value) == "the proxy answered 407 Proxy Authentication Required"
    assert len(seen) == 2
    assert not [head for head in seen if "proxy-authorization" in head.lower()]


@pytest.mark.parametrize(
    ("faults", "error", "reason"),
    [
        ({"answer": b"HTTP/1.1 502 Bad Gateway\r\n\r\n"}, httpx.ProxyError, "the proxy answered 502 Bad Gateway"),
        ({"answer": b"HTTP/1.0 403 no\r\n\r\n<html>"}, httpx.ProxyError, "the proxy answered 403 Forbidden"),
        ({"dies": True}, httpx.ProxyError, "the proxy closed the connection or did not answer as a proxy"),
        (
            {"answer": b"SSH-2.0-OpenSSH\r\n\r\n"},
            httpx.ProxyError,
            "the proxy closed the connection or did not answer as a proxy",
        ),
        (
            {"answer": b"HTTP/1.1 200 OK\r\n\r\n", "cuts": True},
            httpx.ConnectError,
            "TLS failed: unexpected eof while reading",
        ),
    ],
    ids=["502", "403", "dies", "another protocol", "cut after the answer"],
)
async def test_failed_tunnel_is_a_failed_connection(
    ca: PrivateCa, faults: dict[str, object], error: type[Exception], reason: str
) -> None:
    """Whatever happens before the tunnel stands: an error from which it follows that nothing was sent."""
    async with forward_proxy(ForwardProxy(**faults)) as proxy, client(proxy.url, ca) as http:  # type: ignore[arg-type] # a table of faults
        with pytest.raises(error) as failed:
            await http.post(f"https://{NAME}/tasks", json={})
    assert transport_reason(failed.value) == reason


async def test_hanging_proxy_is_a_connect_timeout(ca: PrivateCa) -> None:
    """A proxy that does not answer CONNECT ends with the time for connecting, not with that for the response."""
    async with forward_proxy(ForwardProxy(hangs=True)) as proxy, client(proxy.url, ca) as http:
        with pytest.raises(httpx.ConnectTimeout):
            await http.post(f"https://{NAME}/tasks", timeout=httpx.Timeout(3600, connect=2.0))
    assert proxy.requests == [f"CONNECT {NAME}:443"]


async def test_post_uses_no_tunnel_that_was_idle(ca: PrivateCa, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short time for which a POST uses a connection again holds for tunnels and for connections to the proxy."""
    async with site(Site(), ca.server_context(NAME)) as secure, site(Site()) as plain:
        routes = {f"{NAME}:443": secure.port, f"{NAME}:80": plain.port}
        async with forward_proxy(ForwardProxy(routes=routes)) as proxy:
            network = outgoing({"ALL_PROXY": proxy.url, "BOOMERANG_CA_FILE": str(ca.file)})
            for limit, tunnels in ((60.0, 1), (-1.0, 3)):
                proxy.requests.clear()
                monkeypatch.setattr(connection_pool, "POST_IDLE_SECONDS", limit)
                transport = PooledTransport(connection_opener(network))
                async with httpx.AsyncClient(transport=transport, trust_env=False) as http:
                    for _ in range(3):
                        assert (await http.post(f"https://{NAME}/tasks")).status_code == 200
                assert proxy.requests == [f"CONNECT {NAME}:443"] * tunnels


async def test_many_names_share_no_tunnel(ca: PrivateCa) -> None:
    """Each host has its own tunnel."""
    async with site(Site(), ca.server_context("a.test", "b.test")) as target:
        async with forward_proxy(ForwardProxy(default=target.port)) as proxy, client(proxy.url, ca) as http:
            for host in ("a.test", "b.test", "a.test"):
                await http.get(f"https://{host}/")
        assert target.hosts == ["a.test", "b.test", "a.test"]
        assert proxy.requests == ["CONNECT a.test:443", "CONNECT b.test:443"]


@pytest.mark.parametrize("scheme", ["https", "http"])
@pytest.mark.parametrize(
    ("host", "reason"), [("127.0.0.1", "Connection refused"), ("proxy.invalid", "the name does not resolve")]
)
async def test_wrong_address_of_the_proxy_is_named(scheme: str, host: str, reason: str) -> None:
    """Where nothing listens or the name is wrong, the proxy is named as the fault, not the host behind it."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with client(f"http://{host}:{unused.getsockname()[1]}") as http:
            with pytest.raises(httpx.ProxyError) as failed:
                await http.post(f"{scheme}://{NAME}/tasks", json={})
    assert transport_reason(failed.value) == f"the proxy could not be connected to: {reason}"
    assert str(failed.value).endswith(transport_reason(failed.value))


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (ConnectionRefusedError(errno.ECONNREFUSED, "10.1.2.3 refused"), "Connection refused"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "the name does not resolve"),
        (None, "ConnectError"),
    ],
)
def test_reason_of_a_direct_connection_has_no_host(cause: OSError | None, reason: str) -> None:
    """A wrong name and a service that does not run have different reasons."""
    error = httpx.ConnectError("10.1.2.3 refused")
    error.__cause__ = cause
    assert transport_reason(error) == reason
