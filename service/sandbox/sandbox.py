"""Run a stand-in upstream: Vtrix- and Vidu-shaped, with real MP4s, a ledger, and every fault as a switch."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import httpx

from service.sandbox.app import Components, build_app
from service.sandbox.billing import Bill
from service.sandbox.callback_builder import CallbackBuilder
from service.sandbox.callback_sender import CallbackSender
from service.sandbox.http_clients import opened
from service.sandbox.provider_api import ProviderApi
from service.sandbox.provider_shapes import Vidu, Vtrix
from service.sandbox.result_files import ResultFiles
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.state import SandboxState
from service.sandbox.switches import Switches
from service.sandbox.task_list import TaskList
from service.sandbox.task_runner import TaskRunner

if TYPE_CHECKING:
    from service.sandbox.media_store import MediaStore


class MediaExtraMissing(RuntimeError):
    """Say that the sandbox cannot draw videos, and which extra mends it."""


class Sandbox:
    """Stand in for the upstream, in one process and without a network.

    `switches` say how it behaves; `now` returns the aware time, and passes as `asyncio.sleep` does; `random` is the
    only source of chance, so that equal seeds give equal runs; `transport` carries callbacks and image fetches, and
    may go anywhere when it is given: without it only loopback is dialled unless a switch allows more.

    Serve `app` with any ASGI server, whose lifespan starts and stops the rest, or use `async with sandbox.running()`
    with `httpx.ASGITransport(sandbox.app)`. A dropped connection is an `httpx.ReadError` there. With `tiny_videos` it
    starts no thread, so that a loop with a virtual clock can drive it. Raise `MediaExtraMissing` without Pillow or
    PyAV.
    """

    def __init__(
        self,
        switches: Switches,
        *,
        now: Callable[[], datetime],
        random: random.Random,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._state = SandboxState(switches, now=now, source=random)
        self._signer = UrlSigner(self._state)
        self._transport = transport
        self._media_store_class = _load_media_store_class()
        self._parts: Components | None = None
        self.app = build_app(self._state, self._serving, self.running)

    @property
    def switches(self) -> Switches:
        """Return how it behaves now."""
        return self._state.switches

    @property
    def bills(self) -> list[Bill]:
        """Return a bill for each accepted create, oldest first."""
        return list(self._state.billing.bills)

    def turn(self, changes: Mapping[str, object]) -> None:
        """Change switches by name; raise `SwitchError`, and change none, when a name or value is wrong."""
        self._state.turn(changes)

    def ledger(self) -> dict[str, object]:
        """Return what was billed, asked and called back, as `GET /sandbox/ledger` does."""
        return self._state.billing.to_json(str(task.state) for task in self._state.tasks.values())

    async def idle(self) -> None:
        """Wait until every task has ended and every callback is sent or given up."""
        runner, callbacks = self._serving().runner, self._serving().callbacks
        while work := runner.running_tasks | callbacks.running_tasks:
            await asyncio.wait(work)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve until the block ends, then stop every task and callback and remove every file."""
        if self._parts is not None:
            raise RuntimeError("the sandbox is running already")
        state, signer = self._state, self._signer
        async with opened(self._transport) as clients:
            callbacks = CallbackSender(state, CallbackBuilder(state, signer), clients)
            media_store = self._media_store_class(state, clients)
            runner = TaskRunner(state, callbacks)
            media_store.open()
            self._parts = self._assembled(runner, callbacks, media_store)
            try:
                yield
            finally:
                self._parts = None
                await runner.close()
                await callbacks.close()
                await media_store.close()

    def _assembled(self, runner: TaskRunner, callbacks: CallbackSender, media_store: "MediaStore") -> Components:
        state, signer = self._state, self._signer
        vidu = Vidu(state, signer)
        api = ProviderApi(state, vidu, runner, media_store)
        return Components(
            runner=runner,
            callbacks=callbacks,
            vtrix=ProviderApi(state, Vtrix(state, signer), runner, media_store),
            vidu=api,
            listing=TaskList(state, vidu, signer, api.admit),
            files=ResultFiles(state, signer, media_store),
        )

    def _serving(self) -> Components:
        if self._parts is None:
            raise RuntimeError("the sandbox is not running: use `async with sandbox.running()`")
        return self._parts


def _load_media_store_class() -> "type[MediaStore]":
    try:
        from service.sandbox.media_store import MediaStore  # noqa: PLC0415 - the media extra may be missing
    except ImportError as missing:
        raise MediaExtraMissing(
            f"the sandbox draws real MP4s and lacks {missing.name}: the extra `media` is missing; "
            "pip install -r requirements.txt brings it"
        ) from missing
    return MediaStore
