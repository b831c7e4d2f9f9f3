"""Clients of the service in a run: one that requests tasks and replays deliveries, and an attacker."""

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.simulation.history import History
from tests.simulation.loop import SimLoop
from tests.simulation.process import HOST
from tests.simulation.scenario import TaskRequest
from tests.simulation.seeded_faults import SeededFaults

SERVICE = f"http://{HOST}"
CALLBACKS = "http://service.test/callbacks"
HOOK = "http://hooks.test/hook"
MAX_TRIES = 400
"""Number of tries before a client stops."""


class Client:
    """Repeats each request with the same idempotency key until it is answered."""

    def __init__(self, http: httpx.AsyncClient, loop: SimLoop, history: History) -> None:
        self._http = http
        self._loop = loop
        self._history = history
        self._reconciling = False

    async def request_task(self, task_request: TaskRequest) -> None:
        """Request a task, and cancel it later where the request says so."""
        await asyncio.sleep(task_request.at)
        notify = [{"handler": "webhook", "url": HOOK}] if task_request.webhook else []
        body = {
            "model": "viduq2_pro_reference",
            "params": {"images": ["https://images.test/a.png"], "prompt": "a cat"},
            "metadata": {"n": task_request.number},
            "notify": notify,
        }
        answer = await self._post_with_retry("/v1/tasks", body, {"Idempotency-Key": f"request-{task_request.number}"})
        if answer is None or answer.status_code not in {200, 202}:
            self._history.add_violation(f"request {task_request.number} was not accepted: {answer and answer.text}")
            return
        self._history.accepted[task_request.number] = answer.json()["id"]
        if task_request.cancel_after is not None:
            await asyncio.sleep(task_request.cancel_after)
            await self._post_with_retry(f"/v1/tasks/{answer.json()['id']}/cancel", None, {})

    async def replay(self, delivery_id: str) -> bool:
        """Replay a delivery; return whether the service accepted it."""
        answer = await self._post_with_retry(f"/v1/deliveries/{delivery_id}/replay", None, {})
        return answer is not None and answer.status_code == 202

    async def reconcile(self) -> None:
        """Trigger a single pass, as a cron job does on a platform that sleeps; never two at a time."""
        if self._reconciling:
            return
        self._reconciling = True
        with suppress(httpx.TransportError):
            await self._http.post(f"{SERVICE}/v1/reconcile")
        self._reconciling = False

    async def _post_with_retry(self, path: str, body: Any, headers: dict[str, str]) -> httpx.Response | None:
        for _ in range(MAX_TRIES):
            try:
                answer = await self._http.post(f"{SERVICE}{path}", json=body, headers=headers)
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code < 500:
                return answer
            await asyncio.sleep(2)
        return None


@dataclass(kw_only=True)
class Attacker:
    """Sends forged callbacks, made from addresses and payloads that it has seen."""

    http: httpx.AsyncClient
    seeded_faults: SeededFaults
    seen: list[tuple[str, str]] = field(default_factory=list)
    sent: set[str] = field(default_factory=set)

    async def attack(self, number: int, at: float) -> None:
        """Send a callback with a forged token and a body that would end the task."""
        await asyncio.sleep(at)
        if not self.seen:
            return
        draw = self.seeded_faults.draw("attack", str(number))
        token, payload = self.seen[int(draw * len(self.seen))]
        forged = self._forged(token, payload, number)
        self.sent.add(forged)
        body = {"id": "d758n65e878c73cmdg20", "status": "failed", "error": "forged"}
        try:
            await self.http.post(f"{CALLBACKS}/{forged}", content=json.dumps(body))
        except httpx.TransportError:
            return

    def _forged(self, token: str, payload: str, number: int) -> str:
        position = int(self.seeded_faults.draw("place", str(number)) * len(token))
        if position % 5 == 0:
            return payload
        other = "A" if token[position] != "A" else "B"
        return f"{token[:position]}{other}{token[position + 1 :]}"
