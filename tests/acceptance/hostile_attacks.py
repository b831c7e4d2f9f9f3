"""The hostile client as a process: `python -m tests.acceptance.hostile_attacks URL`, until it is terminated.

It has a key of its own. It sends bodies slowly, reads no responses of many requests, lists as much as it can, and
submits tasks whose webhooks fail. Every half second it prints what it was answered, as a line of JSON.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import anyio
import httpx

from tests.acceptance.environment import IMAGE, MODEL, client
from tests.acceptance.processes import HOST

HOSTILE_KEY = "key-of-the-hostile-client"
MB = 1024 * 1024
SLOW_BODIES, PIPELINES, LISTERS, NOTIFIERS = 40, 40, 4, 4
BLOCKED_NOTIFY = [{"handler": "webhook", "url": f"http://{HOST}:4409/"}] * 8
LARGE_METADATA = {"a": "x" * 60_000}
REPORT_INTERVAL = 0.5
TASK = {"model": MODEL, "params": {"prompt": "hostile", "images": [IMAGE]}}


@dataclass(kw_only=True)
class Hostile:
    """The attacks, and how often each was refused or answered."""

    url: str
    statuses: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(int)))

    @property
    def port(self) -> int:
        """Return the port of the service."""
        return httpx.URL(self.url).port or 80

    async def run(self) -> None:
        """Attack until cancelled."""
        attacks = (
            [self.send_slowly] * SLOW_BODIES
            + [self.read_nothing] * PIPELINES
            + [self.list_everything] * LISTERS
            + [self.notify_nobody] * NOTIFIERS
        )
        async with anyio.create_task_group() as group:
            for attack in attacks:
                group.start_soon(self._repeat, attack)

    async def _repeat(self, attack: Callable[[], Awaitable[str]]) -> None:
        counts = self.statuses[attack.__name__]
        while True:
            try:
                counts[await attack()] += 1
            except (httpx.HTTPError, anyio.EndOfStream, anyio.BrokenResourceError, OSError):
                counts["closed"] += 1
            await anyio.sleep(0.02)

    async def send_slowly(self) -> str:
        """Announce a large body and send a byte now and then."""
        head = [f"Content-Length: {20 * MB}", "Content-Type: application/json"]
        async with await anyio.connect_tcp(HOST, self.port) as stream:
            await stream.send(_request("POST", "/v1/tasks", *head))
            while True:
                await stream.send(b" ")
                with anyio.move_on_after(1):
                    return _status(await stream.receive())

    async def read_nothing(self) -> str:
        """Send lists of requests and read no response."""
        async with await anyio.connect_tcp(HOST, self.port) as stream:
            with anyio.move_on_after(10):
                while True:
                    await stream.send(_request("GET", "/v1/tasks?limit=200&include=metadata") * 500)
            return "unread"

    async def list_everything(self) -> str:
        """Ask for the largest page."""
        async with client(self.url, key=HOSTILE_KEY) as http:
            found = await http.get("/v1/tasks", params={"limit": "200", "include": "metadata"})
            return str(found.status_code)

    async def notify_nobody(self) -> str:
        """Submit a task with large metadata whose webhooks all fail."""
        body = TASK | {"metadata": LARGE_METADATA, "notify": BLOCKED_NOTIFY}
        async with client(self.url, key=HOSTILE_KEY) as http:
            return str((await http.post("/v1/tasks", json=body)).status_code)


def _request(method: str, path: str, *lines: str) -> bytes:
    head = [f"{method} {path} HTTP/1.1", f"Host: {HOST}", f"Authorization: Bearer {HOSTILE_KEY}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n"


def _status(received: bytes) -> str:
    return received.split(b" ", 2)[1].decode() if b" " in received else "closed"


async def main(url: str) -> None:
    """Attack the service at `url`, and report."""
    hostile = Hostile(url=url)
    async with anyio.create_task_group() as group:
        group.start_soon(hostile.run)
        while True:
            sys.stdout.write(json.dumps(hostile.statuses) + "\n")
            sys.stdout.flush()
            await anyio.sleep(REPORT_INTERVAL)


if __name__ == "__main__":
    anyio.run(main, sys.argv[1])
