"""The address of the tools for agents: without its extra, without a key, with odd messages."""

import sys
import threading
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from service.api import mcp_tools
from service.api.metrics import installed_version
from service.domain.api_key import ApiKey
from service.domain.errors import StoreUnavailable
from tests.unit.api.fakes import KEYS, FakeApplication, FakeAuditLog, a_task, app_of, client_of

ACCEPT = {"Accept": "application/json, text/event-stream"}
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}


async def test_missing_extra_is_named(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The problem says what to install."""
    monkeypatch.setitem(sys.modules, "mcp.server", None)
    answer = await client.post("/mcp", json=PING, headers=ACCEPT)
    assert (answer.status_code, answer.json()["type"]) == (404, "urn:boomerang:problem:not-installed")
    assert "boomerang-service[mcp]" in answer.json()["detail"]


async def test_server_names_its_version(client: httpx.AsyncClient) -> None:
    """Agents show it beside the name."""
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    about = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "agent", "version": "1"}}
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": about}
    answer = await client.post("/mcp", json=message, headers=ACCEPT)
    assert answer.json()["result"]["serverInfo"] == {"name": "boomerang", "version": installed_version()}


async def test_sdk_is_imported_beside_the_event_loop(
    client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first message does not stop all other requests of the process; later ones import nothing."""
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    threads: list[int] = []
    imported = mcp_tools.import_sdk

    def note() -> None:
        threads.append(threading.get_ident())
        imported()

    monkeypatch.setattr(mcp_tools, "import_sdk", note)
    for _ in range(2):
        assert (await client.post("/mcp", json=PING, headers=ACCEPT)).status_code == 200
    assert len(threads) == 1
    assert threads[0] != threading.get_ident()


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


async def test_message_with_too_many_values_is_refused(client: httpx.AsyncClient) -> None:
    """The library would parse millions of values on the event loop, some 30 times as large as their text."""
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    content = b'{"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": [' + b"{}," * 100_001 + b"0]}}"
    answer = await client.post("/mcp", content=content, headers=ACCEPT | {"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["detail"]) == (400, "the body holds more than 100,000 values")


async def test_message_of_another_media_type_is_a_problem(client: httpx.AsyncClient) -> None:
    """The library's own refusal would be a bare text."""
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    answer = await client.post("/mcp", content=b"{}", headers=ACCEPT | {"Content-Type": "text/plain"})
    assert answer.status_code == 415
    assert answer.headers["content-type"] == "application/problem+json"


async def called(client: httpx.AsyncClient, tool: str, path: str = "/mcp", **arguments: Any) -> tuple[bool, str]:
    """Call a tool; return whether it failed, and its text."""
    pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    call = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}
    answer = await client.post(path, json=call, headers=ACCEPT)
    assert answer.status_code == 200, answer.text
    result = answer.json()["result"]
    return result["isError"], result["content"][0]["text"]


async def test_argument_that_the_tool_does_not_declare_is_a_parameter(
    client: httpx.AsyncClient, fake: FakeApplication
) -> None:
    """An agent that writes `duration` beside the prompt does not pay for another video; a wrong name is a fault."""
    assert not (await called(client, "generate_video", prompt="a cat", duration=3, params={"resolution": "1080p"}))[0]
    assert fake.accepted[-1].params == {"prompt": "a cat", "duration": 3, "resolution": "1080p"}
    failed, text = await called(client, "generate_video", path="/mcp/", prompt="a cat", lenght=3)
    assert (failed, "lenght: unknown parameter" in text, len(fake.accepted)) == (True, True, 1)


@pytest.mark.parametrize("key", ["", "a" * 256, "ключ", "a\nb"])
async def test_malformed_idempotency_key_is_a_fault_beside_the_others(
    client: httpx.AsyncClient, fake: FakeApplication, key: str
) -> None:
    """It is reported with every other fault of the call, and no task is made."""
    failed, text = await called(client, "generate_video", prompt="a cat", lenght=3, idempotency_key=key)
    assert (failed, "lenght: unknown" in text, "idempotency_key: must be 1 to 255" in text) == (True, True, True)
    assert not fake.accepted


async def test_read_only_key_watches_and_changes_nothing(fake: FakeApplication) -> None:
    """It may ask for a video, and neither make nor cancel one."""
    fake.add(a_task())
    keys = (ApiKey(name="ro", key="key-of-a-reader", read_only=True),)
    async with client_of(app_of(fake, api_keys=keys), "key-of-a-reader") as reader:
        assert not (await called(reader, "get_video", task_id="task-1"))[0]
        for tool, arguments in (("generate_video", {"prompt": "a cat"}), ("cancel_video", {"task_id": "task-1"})):
            failed, text = await called(reader, tool, **arguments)
            assert (failed, "may only read" in text) == (True, True)
    assert not fake.accepted


@pytest.mark.parametrize("error", [StoreUnavailable("password=secret"), RuntimeError("password=secret")])
async def test_message_of_an_internal_error_stays_here(
    client: httpx.AsyncClient, fake: FakeApplication, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    """Agents get what callers of the other APIs get; neither they nor the log of the library see the message."""
    fake.error = error
    with capture_logs() as logs:
        failed, text = await called(client, "generate_video", prompt="a cat")
    assert (failed, "secret" in text + caplog.text + str(logs)) == (True, False)
    assert "try again" in text or "unexpected error of this service" in text


async def test_cancellation_by_an_agent_is_in_the_audit_log(fake: FakeApplication) -> None:
    """As over the API: who canceled which task; a task of another client has no entry."""
    fake.add(a_task(client="ann"))
    audit_log = FakeAuditLog()
    for key, failed in (("key-of-bob", True), ("key-of-ann", False)):
        async with client_of(app_of(fake, api_keys=KEYS, audit_log=audit_log), key) as client:
            assert (await called(client, "cancel_video", task_id="task-1"))[0] is failed
    assert [(row.actor, row.action, row.target) for row in audit_log.rows] == [("ann", "task.cancel", "task-1")]
