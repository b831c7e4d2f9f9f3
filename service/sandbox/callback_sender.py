"""Send callbacks: lost, doubled, late, reordered or repeated by the switches, without delaying the task."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import httpx

from service.sandbox.callback_builder import Callback, CallbackBuilder
from service.sandbox.callback_manners import PROBES
from service.sandbox.http_clients import HttpClients
from service.sandbox.state import SandboxState
from service.sandbox.tasks import Task

_CONCURRENCY = 64
_SUCCESS = range(200, 300)


def on_loopback(url: str) -> bool:
    """Return whether an address names this machine's loopback; resolves no name."""
    try:
        host = urlsplit(url).hostname or ""
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


@dataclass(kw_only=True, slots=True)
class CallbackSender:
    """Send callbacks about tasks. Errors of the receiver are counted, never raised."""

    state: SandboxState
    builder: CallbackBuilder
    clients: HttpClients
    _open: set[asyncio.Task[None]] = field(init=False, default_factory=set)
    _started: dict[int, asyncio.Task[None]] = field(init=False, default_factory=dict)
    _held: dict[int, Callback] = field(init=False, default_factory=dict)
    _slots: asyncio.Semaphore = field(init=False, default_factory=lambda: asyncio.Semaphore(_CONCURRENCY))

    def send(self, task: Task) -> asyncio.Task[None] | None:
        """Send the callback about the task's current state in the background; return its asyncio task, if any."""
        callback = self._build_if_enabled(task)
        if task.state.final:
            return self._send_final(task, callback)
        if callback is None:
            return None
        if self.state.hits("reorder_callbacks", callback.occasion):
            self._count("reordered")
            self._held[task.number] = callback
            return None
        sending, late = self._start(callback)
        if not late:
            self._started[task.number] = sending
        return sending

    @property
    def running_tasks(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks of all unfinished callbacks."""
        return set(self._open)

    async def close(self) -> None:
        """Cancel all unfinished callbacks."""
        for sending in self.running_tasks:
            sending.cancel()
        await asyncio.gather(*self.running_tasks, return_exceptions=True)

    def _send_final(self, task: Task, callback: Callback | None) -> asyncio.Task[None] | None:
        """Send the final callback after the one about the start; a reordered start follows the final one."""
        held, before = self._held.pop(task.number, None), self._started.pop(task.number, None)
        if callback is None:
            return self._spawn(self._deliver(held, 0.0)) if held else None
        sending, _ = self._start(callback, after=before)
        if held is not None:
            self._spawn(self._deliver(held, 0.0, after=sending))
        return sending

    def _build_if_enabled(self, task: Task) -> Callback | None:
        url, switches = task.spec.callback_url, self.state.switches
        if url is None or not switches.callbacks or (switches.final_callbacks_only and not task.state.final):
            return None
        if not (self.clients.anywhere or switches.callbacks_anywhere or on_loopback(url)):
            self._count("forbidden")
            return None
        callback = self.builder.build(task, url)
        if self.state.hits("lose_callbacks", callback.occasion):
            self._count("lost")
            return None
        return callback

    def _start(self, callback: Callback, *, after: asyncio.Task[None] | None = None) -> tuple[asyncio.Task[None], bool]:
        """Start to deliver in the background; return the asyncio task, and whether the callback is late."""
        late = self.state.hits("late_callbacks", callback.occasion)
        delay = self.state.within("callback_lateness", callback.occasion) if late else 0.0
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
        if self.state.hits("double_callbacks", callback.occasion):
            self._count("doubled")
            await asyncio.gather(self._attempts(callback), self._attempts(replace(callback, repeats=0)))
        else:
            await self._attempts(callback)

    async def _attempts(self, callback: Callback) -> None:
        """Post the callback, and repeat it until a 2xx comes or no repeats are left; probe the address before it."""
        if self.state.hits("probe_callbacks", callback.occasion):
            for method in PROBES:
                await self._probe(callback, method)
        for repeat in range(callback.repeats + 1):
            if repeat:
                self._count("repeated")
                await asyncio.sleep(self.state.switches.callback_pause)
            if await self._post(callback):
                return

    async def _post(self, callback: Callback) -> bool:
        async with self._slots:
            self._count("sent")
            try:
                status = await self.clients.send(
                    "POST",
                    callback.url,
                    body=callback.body,
                    headers=callback.headers,
                    seconds=self.state.switches.callback_timeout,
                )
            except (httpx.HTTPError, OSError):
                self._count("unreachable")
                return False
        delivered = status in _SUCCESS
        self._count("delivered" if delivered else "refused")
        return delivered

    async def _probe(self, callback: Callback, method: str) -> None:
        """Send a request without a body to the callback's address; count the responses without a 2xx."""
        try:
            status = await self.clients.send(
                method, callback.url, body=b"", headers={}, seconds=self.state.switches.callback_timeout
            )
        except (httpx.HTTPError, OSError):
            return
        self._count("probed" if status in _SUCCESS else "probe_refused")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        sending = asyncio.create_task(work)
        self._open.add(sending)
        sending.add_done_callback(self._open.discard)
        return sending

    def _count(self, name: str) -> None:
        self.state.billing.callbacks[name] += 1
