"""Send callbacks: lost, doubled, late, reordered or repeated as the switches say, and never in a task's way."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from service.sandbox.callback_builder import Callback, CallbackBuilder
from service.sandbox.http_clients import HttpClients
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task

_AT_ONCE = 64
_SUCCESS = range(200, 300)


def on_loopback(url: str) -> bool:
    """Say whether an address names this machine's loopback, without asking any name server."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


class CallbackSender:
    """Call back about tasks over one pool of connections; faults of the receiver are counted, never raised."""

    def __init__(self, state: SandboxState, writer: CallbackBuilder, clients: HttpClients) -> None:
        self._state = state
        self._writer = writer
        self._clients = clients
        self._open: set[asyncio.Task[None]] = set()
        self._started: dict[int, asyncio.Task[None]] = {}
        self._held: dict[int, Callback] = {}
        self._slots = asyncio.Semaphore(_AT_ONCE)

    def tell(self, task: Task) -> asyncio.Task[None] | None:
        """Send the callback about the task as it stands, in the background; return what can be waited for."""
        callback = self._wanted(task)
        if task.state.final:
            return self._end(task, callback)
        if callback is None:
            return None
        if self._state.hits("reorder_callbacks", callback.occasion):
            self._count("reordered")
            self._held[task.number] = callback
            return None
        sending, late = self._send(callback)
        if not late:
            self._started[task.number] = sending
        return sending

    @property
    def running_tasks(self) -> set[asyncio.Task[None]]:
        """Return every callback that is neither sent nor given up."""
        return set(self._open)

    async def close(self) -> None:
        """Give up what is under way."""
        for sending in self.running_tasks:
            sending.cancel()
        await asyncio.gather(*self.running_tasks, return_exceptions=True)

    def _end(self, task: Task, callback: Callback | None) -> asyncio.Task[None] | None:
        held, before = self._held.pop(task.number, None), self._started.pop(task.number, None)
        if callback is None:
            return self._spawn(self._deliver(held, 0.0)) if held else None
        sending, _ = self._send(callback, after=before)
        if held is not None:
            self._spawn(self._deliver(held, 0.0, after=sending))
        return sending

    def _wanted(self, task: Task) -> Callback | None:
        url, switches = task.spec.callback_url, self._state.switches
        if url is None or not switches.callbacks or (switches.final_callbacks_only and not task.state.final):
            return None
        if not (self._clients.anywhere or switches.callbacks_anywhere or on_loopback(url)):
            self._count("forbidden")
            return None
        callback = self._writer.write(task, url)
        if self._state.hits("lose_callbacks", callback.occasion):
            self._count("lost")
            return None
        return callback

    def _send(self, callback: Callback, *, after: asyncio.Task[None] | None = None) -> tuple[asyncio.Task[None], bool]:
        late = self._state.hits("late_callbacks", callback.occasion)
        delay = self._state.within("callback_lateness", callback.occasion) if late else 0.0
        if late:
            self._count("late")
        if callback.tampered:
            self._count("tampered")
        return self._spawn(self._deliver(callback, delay, after=after)), late

    async def _deliver(self, callback: Callback, delay: float, *, after: asyncio.Task[None] | None = None) -> None:
        if after is not None:
            await asyncio.wait([after])
        if delay > 0.0:
            await asyncio.sleep(delay)
        if self._state.hits("double_callbacks", callback.occasion):
            self._count("doubled")
            await asyncio.gather(self._attempts(callback), self._attempts(replace(callback, repeats=0)))
        else:
            await self._attempts(callback)

    async def _attempts(self, callback: Callback) -> None:
        for repeat in range(callback.repeats + 1):
            if repeat:
                self._count("repeated")
                await asyncio.sleep(self._state.switches.callback_pause)
            if await self._post(callback):
                return

    async def _post(self, callback: Callback) -> bool:
        async with self._slots:
            self._count("sent")
            try:
                status = await self._clients.post(
                    callback.url,
                    body=callback.body,
                    headers=callback.headers,
                    seconds=self._state.switches.callback_timeout,
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
        self._state.billing.callbacks[name] += 1
