"""Every address of a name is tried, and only the connection that is used ever carries a byte."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import httpcore
import httpx
import pytest

from service.deliveries.egress_guard import GuardedTransport
from service.deliveries.egress_policy import Egress, EgressRefused
from service.network import dialing
from service.network.addresses import interleaved
from service.network.dialing import MAX_ATTEMPTS, Dialer, connect_to_first
from service.network.transport import Outgoing, OutgoingTransport, outgoing
from service.providers import PooledTransport
from tests.support.private_ca import PrivateCa, Site, site
from tests.support.silent_address import silent_address

SILENT, ALIVE, CLOSED = "127.0.0.2", "127.0.0.1", "127.0.0.9"
GENEROUS = 60.0
"""Seconds until a test fails; a silent address alone takes more than two minutes."""

NEVER = 3600.0


def resolver(*addresses: str) -> Any:
    """Return a resolver with one answer for every name."""

    async def resolve(_host: str, _port: int) -> Sequence[str]:
        return addresses

    return resolve


def clients(addresses: Sequence[str]) -> list[httpx.AsyncBaseTransport]:
    """Return the transports of the provider and of handlers, to which every name has `addresses`."""
    dialer = Dialer(resolve=resolver(*addresses))
    return [
        PooledTransport(lambda: OutgoingTransport(Outgoing(), dialer=dialer)),
        GuardedTransport(Egress(["127.0.0.0/8"]), resolve=resolver(*addresses)),
    ]


@contextlib.asynccontextmanager
async def alive_and_silent() -> AsyncIterator[Site]:
    """Run a site on ALIVE, and a silent address at the same port of SILENT."""
    async with site(Site(), host=ALIVE) as alive:
        with silent_address(SILENT, alive.port):
            yield alive


@pytest.mark.parametrize("kind", [0, 1], ids=["provider", "handlers"])
async def test_silent_first_address_does_not_delay(kind: int) -> None:
    """The second address is used while the first one is still silent; a POST arrives once."""
    async with alive_and_silent() as alive:
        async with httpx.AsyncClient(transport=clients([SILENT, ALIVE])[kind], timeout=GENEROUS) as http:
            async with asyncio.timeout(GENEROUS / 2):
                response = await http.post(f"http://two.test:{alive.port}/tasks", json={"paid": True})
        assert response.status_code == 200
        assert alive.requests == ["POST /tasks"]
        assert alive.hosts == [f"two.test:{alive.port}"]


async def test_abandoned_attempts_leave_no_socket() -> None:
    """The attempt to the silent address is closed as soon as another address has answered."""
    async with alive_and_silent() as alive:
        before = _sockets()
        stream = await Dialer(resolve=resolver(SILENT, ALIVE)).connect_tcp("two.test", alive.port, timeout=GENEROUS)
        try:
            async with asyncio.timeout(GENEROUS):
                await alive.accepted.wait()
            assert _sockets() == before + 2  # both ends of the connection to the other address
        finally:
            await stream.aclose()


def _sockets() -> int:
    """Return how many sockets this process has open."""
    return sum(
        str(path.readlink()).startswith("socket:") for path in Path("/proc/self/fd").iterdir() if path.is_symlink()
    )


async def test_refused_address_moves_on_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next address does not wait for the delay when one refuses."""
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY", NEVER)
    async with site(Site()) as alive, asyncio.timeout(GENEROUS):
        for transport in clients([CLOSED, "127.0.0.8", ALIVE]):
            async with httpx.AsyncClient(transport=transport) as http:
                assert (await http.get(f"http://three.test:{alive.port}/")).status_code == 200


async def test_errors_of_all_addresses_are_one_error() -> None:
    """Where no address can be connected to, one error has the reason of each."""
    with socket.socket() as unused:
        unused.bind((ALIVE, 0))
        port = unused.getsockname()[1]
        for transport in clients([ALIVE, CLOSED]):
            async with httpx.AsyncClient(transport=transport) as http:
                with pytest.raises(httpx.ConnectError) as failed:
                    await http.get(f"http://none.test:{port}/")
            assert str(failed.value) == f"{ALIVE}: Connection refused; {CLOSED}: Connection refused"


