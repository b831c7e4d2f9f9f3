"""When each address of a name is tried, in virtual time."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import httpcore
import pytest

from service.network.dialing import ATTEMPT_DELAY, MAX_ATTEMPTS, Dialer
from tests.unit.sandbox.test_bench import MOVED

CONNECT_SECONDS = 10.0


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


class Stream(httpcore.AsyncNetworkStream):
    """A connection to `address`."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def aclose(self) -> None:
        """Close."""


class Network(httpcore.AsyncNetworkBackend):
    """A network in which an address answers, refuses, or (any other) is silent; notes when each is tried."""

    def __init__(self, *, answers: Sequence[str] = (), refuses: Sequence[str] = ()) -> None:
        self.answers, self.refuses = answers, refuses
        self.tried: list[tuple[str, float]] = []
        self._started = asyncio.get_running_loop().time()

    def elapsed(self) -> float:
        """Return the seconds since the beginning."""
        return round(asyncio.get_running_loop().time() - self._started, 3)

    async def connect_tcp(
        self,
        host: str,
        port: int,  # noqa: ARG002 - the interface
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - the interface
        local_address: str | None = None,  # noqa: ARG002 - the interface
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002 - the interface
    ) -> httpcore.AsyncNetworkStream:
        """Connect, refuse, or wait for ever."""
        self.tried.append((host, self.elapsed()))
        if host in self.refuses:
            raise httpcore.ConnectError("refused")
        if host not in self.answers:
            await asyncio.Event().wait()
        return Stream(host)

    def dialer(self, *addresses: str) -> Dialer:
        """Return a dialer in this network, to which every name has `addresses`."""

        async def resolve(_host: str, _port: int) -> Sequence[str]:
            return addresses

        found = Dialer(resolve=resolve)
        found._backend = self  # type: ignore[assignment] # the network of the test
        return found


async def test_silent_addresses_delay_by_a_quarter_of_a_second_each() -> None:
    """Families take turns, 250 ms apart: an IPv6 that leads nowhere and a dead host delay by half a second."""
    network = Network(answers=["10.0.0.2"])
    stream = await network.dialer("::1", "::2", "10.0.0.1", "10.0.0.2").connect_tcp("host.test", 443)
    assert isinstance(stream, Stream)
    assert stream.address == "10.0.0.2"
    assert network.tried == [("::1", 0.0), ("10.0.0.1", 0.25), ("::2", 0.5), ("10.0.0.2", 0.75)]
    assert network.elapsed() == 3 * ATTEMPT_DELAY


async def test_refusal_moves_on_at_once() -> None:
    """An address that refuses costs no time, also one that refuses while another is silent."""
    network = Network(answers=["10.0.0.3"], refuses=["10.0.0.1", "10.0.0.2"])
    await network.dialer("10.0.0.1", "10.0.0.2", "10.0.0.3").connect_tcp("host.test", 443)
    assert [when for _, when in network.tried] == [0.0, 0.0, 0.0]


async def test_time_for_connecting_is_one_for_all_addresses() -> None:
    """Silent addresses end together when the time is over; the error names each of them and what it did."""
    network = Network(refuses=["10.0.0.1"])
    with pytest.raises(httpcore.ConnectTimeout) as late:
        await network.dialer("10.0.0.1", "10.0.0.2", "10.0.0.3").connect_tcp("host.test", 443, timeout=CONNECT_SECONDS)
    assert network.elapsed() == CONNECT_SECONDS
    reasons = "10.0.0.1: refused; 10.0.0.2: no answer; 10.0.0.3: no answer"
    assert str(late.value) == f"no connection to host.test in 10.0 s: {reasons}"


async def test_many_silent_addresses_are_limited() -> None:
    """Of a hundred addresses the first few are tried."""
    network = Network()
    with pytest.raises(httpcore.ConnectTimeout):
        await network.dialer(*[f"10.0.0.{number}" for number in range(100)]).connect_tcp("host.test", 443, timeout=60)
    assert len(network.tried) == MAX_ATTEMPTS
