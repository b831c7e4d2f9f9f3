"""A world, and a client of the application over it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.unit.api.fakes import FakeApplication, app_of, client_of


@pytest.fixture
def world() -> FakeApplication:
    """Return an empty world."""
    return FakeApplication()


@pytest.fixture
async def client(world: FakeApplication) -> AsyncIterator[httpx.AsyncClient]:
    """Give a client on this machine, where no API keys are set."""
    async with client_of(app_of(world)) as client:
        yield client
