"""Send callbacks: lost, doubled, late, reordered or repeated as the switches say, and never in a task's way."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from service.sandbox.calls import Call, Scribe
from service.sandbox.clients import Clients
from service.sandbox.tasks import Task
from service.sandbox.world import World

_AT_ONCE = 64
_SUCCESS = range(200, 300)


def on_loopback(url: str) -> bool:
    """Say whether an address names this machine's loopback, without asking any name server."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class Caller:
    """Call back about tasks over one pool of connections; faults of the receiver are counted, never raised."""

    def __init__(self, world: World, scribe: Scribe, clients: Clients) -> None:
        self._world = world
        self._scribe = scribe
        self._clients = clients
        self._open: set[asyncio.Task[None]] = set()
        self._started: dict[int, asyncio.Task[None]] = {}
        self._held: dict[int, Call] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def tell(self, task: Task) -> asyncio.Task[None] | None:
        """Send the callback about the task as it stands, in the background; return what can be waited for."""
        call = self._wanted(task)
        if task.state.final:
            return self._end(task, call)
        if call is None:
            return None
        if self._world.hits("reorder_callbacks", call.occasion):
            self._count("reordered")
            self._held[task.number] = call
            return None
        sending, late = self._send(call)
        if not late:
            self._started[task.number] = sending
        return sending

    @property
    def under_way(self) -> set[asyncio.Task[None]]:
        """Return every callback that is neither sent nor given up."""
        return set(self._open)

    async def close(self) -> None:
        """Give up what is under way."""
        for sending in self.under_way:
            sending.cancel()
        await asyncio.gather(*self.under_way, return_exceptions=True)

    def _end(self, task: Task, call: Call | None) -> asyncio.Task[None] | None:
        held, before = self._held.pop(task.number, None), self._started.pop(task.number, None)
        if call is None:
            return self._spawn(self._deliver(held, 0.0)) if held else None
        sending, _ = self._send(call, after=before)
        if held is not None:
            self._spawn(self._deliver(held, 0.0, after=sending))
        return sending

    def _wanted(self, task: Task) -> Call | None:
        url, switches = task.order.callback_url, self._world.switches
        if url is None or not switches.callbacks or (switches.final_callbacks_only and not task.state.final):
            return None
        if not (self._clients.anywhere or switches.callbacks_anywhere or on_loopback(url)):
            self._count("forbidden")
            return None
        call = self._scribe.write(task, url)
        if self._world.hits("lose_callbacks", call.occasion):
            self._count("lost")
            return None
        return call

    def _send(self, call: Call, *, after: asyncio.Task[None] | None = None) -> tuple[asyncio.Task[None], bool]:
        late = self._world.hits("late_callbacks", call.occasion)
        delay = self._world.within("callback_lateness", call.occasion) if late else 0.0
        if late:
            self._count("late")
        if call.tampered:
            self._count("tampered")
        return self._spawn(self._deliver(call, delay, after=after)), late

    async def _deliver(self, call: Call, delay: float, *, after: asyncio.Task[None] | None = None) -> None:
        if after is not None:
            await asyncio.wait([after])
        if delay > 0.0:
            await asyncio.sleep(delay)
        if self._world.hits("double_callbacks", call.occasion):
            self._count("doubled")
            await asyncio.gather(self._attempts(call), self._attempts(replace(call, repeats=0)))
        else:
            await self._attempts(call)

    async def _attempts(self, call: Call) -> None:
        for repeat in range(call.repeats + 1):
            if repeat:
                self._count("repeated")
                await asyncio.sleep(self._world.switches.callback_pause)
            if await self._post(call):
                return

    async def _post(self, call: Call) -> bool:
        async with self._slots:
            self._count("sent")
            try:
                status = await self._clients.post(
                    call.url, body=call.body, headers=call.headers, seconds=self._world.switches.callback_timeout
                )
            except (httpx.HTTPError, OSError):
                self._count("unreachable")
                return False
        delivered = status in _SUCCESS
        self._count("delivered" if delivered else "refused")
        return delivered

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        sending = asyncio.create_task(work)
        self._open.add(sending)
        sending.add_done_callback(self._open.discard)
        return sending

    def _count(self, name: str) -> None:
        self._world.ledger.callbacks[name] += 1
