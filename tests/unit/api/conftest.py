"""A world, and a client of the application over it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.unit.api.fakes import World, app_of, client_of


@pytest.fixture
def world() -> World:
    """Return an empty world."""
    return World()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client on this machine, where no API keys are set."""
    async with client_of(app_of(world)) as client:
        yield client
