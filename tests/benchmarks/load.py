"""Load client: raw HTTP/1.1 over kept-alive connections, in its own process, so that it is not the bottleneck.

`python -m tests.benchmarks.load PORT FILE CONNECTIONS RATE`: FILE holds the requests, each after its length. RATE 0
sends the next request after a response; otherwise requests follow a fixed schedule, and their latency counts from the
scheduled time, so that it includes the delay of a slow server. Prints one JSON line.
"""

import asyncio
import json
import struct
import sys
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import cast

import uvloop

HOST = "127.0.0.1"
LENGTH = struct.Struct(">I")
END_OF_HEAD = b"\r\n\r\n"
TICK = 0.001


def request(method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> bytes:
    """Return the bytes of one request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}"
    return head.encode() + END_OF_HEAD + body


def write_requests(file: Path, requests: Iterable[bytes]) -> None:
    """Write requests in the format of `read_requests`."""
    file.write_bytes(b"".join(LENGTH.pack(len(each)) + each for each in requests))


def read_requests(file: Path) -> Iterator[bytes]:
    """Yield the requests in `file`."""
    data, at = file.read_bytes(), 0
    while at < len(data):
        (length,) = LENGTH.unpack_from(data, at)
        yield data[at + LENGTH.size : at + LENGTH.size + length]
        at += LENGTH.size + length


class Load:
    """State of one run: the pending requests and the results."""

    def __init__(self, requests: Iterable[bytes], rate: float) -> None:
        self.pending = deque(requests)
        self.rate = rate
        self.count = len(self.pending)
        self.due: deque[float] = deque()
        self.idle: deque[Connection] = deque()
        self.statuses: Counter[str] = Counter()
        self.latencies: list[float] = []
        self.done = asyncio.Event()

    def next(self, connection: "Connection") -> None:
        """Send the next request over `connection`, now or when one is due."""
        if self.rate and not self.due:
            self.idle.append(connection)
        elif self.pending:
            connection.send(self.pending.popleft(), self.due.popleft() if self.rate else time.perf_counter())

    def record_response(self, status: bytes, since: float) -> None:
        """Count a response."""
        self.statuses[status.decode()] += 1
        self.latencies.append(time.perf_counter() - since)
        if len(self.latencies) == self.count:
            self.done.set()

    async def schedule(self) -> None:
        """Make requests due at the rate."""
        begin, scheduled = time.perf_counter(), 0
        while scheduled < self.count:
            await asyncio.sleep(TICK)
            while scheduled < self.count and begin + scheduled / self.rate <= time.perf_counter():
                self.due.append(begin + scheduled / self.rate)
                scheduled += 1
            while self.due and self.idle:
                self.next(self.idle.popleft())


class Connection(asyncio.Protocol):
    """A kept-alive connection with at most one running request."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._received = b""
        self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, data: bytes, since: float) -> None:
        """Send one request; its latency counts from `since`."""
        self._since = since
        self._transport.write(data)

    def data_received(self, data: bytes) -> None:
        """Collect received bytes; a complete response frees the connection."""
        self._received += data
        head, end, body = self._received.partition(END_OF_HEAD)
        if end and len(body) >= _length(head):
            self._received = b""
            self._load.record_response(head[9:12], self._since)
            self._load.next(self)

    def connection_lost(self, _: Exception | None) -> None:
        """End the run: a server that closes connections makes the measure invalid."""
        if not self._load.done.is_set():
            self._load.statuses["lost"] += 1
            self._load.done.set()


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"content-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


async def run(port: int, file: Path, connections: int, rate: float) -> dict[str, object]:
    """Send every request in `file` and return the results; times are in seconds."""
    load = Load(read_requests(file), rate)
    loop = asyncio.get_running_loop()
    opened = [await loop.create_connection(lambda: Connection(load), HOST, port) for _ in range(connections)]
    began_at, began, busy = time.time(), time.perf_counter(), time.process_time()
    for _, connection in opened:
        load.next(connection)
    if rate:
        await load.schedule()
    await load.done.wait()
    seconds = time.perf_counter() - began
    busy = time.process_time() - busy
    for transport, _ in opened:
        transport.close()
    latencies = sorted(load.latencies) or [0.0]
    return {
        "seconds": seconds,
        "began_at": began_at,
        "busy": busy / seconds,
        "statuses": dict(load.statuses),
        "median": latencies[len(latencies) // 2],
        "p99": latencies[int(len(latencies) * 0.99)],
    }


def main() -> None:
    """Run the command of the module's docstring."""
    port, file, connections, rate = sys.argv[1:]
    report = uvloop.run(run(int(port), Path(file), int(connections), float(rate)))
    sys.stdout.write(json.dumps(report) + "\n")


if __name__ == "__main__":
    main()
