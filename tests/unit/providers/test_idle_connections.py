"""Idle connections: no request uses one that the server may be closing, and a POST, which costs money, still less."""

import asyncio
from typing import Any

import pytest

from service.providers.connection_pool import IDLE_SECONDS, POST_IDLE_SECONDS
from tests.unit.providers.test_connection_pool import URL, FakeNetwork
from tests.unit.sandbox.test_bench import MOVED

MIN_SERVER_LIMIT = 2.0
"""Seconds after which common servers close an idle connection."""

NETWORK_DELAY = 0.1


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """Run these tests in virtual time."""
    return MOVED


@pytest.mark.parametrize(
    ("method", "pause", "connections"),
    [
        ("POST", 0.0, 1),
        ("POST", POST_IDLE_SECONDS - 0.1, 1),
        ("POST", POST_IDLE_SECONDS + 0.1, 2),
        ("POST", 1.95, 2),
        ("POST", 4.95, 2),
        ("GET", POST_IDLE_SECONDS + 0.1, 1),
        ("GET", IDLE_SECONDS - 0.1, 1),
        ("GET", 1.95, 2),
        ("GET", 4.95, 2),
    ],
)
async def test_connection_is_used_again_for_a_short_time_only(method: str, pause: float, connections: int) -> None:
    """After a pause near a server's limit of 2 s or 5 s a new connection is opened; a POST is stricter."""
    network = FakeNetwork()
    async with network.client() as client:
        await client.get(URL)
        await asyncio.sleep(pause)
        await client.request(method, URL)
    assert len(network.opened) == connections


async def test_connection_that_is_too_old_for_a_post_serves_a_get() -> None:
    """A POST leaves the idle connection to the next GET."""
    network = FakeNetwork()
    async with network.client() as client:
        await client.get(URL)
        await asyncio.sleep(POST_IDLE_SECONDS + 0.1)
        async with client.stream("POST", URL):
            await client.get(URL)
    assert network.used == [network.opened[0], network.opened[1], network.opened[0]]


def test_limits_are_below_those_of_servers() -> None:
    """A request that starts at the limit arrives before the server closes, also with the delay of a network."""
    assert POST_IDLE_SECONDS < IDLE_SECONDS < MIN_SERVER_LIMIT - 2 * NETWORK_DELAY
