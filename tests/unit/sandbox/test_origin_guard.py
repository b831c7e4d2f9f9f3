"""Only the operator can use switches and ledger of the sandbox, no web page in the operator's browser."""

import httpx
import pytest

from tests.unit.sandbox.test_bench import BEARER, Bench, bench, vtrix_request

JSON = {"Content-Type": "application/json"}


def listening(at: Bench, address: str) -> httpx.AsyncClient:
    """Return a client that is connected to the sandbox at `address`, as the server reports it."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(at.sandbox.app), base_url=f"http://{address}:8099")


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8099", 200),
        ("localhost:8099", 200),
        ("[::1]:8099", 200),
        ("172.17.0.2:8099", 200),  # the address that was connected to
        ("sandbox.test", 200),  # the switch `public_url`
        ("rebound.example.org", 403),
        ("localhost.example.org", 403),
        ("172.17.0.3", 403),
        ("[", 403),
        ("", 403),
    ],
)
async def test_dns_rebinding_is_refused(host: str, status: int) -> None:
    """A page whose own name resolves to this machine can neither read bills nor change switches."""
    async with bench(public_url="http://sandbox.test:8099") as at, listening(at, "172.17.0.2") as client:
        headers = {"Host": host}
        assert (await client.get("/sandbox/ledger", headers=headers)).status_code == status
        assert (await client.get("/sandbox/switches", headers=headers)).status_code == status
        turned = await client.post("/sandbox/switches", json={"run_time": "9s"}, headers=headers)
        assert turned.status_code == status
        assert (at.sandbox.switches.run_time == 9.0) == (status == 200)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (JSON, 200),
        ({"Content-Type": "Application/JSON; charset=utf-8"}, 200),
        (JSON | {"Origin": "http://127.0.0.1:8099"}, 200),
        (JSON | {"Origin": "http://127.0.0.1:3000"}, 403),
        (JSON | {"Origin": "https://example.org"}, 403),
        (JSON | {"Origin": "null"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({}, 415),
    ],
)
async def test_page_of_another_site_cannot_change_a_switch(headers: dict[str, str], status: int) -> None:
    """Browsers let any page post a form; its origin and its content type reveal it."""
    async with bench() as at, listening(at, "127.0.0.1") as client:
        reply = await client.post("/sandbox/switches", content=b'{"run_time": "9s"}', headers=headers)
        assert reply.status_code == status
        assert ("error" in reply.json()) == (status != 200)
        assert (at.sandbox.switches.run_time == 9.0) == (status == 200)


async def test_two_hosts_are_refused() -> None:
    """With two Host headers, the host of the browser is unknown."""
    async with bench() as at, listening(at, "127.0.0.1") as client:
        twice = [("Host", "127.0.0.1"), ("Host", "rebound.example.org")]
        assert (await client.get("/sandbox/ledger", headers=twice)).status_code == 403


async def test_provider_api_accepts_every_host() -> None:
    """A service in another container uses a name that the sandbox does not know."""
    async with bench() as at, listening(at, "172.17.0.2") as client:
        headers = BEARER | {"Host": "upstream.internal:8099"}
        made = await client.post("/model/v1/generation", json=vtrix_request(), headers=headers)
        assert made.status_code == 200
        found = await client.get(f"/model/v1/generation/task/{made.json()['id']}", headers=headers)
        assert found.status_code == 200
