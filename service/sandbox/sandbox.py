"""Run a stand-in upstream: Vtrix- and Vidu-shaped, with real MP4s, a ledger, and every fault as a switch."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import httpx

from service.sandbox.app import Parts, build_app
from service.sandbox.billing import Bill
from service.sandbox.callback_builder import CallbackWriter
from service.sandbox.callback_sender import CallbackSender
from service.sandbox.http_clients import opened
from service.sandbox.provider_api import ProviderApi
from service.sandbox.provider_shapes import Vidu, Vtrix
from service.sandbox.result_files import Files
from service.sandbox.signed_urls import Links
from service.sandbox.state import SandboxState
from service.sandbox.switches import Switches
from service.sandbox.task_list import Listing
from service.sandbox.task_runner import Engine

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
        self._world = SandboxState(switches, now=now, source=random)
        self._links = Links(self._world)
        self._transport = transport
        self._new_studio = _studio_class()
        self._parts: Parts | None = None
        self.app = build_app(self._world, self._serving, self.running)

    @property
    def switches(self) -> Switches:
        """Return how it behaves now."""
        return self._world.switches

    @property
    def bills(self) -> list[Bill]:
        """Return a bill for each accepted create, oldest first."""
        return list(self._world.ledger.bills)

    def turn(self, changes: Mapping[str, object]) -> None:
        """Change switches by name; raise `SwitchError`, and change none, when a name or value is wrong."""
        self._world.turn(changes)

    def ledger(self) -> dict[str, object]:
        """Return what was billed, asked and called back, as `GET /sandbox/ledger` does."""
        return self._world.ledger.to_json(str(task.state) for task in self._world.tasks.values())

    async def idle(self) -> None:
        """Wait until every task has ended and every callback is sent or given up."""
        engine, callbacks = self._serving().engine, self._serving().callbacks
        while work := engine.under_way | callbacks.under_way:
            await asyncio.wait(work)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve until the block ends, then stop every task and callback and remove every file."""
        if self._parts is not None:
            raise RuntimeError("the sandbox is running already")
        world, links = self._world, self._links
        async with opened(self._transport) as clients:
            callbacks = CallbackSender(world, CallbackWriter(world, links), clients)
            studio = self._new_studio(world, clients)
            engine = Engine(world, callbacks)
            studio.open()
            self._parts = self._assembled(engine, callbacks, studio)
            try:
                yield
            finally:
                self._parts = None
                await engine.close()
                await callbacks.close()
                await studio.close()

    def _assembled(self, engine: Engine, callbacks: CallbackSender, studio: "MediaStore") -> Parts:
        world, links = self._world, self._links
        vidu = Vidu(world, links)
        api = ProviderApi(world, vidu, engine, studio)
        return Parts(
            engine=engine,
            callbacks=callbacks,
            vtrix=ProviderApi(world, Vtrix(world, links), engine, studio),
            vidu=api,
            listing=Listing(world, vidu, links, api.admit),
            files=Files(world, links, studio),
        )

    def _serving(self) -> Parts:
        if self._parts is None:
            raise RuntimeError("the sandbox is not running: use `async with sandbox.running()`")
        return self._parts


def _studio_class() -> "type[MediaStore]":
    try:
        from service.sandbox.media_store import MediaStore  # noqa: PLC0415 - the media extra may be missing
    except ImportError as missing:
        raise MediaExtraMissing(
            f"the sandbox draws real MP4s and lacks {missing.name}: the extra `media` is missing; "
            "pip install -r requirements.txt brings it"
        ) from missing
    return MediaStore
