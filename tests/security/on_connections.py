"""Connections that send much and read nothing, and more connections than there are descriptors."""

from contextlib import AsyncExitStack
from pathlib import Path

import anyio

from service.api import request_bodies
from service.api.server import listen, serving
from tests.acceptance.environment import service, settings
from tests.acceptance.processes import BIN, Workspace, wait_for_response
from tests.security.catalogue import attempt, peak, require
from tests.security.environment import ALICE, BOB, HOST, FakeProvider, bearer, service_under_test
from tests.security.raw import exchange, request, statuses
from tests.support.ports import free_port

JSON = "Content-Type: application/json"
MB = 1024 * 1024
DESCRIPTORS, IDLE = 256, 600


async def _send_unread(port: int, piece: bytes, total: int, *, seconds: float) -> int:
    """Send `piece` until `total` bytes or `seconds` are reached, and read nothing; return how many were taken."""
    sent = 0
    async with await anyio.connect_tcp(HOST, port) as stream:
        with anyio.move_on_after(seconds):
            try:
                while sent < total:
                    await stream.send(piece)
                    sent += len(piece)
            except (anyio.BrokenResourceError, OSError):
                pass
        await anyio.sleep(0.5)  # the service parses what it has received
    return sent


@attempt("pipelining", "11 MB of requests on one connection, no response read")
async def megabytes_of_requests(home: Path) -> str:
    """Send requests without a key and without reading: neither they nor their responses fill the memory."""
    async with service_under_test(home) as g:
        with peak() as memory:
            sent = await _send_unread(g.port, request("GET", "/nowhere") * 2000, 11 * MB, seconds=6)
            require((await g.http.get("/v1/tasks")).status_code == 200, "others are not served")
        require(memory[0] < 12 * MB, f"{memory[0] // MB} MB were taken for {sent // MB} MB")
        return f"{sent // 1024} KB were read; grew by {memory[0] // 1024} KB"


@attempt("connections", "600 idle ones, with 256 descriptors")
async def idle_connections(home: Path) -> str:
    """Open more connections than there are descriptors: others are served, and tasks still reach the provider."""
    upstream = FakeProvider()
    port = free_port()
    async with serving(upstream.app(), listen(HOST, 0), grace=1) as url, AsyncExitStack() as stack:
        env = settings(url, f"http://{HOST}:{port}", f"sqlite:///{home / 'boomerang.db'}", HANDLERS="log")
        workspace = stack.enter_context(Workspace(home=home, quiet=True, forks=True))
        command = f"ulimit -n {DESCRIPTORS}; exec {BIN / 'boomerang'} serve --port {port}"
        child = workspace.run("serve", ["/bin/sh", "-c", command], env=env, url=f"http://{HOST}:{port}")
        await wait_for_response(child)
        taken = [await stack.enter_async_context(await anyio.connect_tcp(HOST, port)) for _ in range(IDLE)]
        async with service(child) as at:
            with anyio.move_on_after(15) as waited:
                task = await at.submit()
                while (await at.task(task["id"]))["status"] in {"queued", "submitting"}:  # noqa: ASYNC110 - as above
                    await anyio.sleep(0.05)
            require(not waited.cancelled_caught, "others are not served")
        require(len(upstream.submissions) == 1, "the task did not reach the provider")
        return f"{len(taken)} were opened; a new client is served, and its task reached the provider"


@attempt("body", "announced as 20 MB three times, and never sent")
async def announced_and_silent(home: Path) -> str:
    """Announce large bodies with a key and send nothing: another client's body of 20 MB is read at once."""
    async with service_under_test(home) as g, anyio.create_task_group() as group:
        head = request("POST", "/v1/tasks", f"Authorization: Bearer {ALICE}", JSON, f"Content-Length: {20 * MB}")
        for _ in range(3):
            group.start_soon(lambda: exchange(g.port, head, b"{", seconds=40))
        await anyio.sleep(0.3)
        body = b'{"model": "x", "params": {"prompt": "' + b"a" * 19 * MB + b'"}}'
        with anyio.move_on_after(8) as waited:
            headers = {**bearer(BOB), "Content-Type": "application/json"}
            found = (await g.http.post("/v1/tasks", content=body, headers=headers)).status_code
            require(found == 422, f"answered {found}")
        group.cancel_scope.cancel()
        require(not waited.cancelled_caught, "another client's body waits behind them")
    return "another client's body was read at once"


@attempt("body", "one byte every half second")
async def dripping_body(home: Path) -> str:
    """Send a body slowly: it ends with 408 within seconds."""
    grace, request_bodies.RATE_GRACE = request_bodies.RATE_GRACE, 1.0  # shortened, so that the test is short
    try:
        async with service_under_test(home) as g, await anyio.connect_tcp(HOST, g.port) as stream:
            lines = (f"Authorization: Bearer {ALICE}", JSON, "Content-Length: 1000000")
            await stream.send(request("POST", "/v1/tasks", *lines))
            received = b""
            with anyio.move_on_after(5):
                while not received:
                    await stream.send(b" ")
                    with anyio.move_on_after(0.5):  # this is the attack: a slow sender
                        received = await stream.receive()
    finally:
        request_bodies.RATE_GRACE = grace
    require(statuses(received) == [408], f"answered {statuses(received)} in time")
    return f"408 after {grace:g} s (1 s in this test)"
