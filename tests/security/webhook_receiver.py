"""A receiver of webhooks that keeps what it received."""

from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from standardwebhooks import Webhook

from tests.security.raw import HOST, talking


@dataclass(kw_only=True)
class Received:
    """The requests of a receiver: their heads and bodies; it answers `status`."""

    status: int = 204
    heads: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    headers: bytes = b""

    async def talk(self, reader: StreamReader, writer: StreamWriter) -> None:
        """Read and answer one request."""
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        self.bodies.append(await reader.readexactly(int(length.split(b":")[1])))
        self.heads.append(head)
        writer.write(b"HTTP/1.1 %d X\r\n%sContent-Length: 0\r\nConnection: close\r\n\r\n" % (self.status, self.headers))
        await writer.drain()

    def header(self, name: str, number: int = -1) -> str:
        """Return a header of one request."""
        lines = self.heads[number].decode("latin-1").split("\r\n")
        return next(line.partition(":")[2].strip() for line in lines if line.lower().startswith(f"{name}:"))

    def verifies(self, secret: str, number: int = -1) -> bool:
        """Return whether `secret` signed one request."""
        names = ("webhook-id", "webhook-timestamp", "webhook-signature")
        try:
            Webhook(secret).verify(self.bodies[number], {name: self.header(name, number) for name in names})
        except Exception:  # noqa: BLE001 - the signature is wrong
            return False
        return True


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[tuple[Received, str]]:
    """Run a receiver inside the block; yield it with its address."""
    found = Received(**options)
    async with talking(found.talk) as port:
        yield found, f"http://{HOST}:{port}"
