"""Clients that repeat each request for a task, with the same key, until a service confirms it."""

import json
from collections import Counter
from dataclasses import dataclass, field
from uuid import uuid4

import anyio
import httpx

from tests.acceptance.environment import IMAGE, MODEL
from tests.acceptance.processes import TIMEOUT
from tests.chaos.recording_proxy import NO_RESPONSE, RecordingProxy

RETRIED = frozenset({NO_RESPONSE, int(httpx.codes.SERVICE_UNAVAILABLE)})
ACCEPTED = frozenset({int(httpx.codes.OK), int(httpx.codes.ACCEPTED)})


@dataclass(kw_only=True)
class Load:
    """`clients` clients that pause `pause` seconds between tasks and `pause_again` seconds before a repetition.

    `tasks` maps each key to the confirmed id; `unexpected` lists responses that no client may get.
    """

    proxy: RecordingProxy
    clients: int = 6
    pause: float = 1.0
    pause_again: float = 0.1
    max_tasks: int = 100_000
    text: int = 0
    tasks: dict[str, str] = field(default_factory=dict)
    answers: Counter[int] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    held: bool = False
    _stopping: anyio.Event = field(default_factory=anyio.Event, repr=False)
    _ended: anyio.Event = field(default_factory=anyio.Event, repr=False)
    _started_tasks: int = 0

    async def run(self) -> None:
        """Request tasks until `stop`; repeat each request until it is confirmed."""
        async with anyio.create_task_group() as group:
            for _ in range(self.clients):
                group.start_soon(self._client)
        self._ended.set()

    async def stop(self) -> None:
        """Start no more requests, and wait until all are confirmed."""
        self._stopping.set()
        with anyio.fail_after(TIMEOUT):
            await self._ended.wait()

    async def _client(self) -> None:
        while not self._stopping.is_set() and self._started_tasks < self.max_tasks:
            if not self.held:
                self._started_tasks += 1
                await self._one_task(uuid4().hex)
            with anyio.move_on_after(self.pause):
                await self._stopping.wait()

    async def _one_task(self, key: str) -> None:
        params = {"prompt": "a cat" + " that surfs" * (self.text // 11), "images": [IMAGE]}
        body = json.dumps({"model": MODEL, "params": params, "metadata": {"key": key}}).encode()
        headers = {"Content-Type": "application/json", "Idempotency-Key": key}
        while True:
            answer = await self.proxy.forward("POST", "/v1/tasks", body, headers)
            self.answers[answer.status_code] += 1
            if answer.status_code in ACCEPTED:
                self.tasks[key] = answer.json()["id"]
                return
            if answer.status_code not in RETRIED:
                self.unexpected.append(f"a client was answered {answer.status_code}: {answer.text[:200]}")
            await anyio.sleep(self.pause_again)
