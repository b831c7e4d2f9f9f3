"""What operators and clients do besides submitting tasks: drawn for some seeds, and done at the end of their runs.

New tasks with private prompts run through while a handler is paused and resumed, dead letters are replayed, a task is
submitted again with changes, another one is erased, an endpoint is disabled by its receiver, enabled and replayed, and
a process crashes. Readers follow the stream of events from the beginning of the run, with cuts.
"""

import asyncio
import json
import sqlite3
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any

import httpx
from starlette.types import Receive, Scope, Send

from service.domain.task import Json
from tests.simulation.history import History
from tests.simulation.loop import SimLoop

SERVICE = "http://127.0.0.1"
ENDPOINT_HOST = "endpoint.test"
TRIES = 300
"""Tries of one request before a client stops."""

LATE_CHECKS, LATE_PAUSE = 3, 20.0
"""How often, and after how many seconds each, an operator looks whether the handler is still resumed."""

FEW_TRIES = 30
"""Tries of what becomes possible later, with pauses that grow to an hour."""

SHARE = 0.1
"""Share of the seeds that have operations."""


@dataclass(frozen=True, kw_only=True)
class Operations:
    """The operations of one run. Times are seconds after the tasks of the run have ended.

    `readers` follow the stream of events. A handler is paused for `pause` seconds. `gone` is whether the receiver of
    the endpoint answers 410 at first. The process `crash_process` crashes at `crash_at`; None for no crash.
    """

    readers: int = 1
    pause: float = 30.0
    erase_after: float = 10.0
    replay_after: float = 5.0
    resubmit_after: float = 5.0
    gone: bool = True
    crash_process: int | None = None
    crash_at: float = 0.0


def operations_of(seed: int, processes: int) -> Operations | None:
    """Return the operations of a seed, None for most."""
    random = Random(f"operations {seed}")  # noqa: S311 - a run needs a seed, not secrecy
    if random.random() >= SHARE:
        return None
    return Operations(
        readers=random.choice((1, 1, 2)),
        pause=random.choice((0.5, 10.0, 40.0)),
        erase_after=random.uniform(0, 60),
        replay_after=random.uniform(0, 20),
        resubmit_after=random.uniform(0, 30),
        gone=random.random() < 0.5,
        crash_process=random.choice((None, *range(processes))),
        crash_at=random.choice((random.uniform(0, 1), random.uniform(0, 60))),
    )


def prompt_of(number: int) -> str:
    """Return the private prompt of a task."""
    return f"private hedgehog {number}"


# ── what was done ────────────────────────────────────────────────────────────


@dataclass(kw_only=True)
class Done:
    """What was done and confirmed, for the checks; times are seconds of the loop.

    `tasks` are the ids of the new tasks by number, `paused` the times from and until which the handler was paused,
    `erased` the times by task, `resubmitted` the new task by the old one, and `replayed` the former message ids by dead
    letter. `endpoint` is its id, `received` the tasks and types of the events that its receiver took. Until it is
    `repaired` a handler rejects the events of the last new task. `streams` are the numbers that each reader got.
    """

    tasks: dict[int, str] = field(default_factory=dict)
    paused: tuple[float, float] | None = None
    erased: dict[str, float] = field(default_factory=dict)
    resubmitted: dict[str, str] = field(default_factory=dict)
    replayed: dict[str, str] = field(default_factory=dict)
    endpoint: str | None = None
    enabled_again: bool = False
    received: list[tuple[str, str]] = field(default_factory=list)
    operator_events: list[str] = field(default_factory=list)
    repaired: bool = False
    streams: list[list[int]] = field(default_factory=list)


