"""The reference client of the Model Context Protocol makes a video through the tools."""

from typing import Any

import anyio
import pytest

from tests.acceptance.environment import Upstream, serve, settings, sqlite, upstream
from tests.acceptance.processes import HOST, Workspace
from tests.support.ports import free_port

KEYS = {"shop": "key-of-the-agent-shop", "other": "key-of-another-agent"}


def connected(url: str, key: str) -> tuple[Any, Any]:
    """Return the HTTP client of an agent, and the client over it.

    Every process that collects the tests imports this module, and the library takes longer than all others.
    """
    mcp = pytest.importorskip("mcp", reason="the extra `mcp` is not installed")
    httpx2 = pytest.importorskip("httpx2", reason="the extra `mcp` is not installed")
    from mcp.client.streamable_http import streamable_http_client  # noqa: PLC0415 - an extra

    http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {key}"}, timeout=30, trust_env=False)
    return http, mcp.Client(streamable_http_client(f"{url}/mcp", http_client=http))


async def until_completed(client: Any, task_id: str) -> Any:
    """Ask for a video until it is completed, and return it."""
    with anyio.fail_after(60):
        while True:
            found = (await client.call_tool("get_video", {"task_id": task_id})).structured_content
            if found["status"] == "completed":
                return found
            await anyio.sleep(0.1)


async def check_repeated_call(client: Any, sandbox: Upstream) -> None:
    """Check that a call is charged once if it is sent again with its key, and that its key is for no other one."""
    billed = len((await sandbox.ledger())["bills"])
    call = {"prompt": "a dog", "seconds": 4, "idempotency_key": "order-42"}
    first, again = [(await client.call_tool("generate_video", call)).structured_content["id"] for _ in range(2)]
    changed = await client.call_tool("generate_video", call | {"seconds": 5})
    assert (first, changed.is_error) == (again, True)
    assert "was used for another request" in changed.content[0].text
    await until_completed(client, first)
    assert len((await sandbox.ledger())["bills"]) == billed + 1


async def test_agent_makes_a_video(workspace: Workspace) -> None:
    """It submits, asks until the video is there, and sees its own tasks only; a wrong request names the fault."""
    async with upstream(workspace, "--run-time", "300ms", "--tiny-videos") as sandbox:
        public_url = f"http://{HOST}:{free_port()}"
        keys = ",".join(f"{name}={key}" for name, key in KEYS.items())
        child = await serve(workspace, settings(sandbox.url, public_url, sqlite(workspace), API_KEYS=keys))
        http, client = connected(child.url, KEYS["shop"])
        async with http, client:
            tools = {tool.name: tool.annotations for tool in (await client.list_tools()).tools}
            repeatable = {name: (each.read_only_hint, each.idempotent_hint) for name, each in tools.items()}
            assert repeatable == {
                "generate_video": (False, False),
                "get_video": (True, None),
                "cancel_video": (False, True),
            }
            made = (await client.call_tool("generate_video", {"prompt": "a cat", "seconds": 4})).structured_content
            assert made["status"] in {"queued", "submitting", "in_progress"}
            made = await until_completed(client, made["id"])
            assert made["output"][0]["type"] == "video"
            late = await client.call_tool("cancel_video", {"task_id": made["id"]})
            assert late.is_error
            assert "already completed" in late.content[0].text
            wrong = await client.call_tool("generate_video", {"prompt": "", "seconds": 99})
            assert wrong.is_error
            assert "seconds: must be from 1 to 8" in wrong.content[0].text
            await check_repeated_call(client, sandbox)
        http, other = connected(child.url, KEYS["other"])
        async with http, other:
            hidden = await other.call_tool("get_video", {"task_id": made["id"]})
            assert hidden.is_error
            assert "no such task" in hidden.content[0].text
