"""The address of the tools for agents: without its extra, without a key, with odd messages."""

import sys

import httpx
import pytest

from tests.unit.api.fakes import KEYS, FakeApplication, app_of, client_of

ACCEPT = {"Accept": "application/json, text/event-stream"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


async def test_missing_extra_is_named(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem says what to install."""
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    answer = await client.post("/mcp", json=PING, headers=ACCEPT)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:boomerang:problem:not-installed")
    assert "boomerang-service[mcp]" in answer.json()["detail"]


async def test_caller_needs_a_key(fake: FakeApplication) -> None:
    """As for every other address; no session is opened by GET."""
    async with client_of(app_of(fake, api_keys=KEYS)) as unknown_caller, client_of(app_of(fake)) as local:
        assert (await unknown_caller.post("/mcp", json=PING, headers=ACCEPT)).status_code == 401
        assert (await local.get("/mcp", headers=ACCEPT)).status_code == 405


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"5", b'{"jsonrpc": "1.0"}', b'{"method": "\xff"}'])
async def test_odd_message_is_refused(client: httpx.AsyncClient, content: bytes) -> None:
    """The sender is at fault, not this service."""
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    answer = await client.post("/mcp", content=content, headers=ACCEPT | {"Content-Type": "application/json"})
    assert 400 <= answer.status_code < 500


async def test_message_of_another_media_type_is_a_problem(client: httpx.AsyncClient) -> None:
    """The library's own refusal would be a bare text."""
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    answer = await client.post("/mcp", content=b"{}", headers=ACCEPT | {"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"
