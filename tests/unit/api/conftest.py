"""A fake application, and a client of the API over it."""

from collections.abc import AsyncIterator

import httpx
import pytest

from tests.unit.api.fakes import FakeApplication, app_of, client_of


@pytest.fixture
def fake() -> FakeApplication:
    """Return an empty fake application."""
    return FakeApplication()


@pytest.fixture
async def client(fake: FakeApplication) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client on this machine; no API keys are configured."""
    async with client_of(app_of(fake)) as client:
        yield client
