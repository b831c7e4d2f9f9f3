"""Test environment of the sandbox: a client, a receiver of callbacks, and an event loop in virtual time."""

import asyncio
import json
import selectors
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import httpx
import pytest

from service.sandbox import Sandbox, Switches

MODEL = "viduq2_pro_reference"
CALLBACK = "http://service.test/callbacks/token-abc"
START = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
BEARER = {"Authorization": "Bearer any-key"}
TOKEN = {"Authorization": "Token any-key"}


class _Skipping(selectors.DefaultSelector):
    """Selector that skips the wait of the loop unless something is ready."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready now; wait in real time only if no timer is set."""
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout:
            self.skipped += timeout
        return ready


class MovedLoop(asyncio.SelectorEventLoop):
    """Event loop with a clock that jumps to the next timer when nothing else is ready."""

    def __init__(self) -> None:
        self._skipping = _Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        """Return the seconds skipped."""
        return self._skipping.skipped


MOVED = ("asyncio", {"loop_factory": MovedLoop})
"""Result of the fixture `anyio_backend` for tests in virtual time."""


def moved_now() -> datetime:
    """Return the time of the loop's virtual clock."""
    return START + timedelta(seconds=asyncio.get_running_loop().time())


@dataclass
class Receiver:
    """Receive callbacks; respond with the result of `answer`, after the next of the pauses."""

    answer: Callable[[int], httpx.Response] = lambda _number: httpx.Response(204)
    pauses: list[float] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    times: list[float] = field(default_factory=list)

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        """Store a callback and respond to it."""
        self.requests.append(request)
        self.times.append(asyncio.get_running_loop().time())
        answer = self.answer(len(self.requests))
        if self.pauses:
            await asyncio.sleep(self.pauses.pop(0))
        return answer

    @property
    def bodies(self) -> list[dict[str, Any]]:
        """Return every body, in the order of arrival."""
        return [json.loads(request.content) for request in self.requests]

    def states(self) -> list[str]:
        """Return the status or state in each body."""
        return [body.get("status") or body["state"] for body in self.bodies]


@dataclass
class Bench:
    """A running sandbox with the objects that a test needs."""

    sandbox: Sandbox
    client: httpx.AsyncClient
    receiver: Receiver

    async def create(self, **params: Any) -> httpx.Response:
        """Create a Vtrix task."""
        return await self.client.post("/model/v1/generation", json=vtrix_request(**params), headers=BEARER)

    async def created(self, **params: Any) -> str:
        """Create a Vtrix task and return its id."""
        reply = await self.create(**params)
        assert reply.status_code == 200, reply.text
        task_id: str = reply.json()["id"]
        return task_id

    async def poll(self, task_id: str) -> httpx.Response:
        """Poll a Vtrix task."""
        return await self.client.get(f"/model/v1/generation/task/{task_id}", headers=BEARER)

    async def create_vidu(self, **params: Any) -> httpx.Response:
        """Create a Vidu task."""
        body = {"model": "viduq2-pro", "images": ["https://images.test/a.png"], "prompt": "a cat", **params}
        return await self.client.post("/ent/v2/reference2video", json=body, headers=TOKEN)

    async def created_lost(self, payload: str) -> None:
        """Create a Vidu task whose reply is lost."""
        with pytest.raises(httpx.ReadError):
            await self.create_vidu(payload=payload)

    async def poll_vidu(self, task_id: str) -> httpx.Response:
        """Poll a Vidu task."""
        return await self.client.get(f"/ent/v2/tasks/{task_id}/creations", headers=TOKEN)

    def counted(self, group: str, name: str) -> int:
        """Return one of the sandbox's counters."""
        counts: Any = self.sandbox.ledger()[group]
        return int(counts[name])


def vtrix_request(**params: Any) -> dict[str, Any]:
    """Return the body of a Vtrix create."""
    defaults = {"images": ["https://images.test/a.png"], "prompt": "a cat", **params}
    return {"model": MODEL, "input": [{"params": defaults}]}


def seeded(number: int) -> Random:
    """Return a repeatable random source."""
    return Random(number)  # noqa: S311 - faults need a seed, not secrecy


@asynccontextmanager
async def bench(
    *, now: Callable[[], datetime] = moved_now, seed: int = 7, receiver: Receiver | None = None, **switches: Any
) -> AsyncIterator[Bench]:
    """Run a sandbox with tiny videos and these switches; the receiver gets its callbacks."""
    taking = receiver or Receiver()
    sandbox = Sandbox(
        Switches(**{"tiny_videos": True, **switches}),
        now=now,
        random=seeded(seed),
        transport=httpx.MockTransport(taking),
    )
    transport = httpx.ASGITransport(sandbox.app)
    async with sandbox.running(), httpx.AsyncClient(transport=transport, base_url="http://sandbox.test") as client:
        yield Bench(sandbox, client, taking)
