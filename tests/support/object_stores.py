"""Servers of object stores on loopback, and a proxy before one that fails as a test wants."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import timedelta
from xml.etree import ElementTree as ET

import httpx

from service.artifacts.bucket_archive import BucketArchive
from service.artifacts.bucket_options import BucketOptions, open_bucket
from service.domain.archive_address import BucketAddress
from tests.support.ports import free_port

HOST = "127.0.0.1"
START_SECONDS = 60
KEY, SECRET = "access-key", "secret-of-the-access-key"
XML = {"s3": "{http://s3.amazonaws.com/doc/2006-03-01/}"}
FAST = timedelta(milliseconds=10)
FAST_RETRIES = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": FAST, "max_backoff": FAST, "base": 2},
}


@contextmanager
def running(command: Sequence[str], port: int) -> Iterator[str]:
    """Run a server until the block ends; yield its address once it accepts connections."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(list(command), env=environment, **quiet)  # type: ignore[call-overload]  # noqa: S603
    try:
        end = time.monotonic() + START_SECONDS
        while not _accepts(port):
            if process.poll() is not None or time.monotonic() > end:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.05)  # until a program of others has started
        yield f"http://{HOST}:{port}"
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _accepts(port: int) -> bool:
    with suppress(OSError), closing(socket.create_connection((HOST, port), timeout=1)):
        return True
    return False


@contextmanager
def moto_server() -> Iterator[str]:
    """Run moto's S3 and yield its address."""
    port = free_port()
    with running([sys.executable, "-m", "moto.server", "-H", HOST, "-p", str(port)], port) as address:
        yield address


@dataclass(frozen=True, kw_only=True)
class Bucket:
    """A bucket of an S3 server: `options` and `address` are those of an archive in it."""

    server: str
    name: str

    @property
    def address(self) -> BucketAddress:
        """The archive in the bucket."""
        return BucketAddress(scheme="s3", bucket=self.name, prefix="videos/2026")

    def archive(self, endpoint: str | None = None, **changes: object) -> BucketArchive:
        """Return the archive, by another `endpoint` if one is given; retries are as fast as tests need."""
        options: dict[str, object] = {
            "endpoint": endpoint or self.server,
            "region": "us-east-1",
            "allow_http": True,
            "access_key": KEY,
            "secret_key": SECRET,
            "retries": FAST_RETRIES,
        }
        return open_bucket(self.address, BucketOptions(**{**options, **changes}))  # type: ignore[arg-type]

    def keys(self) -> list[str]:
        """Return the keys of all objects."""
        return self._found("", "Contents")

    def uploads(self) -> list[str]:
        """Return the keys of all unfinished multipart uploads."""
        return self._found("?uploads", "Upload")

    def get(self, key: str) -> httpx.Response:
        """Return the object `key`."""
        return httpx.get(f"{self.server}/{self.name}/{key}", trust_env=False)

    def _found(self, query: str, element: str) -> list[str]:
        answer = httpx.get(f"{self.server}/{self.name}{query}", trust_env=False).raise_for_status()
        found = ET.fromstring(answer.text).findall(f"{XML['s3']}{element}")  # noqa: S314 - of our own server
        return [str(each.findtext(f"{XML['s3']}Key")) for each in found]


@dataclass(kw_only=True)
class FaultyProxy:
    """Forwards HTTP requests to `target`, one a connection, but for those that meet a fault.

    `faults` has, by method, the replies to the next requests: a status with a code, `cut` (forwarded, and the
    connection closed without a reply), `half` (half of the reply) or `slow` (the reply in small parts). The
    `headers`, by their names in lower case, take the place of those of a request.
    """

    target: int
    port: int = 0
    faults: dict[str, list[str]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    headers: dict[bytes, bytes] = field(default_factory=dict)
    connections: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def address(self) -> str:
        """The address of the proxy."""
        return f"http://{HOST}:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection, and close it."""
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            await self._serve(reader, writer)
        finally:
            await _closed(writer)
            self.connections.discard(task)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError):
            head, body = await _request(reader)
            method = head.split(b" ", 1)[0].decode()
            self.requests.append(head.split(b"\r\n", 1)[0].decode())
            fault = self._fault(method)
            if fault[:3].isdigit():
                writer.write(_reply(fault))
            else:
                answer = await self._forward(head, body)
                await _send(
                    writer,
                    b"" if fault == "cut" else answer[: len(answer) // 2] if fault == "half" else answer,
                    slowly=fault == "slow",
                )
            await writer.drain()

    def _fault(self, method: str) -> str:
        waiting = self.faults.get(method) or []
        return (waiting[0] if waiting[0].endswith("*") else waiting.pop(0)).rstrip("*") if waiting else ""

    async def _forward(self, head: bytes, body: bytes) -> bytes:
        reader, writer = await asyncio.open_connection(HOST, self.target)
        own = {**self.headers, b"connection": b"close"}
        lines = [line for line in head.split(b"\r\n") if line.lower().partition(b":")[0] not in own]
        added = [name + b": " + value for name, value in own.items()]
        try:
            writer.write(b"\r\n".join([*lines[:1], *added, *lines[1:]]) + body)
            return await reader.read()
        finally:
            await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()


async def _request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    head = await reader.readuntil(b"\r\n\r\n")
    headers = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:] if b":" in line)
    if headers.get(b"expect"):
        raise OSError("not expected")
    return head, await reader.readexactly(int(headers.get(b"content-length", b"0")))


def _reply(fault: str) -> bytes:
    status, _, code = fault.partition(" ")
    body = f"<Error><Code>{code or 'InternalError'}</Code><Message>a fault</Message></Error>".encode()
    head = f"HTTP/1.1 {status} Fault\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return head.encode() + body


async def _send(writer: asyncio.StreamWriter, answer: bytes, *, slowly: bool) -> None:
    size = 7 if slowly and len(answer) < 10_000 else 100_000
    for at in range(0, len(answer), size):
        writer.write(answer[at : at + size])
        await writer.drain()
        await asyncio.sleep(0)


@asynccontextmanager
async def faulty_proxy(server: str) -> AsyncIterator[FaultyProxy]:
    """Yield a proxy before the server at an address."""
    proxy = FaultyProxy(target=int(server.rpartition(":")[2]))
    listening = await asyncio.start_server(proxy.serve, HOST, 0, limit=2**20)
    proxy.port = listening.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        listening.close()
        open_ones = [*proxy.connections]  # a client keeps one that it has not used
        for each in open_ones:
            each.cancel()
        await asyncio.gather(*open_ones, return_exceptions=True)
