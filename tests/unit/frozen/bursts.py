"""Bursts of callbacks with little client overhead: above 100 a second, callbacks go to the inbox first."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

from tests.unit.frozen.running import Running

BURST = 320
CONNECTIONS = 16


async def burst(service: Running, token: str, bodies: Sequence[str]) -> None:
    """Send callbacks to the address that holds `token`, over some connections beside each other."""
    shares = [bodies[number::CONNECTIONS] for number in range(CONNECTIONS)]
    await asyncio.gather(*(_send(service, token, share) for share in shares))


async def _send(service: Running, token: str, bodies: Sequence[str]) -> None:
    """Send callbacks one after the other; their answers have no body."""
    at = urlsplit(service.url)
    reader, writer = await asyncio.open_connection(at.hostname, at.port)
    for body in bodies:
        head = f"POST /callbacks/{token} HTTP/1.1\r\nHost: {at.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write((head + body).encode())
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), timeout=60)
    writer.close()
