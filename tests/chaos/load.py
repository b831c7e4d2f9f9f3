"""Clients that do not give up: each asks for a task, with a key of its own, until a service has confirmed it."""

import json
from collections import Counter
from dataclasses import dataclass, field
from uuid import uuid4

import anyio
import httpx

from tests.acceptance.environment import IMAGE, MODEL
from tests.acceptance.processes import TIMEOUT
from tests.chaos.recording_proxy import NOBODY, Gate

AGAIN = frozenset({NOBODY, int(httpx.codes.SERVICE_UNAVAILABLE)})
TAKEN = frozenset({int(httpx.codes.OK), int(httpx.codes.ACCEPTED)})


@dataclass(kw_only=True)
class Load:
    """`clients` clients that pause `pause` seconds between tasks and `pause_again` seconds before they ask again.

    `tasks` holds the id that was confirmed for each key; `odd` tells of answers that no client may get.
    """

    gate: Gate
    clients: int = 6
    pause: float = 1.0
    pause_again: float = 0.1
    most: int = 100_000
    text: int = 0
    tasks: dict[str, str] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    odd: list[str] = field(default_factory=list)
    held: bool = False
    _enough: anyio.Event = field(default_factory=anyio.Event, repr=False)
    _ended: anyio.Event = field(default_factory=anyio.Event, repr=False)
    _asked: int = 0

    async def run(self) -> None:
        """Ask until `stop`; what was begun is asked for until it is confirmed."""
        async with anyio.create_task_group() as group:
            for _ in range(self.clients):
                group.start_soon(self._client)
        self._ended.set()

    async def stop(self) -> None:
        """Begin no more, and wait until what was begun is confirmed."""
        self._enough.set()
        with anyio.fail_after(TIMEOUT):
            await self._ended.wait()

    async def _client(self) -> None:
        while not self._enough.is_set() and self._asked < self.most:
            if not self.held:
                self._asked += 1
                await self._one_task(uuid4().hex)
            with anyio.move_on_after(self.pause):
                await self._enough.wait()

    async def _one_task(self, key: str) -> None:
        params = {"prompt": "a cat" + " that surfs" * (self.text // 11), "images": [IMAGE]}
        body = json.dumps({"model": MODEL, "params": params, "metadata": {"key": key}}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        while True:
            answer = await self.gate.forward("POST", "/v1/tasks", body, headers)
            self.answers[answer.status_code] += 1
            if answer.status_code in TAKEN:
                self.tasks[key] = answer.json()["id"]
                return
            if answer.status_code not in AGAIN:
                self.odd.append(f"a client was answered {answer.status_code}: {answer.text[:200]}")
            await anyio.sleep(self.pause_again)
