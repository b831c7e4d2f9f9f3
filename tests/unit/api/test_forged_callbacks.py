"""A forged callback costs nothing: its body is never read."""

from collections.abc import AsyncIterator

import httpx
import pytest

from service.domain.errors import BadToken
from tests.unit.api.fakes import FakeApplication


@pytest.mark.parametrize(("forged", "status"), [(True, 403), (False, 204)])
async def test_body_is_read_after_the_token_is_verified(
    client: httpx.AsyncClient, fake: FakeApplication, monkeypatch: pytest.MonkeyPatch, forged: bool, status: int
) -> None:
    """The token is verified first, so that an unknown caller's body takes neither memory nor time."""
    read: list[bool] = []

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield b"{}"

    def refuse(_: str) -> None:
        raise BadToken("forged")

    if forged:
        monkeypatch.setattr(fake, "verify_token", refuse)
    response = await client.post("/callbacks/abc", content=body())
    assert response.status_code == status
    assert bool(read) is not forged