async def test_tls_name_is_that_of_the_host(tmp_path: Path) -> None:
    """The certificate of the host is verified whichever address answers; one for the address is not accepted."""
    ca = PrivateCa(tmp_path)
    variables = {"BOOMERANG_CA_FILE": str(ca.file)}
    for names, accepted in ((("named.test",), True), ((ALIVE,), False)):
        async with site(Site(), ca.server_context(*names)) as alive:
            dialer = Dialer(resolve=resolver(CLOSED, ALIVE))
            transport = OutgoingTransport(outgoing(variables), dialer=dialer)
            async with httpx.AsyncClient(transport=transport) as http:
                url = f"https://named.test:{alive.port}/"
                if accepted:
                    assert (await http.get(url)).status_code == 200
                else:
                    with pytest.raises(httpx.ConnectError, match="certificate verify failed: Hostname mismatch"):
                        await http.get(url)
            assert alive.names == ["named.test"]


async def test_each_address_is_checked_before_any_is_dialled() -> None:
    """One address that is not allowed stops the connection, in whatever place it is."""
    async with site(Site()) as alive:
        for addresses in ([ALIVE, "10.0.0.1"], ["10.0.0.1", ALIVE]):
            transport = GuardedTransport(Egress([ALIVE]), resolve=resolver(*addresses))
            async with httpx.AsyncClient(transport=transport) as http:
                with pytest.raises(EgressRefused, match=r"10\.0\.0\.1"):
                    await http.get(f"http://mixed.test:{alive.port}/")
        assert alive.connections == 0


def test_families_take_turns() -> None:
    """The family of the first address begins; then they alternate, each in its order."""
    assert interleaved(["::1", "::2", "::3", "1.1.1.1", "2.2.2.2"]) == ["::1", "1.1.1.1", "::2", "2.2.2.2", "::3"]
    assert interleaved(["1.1.1.1", "::1", "::2"]) == ["1.1.1.1", "::1", "::2"]
    assert interleaved([]) == []


class Stream(httpcore.AsyncNetworkStream):
    """A connection that notes whether it is closed."""

    def __init__(self) -> None:
        self.closed = False

    async def aclose(self) -> None:
        """Close."""
        self.closed = True


async def test_number_of_addresses_is_limited() -> None:
    """A name with a hundred addresses is tried at a few of them."""
    tried: list[str] = []

    async def dial(address: str) -> httpcore.AsyncNetworkStream:
        tried.append(address)
        raise httpcore.ConnectError("refused")

    with pytest.raises(httpcore.ConnectError):
        await connect_to_first([f"10.0.0.{number}" for number in range(100)], dial, {})
    assert len(tried) == MAX_ATTEMPTS


async def test_of_two_connections_one_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two addresses that answer at the same moment: the first is used, the other closed without a byte."""
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY", 0.0)
    streams = {"a": Stream(), "b": Stream()}
    both = asyncio.Barrier(2)

    async def dial(address: str) -> httpcore.AsyncNetworkStream:
        await both.wait()
        return streams[address]

    assert await connect_to_first(["a", "b"], dial, {}) is streams["a"]
    assert [streams["a"].closed, streams["b"].closed] == [False, True]


async def test_cancelled_connection_cancels_its_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A caller that is cancelled leaves no attempt running."""
    monkeypatch.setattr(dialing, "ATTEMPT_DELAY", 0.0)
    ended: list[str] = []
    all_run = asyncio.Barrier(3)

    async def dial(address: str) -> httpcore.AsyncNetworkStream:
        try:
            await all_run.wait()
            await asyncio.Event().wait()
        finally:
            ended.append(address)
        raise AssertionError

    connecting = asyncio.create_task(connect_to_first(["a", "b"], dial, {}))
    await all_run.wait()
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert sorted(ended) == ["a", "b"]
