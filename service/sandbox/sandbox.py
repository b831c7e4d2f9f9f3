"""Stand-in provider with the shapes of Vtrix and Vidu, real MP4s, billing counters, and switchable faults."""

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
from service.sandbox.http_clients import open_clients
from service.sandbox.provider_api import ProviderApi
from service.sandbox.provider_shapes import Vidu, Vtrix
from service.sandbox.result_files import ResultFiles
from service.sandbox.signed_urls import UrlSigner
from service.sandbox.state import SandboxState
from service.sandbox.switches import Switches
from service.sandbox.task_list import TaskList
from service.sandbox.task_runner import TaskRunner
from service.sandbox.vidu_credits import Credits

if TYPE_CHECKING:
    from service.sandbox.media_store import MediaStore


class MediaExtraMissing(RuntimeError):
    """Raised if Pillow or PyAV is missing; the message names the extra that installs them."""


class Sandbox:
    """Simulate the provider in one process and without a network.

    `switches` set its behaviour. `now` returns the aware time, on the clock of `asyncio.sleep`. `random` is the only
    source of randomness: equal seeds give equal runs. `transport` carries callbacks and image downloads to any address;
    without it the sandbox connects to loopback only, unless a switch allows more.

    Serve `app` with any ASGI server, whose lifespan starts and stops the sandbox, or use `async with sandbox.running()`
    with `httpx.ASGITransport(sandbox.app)`, where a dropped connection is an `httpx.ReadError`. With `tiny_videos` it
    starts no thread, so that it also runs on a loop with a virtual clock. Raise `MediaExtraMissing` without Pillow or
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
        self._components: Components | None = None
        self.app = build_app(self._state, self._signer, self._running_components, self.running)

    @property
    def switches(self) -> Switches:
        """Return the current switches."""
        return self._state.switches

    @property
    def bills(self) -> list[Bill]:
        """Return one bill per accepted create, oldest first."""
        return list(self._state.billing.bills)

    def turn(self, changes: Mapping[str, object]) -> None:
        """Change switches by name; raise `SwitchError` and change none if a name or a value is invalid."""
        self._state.change_switches(changes)

    def ledger(self) -> dict[str, object]:
        """Return the bills and the counters of requests, callbacks and tasks, as `GET /sandbox/ledger` does."""
        return self._state.billing.to_json(str(task.state) for task in self._state.tasks.values())

    async def idle(self) -> None:
        """Wait until every task has ended and every callback is sent or has failed."""
        components = self._running_components()
        while work := components.runner.running_tasks | components.callbacks.running_tasks:
            await asyncio.wait(work)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve until the block ends, then cancel every task and callback and remove every file."""
        if self._components is not None:
            raise RuntimeError("the sandbox is running already")
        async with open_clients(self._transport) as clients:
            builder = CallbackBuilder(state=self._state, signer=self._signer)
            callbacks = CallbackSender(state=self._state, builder=builder, clients=clients)
            media_store = self._media_store_class(self._state, clients)
            runner = TaskRunner(state=self._state, callbacks=callbacks)
            media_store.open()
            self._components = self._assemble(runner, callbacks, media_store)
            try:
                yield
            finally:
                self._components = None
                await runner.close()
                await callbacks.close()
                await media_store.close()

    def _assemble(self, runner: TaskRunner, callbacks: CallbackSender, media_store: "MediaStore") -> Components:
        state, signer = self._state, self._signer
        vtrix, vidu = Vtrix(state=state, signer=signer), Vidu(state=state, signer=signer)
        vidu_api = ProviderApi(state=state, shape=vidu, runner=runner, media_store=media_store)
        return Components(
            runner=runner,
            callbacks=callbacks,
            vtrix=ProviderApi(state=state, shape=vtrix, runner=runner, media_store=media_store),
            vidu=vidu_api,
            listing=TaskList(state=state, shape=vidu, signer=signer, authenticate=vidu_api.authenticate),
            credits=Credits(state=state, shape=vidu, authenticate=vidu_api.authenticate),
            files=ResultFiles(state=state, signer=signer, media_store=media_store),
        )

    def _running_components(self) -> Components:
        if self._components is None:
            raise RuntimeError("the sandbox is not running: use `async with sandbox.running()`")
        return self._components


def _load_media_store_class() -> "type[MediaStore]":
    try:
        from service.sandbox.media_store import MediaStore  # noqa: PLC0415 - the media extra may be missing
    except ImportError as missing:
        raise MediaExtraMissing(
            f"the sandbox draws real MP4s and lacks {missing.name}: the extra `media` is missing; "
            "pip install -r requirements.txt brings it"
        ) from missing
    return MediaStore
