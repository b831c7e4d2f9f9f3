"""Connections that send much and read nothing, and more connections than there are descriptors."""

from pathlib import Path

import anyio

from tests.security.catalogue import attempt, peak, require
from tests.security.environment import ALICE, HOST, service_under_test
from tests.security.raw import request

MB = 1024 * 1024
AUTH = f"Authorization: Bearer {ALICE}"


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