class EndpointReceiver:
    """The receiver of the endpoint: it is gone for good (410) until it is `back`."""

    def __init__(self, done: Done, *, gone: bool) -> None:
        self._done = done
        self.back = not gone

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one delivery."""
        message = await receive()
        event = json.loads(message["body"])
        if self.back:
            self._done.received.append((event["data"]["task"]["id"], event["type"]))
        await send({"type": "http.response.start", "status": 204 if self.back else 410, "headers": []})
        await send({"type": "http.response.body", "body": b""})


# ── the operations ───────────────────────────────────────────────────────────


@dataclass(kw_only=True)
class Operators:
    """Does the operations of a run; the first of `handlers` is paused."""

    drawn: Operations
    http: httpx.AsyncClient
    loop: SimLoop
    reader: sqlite3.Connection
    history: History
    done: Done
    receiver: EndpointReceiver
    handlers: tuple[str, ...]
    _accepted: asyncio.Event = field(default_factory=asyncio.Event, init=False)

    async def run(self) -> None:
        """Do everything at once, until each call was answered."""
        await self._create_endpoint()
        await asyncio.gather(
            *(self._request_task(number) for number in range(3)),
            self._pause(),
            self._replay(),
            self._erase(),
            self._resubmit(),
            self._enable_again(),
        )

    async def _call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> httpx.Response:
        """Return the answer to a call, which is repeated until there is one; raises RuntimeError."""
        headers = {"Idempotency-Key": key} if key else {}
        for _ in range(TRIES):
            with suppress(httpx.TransportError):
                answer = await self.http.request(method, f"{SERVICE}{path}", json=body, headers=headers)
                if answer.status_code < httpx.codes.INTERNAL_SERVER_ERROR:
                    return answer
            await asyncio.sleep(2)
        raise RuntimeError(f"{method} {path} was never answered")

    async def _request_task(self, number: int) -> None:
        body = {
            "model": "viduq2_pro_reference",
            "params": {"images": ["https://images.test/a.png"], "prompt": prompt_of(number)},
            "metadata": {"n": f"private-{number}"},
        }
        answer = await self._call("POST", "/v1/tasks", body, key=f"private-{number}")
        self.done.tasks[number] = answer.json()["id"]
        if number == 0:
            self._accepted.set()

    async def _pause(self) -> None:
        """Pause a handler, whose deliveries wait, and resume it."""
        await self._call("POST", f"/v1/handlers/{self.handlers[0]}/pause")
        since = self.loop.time()
        await asyncio.sleep(self.drawn.pause)
        until = self.loop.time()
        resume = f"/v1/handlers/{self.handlers[0]}/resume"
        await self._call("POST", resume)
        self.done.paused = since, until
        for _ in range(LATE_CHECKS):  # the network may deliver the first request again
            await asyncio.sleep(LATE_PAUSE)
            if self.reader.execute("SELECT 1 FROM handler_pauses").fetchone():
                await self._call("POST", resume)

    async def _replay(self) -> None:
        """Replay every dead letter of the sample handlers, once there is one; note the message ids before."""
        await asyncio.sleep(self.drawn.replay_after)
        query = "SELECT id, message_id FROM deliveries WHERE status = 'dead' AND target = '{}'"
        for _ in range(TRIES):
            if dead := dict(self.reader.execute(query).fetchall()):
                break
            await asyncio.sleep(5)
        self.done.repaired = True
        for handler in self.handlers:
            cursor = None
            while True:
                body = {"handler": handler, "status": ["dead"], **({"cursor": cursor} if cursor else {})}
                answer = (await self._call("POST", "/v1/deliveries/replay", body)).json()
                cursor = answer["next_cursor"]
                if not cursor:
                    break
        self.done.replayed = dead

    async def _erase(self) -> None:
        """Erase the first task once it has ended, replay its deliveries, which must not be made again."""
        await asyncio.sleep(self.drawn.erase_after)
        await self._accepted.wait()
        task = self.done.tasks[0]
        for tried in range(FEW_TRIES):
            answer = await self._call("DELETE", f"/v1/tasks/{task}")
            if answer.is_success:
                break
            await asyncio.sleep(2 * 1.3**tried)
        else:
            return
        self.done.erased[task] = self.loop.time()
        for (delivery,) in list(self.reader.execute("SELECT id FROM deliveries WHERE task_id = ?", [task])):
            await self._call("POST", f"/v1/deliveries/{delivery}/replay")

    async def _resubmit(self) -> None:
        """Submit an ended task of the run again with another prompt, by one call that may be repeated."""
        await asyncio.sleep(self.drawn.resubmit_after)
        rows = self.reader.execute("SELECT id FROM tasks WHERE status IN ('completed', 'failed') ORDER BY id LIMIT 1")
        if row := rows.fetchone():
            body = {"params": {"prompt": "a dog"}}
            answer = await self._call("POST", f"/v1/tasks/{row[0]}/resubmit", body, key=f"again-{row[0]}")
            if answer.is_success:
                self.done.resubmitted[row[0]] = answer.json()["id"]

    async def _create_endpoint(self) -> None:
        """Create an endpoint once, although an answer may be lost."""
        found: list[Json] = []
        while not found:
            found = (await self._call("GET", "/v1/endpoints")).json()["data"]
            if not found:
                await self._call("POST", "/v1/endpoints", {"url": f"http://{ENDPOINT_HOST}/hook"})
        self.done.endpoint = found[0]["id"]

    async def _enable_again(self) -> None:
        """Once the endpoint is disabled its receiver works again: enable it, and replay what it has missed."""
        if not self.drawn.gone:
            return
        path = f"/v1/endpoints/{self.done.endpoint}"
        for tried in range(FEW_TRIES):
            if (await self._call("GET", path)).json()["disabled_at"]:
                break
            await asyncio.sleep(2 * 1.3**tried)
        else:
            return
        self.receiver.back = True
        await self._call("PATCH", path, {"disabled": False})
        for _ in range(TRIES):
            if self._all_ended():
                break
            await asyncio.sleep(60)
        cursor: str | None = ""
        while cursor is not None:
            body = {"since": "2026-05-06T00:00:00Z", **({"cursor": cursor} if cursor else {})}
            answer = await self._call("POST", f"{path}/replay", body)
            cursor = answer.json().get("next_cursor")
        self.done.enabled_again = True

    def _all_ended(self) -> bool:
        query = "SELECT count(*) FROM tasks WHERE settled_at IS NULL AND status != 'expired'"
        return not self.reader.execute(query).fetchone()[0]
