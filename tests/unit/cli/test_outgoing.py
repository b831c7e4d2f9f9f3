"""The client commands behind a proxy and with a private authority."""

from pathlib import Path

import pytest

from service.cli import Unreachable, UsageError
from service.cli.api_client import Client, find_access
from tests.support.forward_proxy import ForwardProxy, forward_proxy
from tests.support.private_ca import PrivateCa, Site, site

SERVICE = "boomerang.company.test"
TASKS = b'{"data": [], "next_cursor": null}'


async def test_command_uses_proxy_and_authority(tmp_path: Path) -> None:
    """A service elsewhere is reached through the proxy; its private certificate is verified, or named as the fault."""
    ca = PrivateCa(tmp_path)
    async with site(Site(body=TASKS), ca.server_context(SERVICE)) as target:
        async with forward_proxy(ForwardProxy(default=target.port)) as proxy:
            variables = {"https_proxy": proxy.url, "BOOMERANG_CA_FILE": str(ca.file)}
            async with Client(f"https://{SERVICE}", "key", variables=variables) as client:
                assert (await client.tasks())["data"] == []
            async with Client(f"https://{SERVICE}", "key", variables={"https_proxy": proxy.url}) as client:
                with pytest.raises(Unreachable, match=r"certificate verify failed: .*BOOMERANG_CA_FILE"):
                    await client.tasks()
        assert proxy.requests == [f"CONNECT {SERVICE}:443"] * 2
    assert "bearer" not in proxy.heads[0].lower()


async def test_proxy_that_refuses_is_named() -> None:
    """The message says that the proxy answered, and not that no service runs."""
    async with forward_proxy(ForwardProxy(authorization="Basic x")) as proxy:
        client = Client(f"https://{SERVICE}", variables={"https_proxy": proxy.url})
        with pytest.raises(Unreachable, match="the proxy answered 407"):
            await client.tasks()
        await client.__aexit__()


@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9", "nonsense://"])
async def test_service_of_this_machine_needs_no_proxy(tmp_path: Path, proxy: str) -> None:
    """Loopback is direct, also over TLS with a private authority, whatever proxies the environment names."""
    ca = PrivateCa(tmp_path)
    variables = {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "all_proxy": proxy, "SSL_CERT_FILE": str(ca.file)}
    async with site(Site(body=TASKS)) as plain, site(Site(body=TASKS), ca.server_context("localhost")) as secure:
        for url in (f"http://127.0.0.1:{plain.port}", f"https://localhost:{secure.port}"):
            async with Client(url, variables=variables) as client:
                assert (await client.tasks())["data"] == []


@pytest.mark.parametrize(
    ("name", "value"), [("HTTPS_PROXY", "socks5://127.0.0.1:9"), ("BOOMERANG_CA_FILE", "/missing/ca.pem")]
)
def test_unusable_variable_is_wrong_use(name: str, value: str) -> None:
    """A proxy or a file that cannot be used is reported with the name of its variable."""
    with pytest.raises(UsageError, match=name):
        Client(f"https://{SERVICE}", variables={name: value})


def test_variables_of_the_file_count_for_its_address_only(tmp_path: Path) -> None:
    """Another person's `.env` in the directory must not lead a request with a key of the shell through its proxy."""
    file = tmp_path / ".env"
    file.write_text("BOOMERANG_URL=https://file.test\nHTTPS_PROXY=http://evil.test:1\nSSL_CERT_FILE=/evil.pem\n")
    other = find_access(None, None, {}, file)
    assert (other.url, other.variables["HTTPS_PROXY"]) == ("https://file.test", "http://evil.test:1")
    own = find_access(None, None, {"BOOMERANG_URL": "https://own.test", "BOOMERANG_API_KEY": "k"}, file)
    assert "HTTPS_PROXY" not in own.variables
    option = find_access("https://own.test", None, {"BOOMERANG_API_KEY": "k"}, file)
    assert "SSL_CERT_FILE" not in option.variables
