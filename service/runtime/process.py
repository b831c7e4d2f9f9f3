"""The only place that knows everything: it starts the service, and stops it in order."""

import asyncio
import gc
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from typing import Literal

import structlog
from starlette.types import ASGIApp

from service.api.app import Services, create_app, create_probe_app
from service.api.server import listen, serving
from service.deliveries import handler_loader as plugins
from service.domain.errors import BadSetting, SchemaBehind
from service.runtime.bootstrap import Application, build_application
from service.runtime.config.setting_types import database_file
from service.runtime.config.settings import Settings, ensure_secret_keys
from service.runtime.log_config import configure_logging
from service.runtime.malloc import return_large_blocks_to_os
from service.runtime.scheduler import JobScheduler
from service.runtime.shutdown import HOLDS_ON_FOR, force_exit, install_signal_handlers
from service.runtime.startup_checks import check_delivery_targets
from service.runtime.worker import Worker
from service.storage import migrate
from service.tasks.media_inspector import missing_extras

log = structlog.get_logger("boomerang")

Role = Literal["all", "web", "worker"]

FailureReason = Callable[[], str | None]
"""Says what keeps the process from working, None while nothing does."""

STOP_WITHIN = 8
"""Seconds from the word to stop to the end; platforms kill after ten."""

CUT_OFF_AFTER = 6
"""Seconds of these that requests and work in hand have, side by side; the rest is for what is cut off then.

It cleans up, what came of it is written down, and its leases are given back.
"""

LOOK_AGAIN = 2.0
"""Seconds between looks at a database that is not ready."""

YOUNG_OBJECTS = 10_000
"""Objects between two looks for garbage: a busy loop has some thousands in hand, and none of them is garbage yet."""

THREAD_TURN = 0.001
"""Seconds that the event loop and the database's thread wait for each other at most."""


async def serve(settings: Settings, *, host: str, port: int | None, role: Role) -> None:
    """Run the service until SIGTERM or SIGINT; `port` None opens none. Raises BadSetting, BadHandler.

    Then the process ends: by force, if a handler holds it or the stop takes too long.
    """
    configure_logging(settings.log_format, settings.log_level)
    stop = install_signal_handlers()
    async with running(settings, host=host, port=port, role=role) as address:
        _tune_interpreter()
        log.info("started", role=role, address=address, provider=settings.provider)
        await stop.wait()
        force_exit(after=STOP_WITHIN + HOLDS_ON_FOR)
        log.info("stopping", role=role, within_seconds=STOP_WITHIN)
    log.info("stopped", role=role)


def _tune_interpreter() -> None:
    """Tell the interpreter that what is loaded by now stays, and that threads here take short turns."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS)
    sys.setswitchinterval(THREAD_TURN)


@asynccontextmanager
async def running(settings: Settings, *, host: str, port: int | None, role: Role = "all") -> AsyncIterator[str]:
    """Run the service inside the block and yield its address, empty without a port.

    At its end nothing more is begun, and requests and work in hand have CUT_OFF_AFTER seconds, side by side; the leases
    of what is left are given back.
    """
    return_large_blocks_to_os()
    settings = await _prepared(settings)
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(build_application(settings))
        log.info("handlers loaded", handlers=sorted(parts.handlers))
        if role != "web":
            await check_delivery_targets(settings, parts.handlers)
        _log_degraded_features(settings)
        await stack.enter_async_context(parts.store.listening())
        worker = parts.worker.web_jobs() if role == "web" else parts.worker.jobs()
        stopping, ticker = asyncio.Event(), JobScheduler(worker, parts.store.signals)
        failure_reason = await stack.enter_async_context(_running_jobs(parts, ticker, stopping))
        address = ""
        if port is not None:
            app = _app(parts, role, stopping, failure_reason)
            address = await stack.enter_async_context(serving(app, _listen(host, port), grace=CUT_OFF_AFTER))
        try:
            yield address
        finally:
            stopping.set()


async def _prepared(settings: Settings) -> Settings:
    """Return the settings with their keys, and make the schema where it is ours alone: in an SQLite file.

    The file comes first: beside one that is not ours no key is left.
    """
    if database_file(settings.database_url):
        await migrate(settings.database_url)
    return ensure_secret_keys(settings)


def _listen(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as error:
        raise BadSetting(f"cannot listen on {host}:{port}: {error.strerror}; choose another with --port") from error


def _log_degraded_features(settings: Settings) -> None:
    if settings.public_url is None:
        log.warning("poll-only: no BOOMERANG_PUBLIC_URL, so no callback address is sent and every task is polled")
    for extra in missing_extras():
        log.warning("inline media are checked by structure only", missing=extra, mend="install the extra `media`")


@asynccontextmanager
async def _running_jobs(
    parts: Application, ticker: JobScheduler, stopping: asyncio.Event
) -> AsyncIterator[FailureReason]:
    """Ring the rounds from the moment that the database is ready until `stopping` is set, or the block ends.

    Yield what says why they are not rung, None while they are. What is in hand at the end ends beside the last
    requests, so that a slow client costs no time of its own.
    """
    start = asyncio.create_task(_start_when_ready(parts, ticker, stopping), name="start")
    start.add_done_callback(lambda _: _tell_of_a_start_that_broke_off(start, stopping))
    work = asyncio.create_task(_work(parts, ticker, stopping, start), name="work")
    try:
        yield lambda: _failed_unexpectedly(start, stopping) or ticker.failure_reason()
    finally:
        stopping.set()
        ends_at = await work
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends_at):
                await parts.receiver.flush()  # what the last requests brought, though nobody may wait for it any more


async def _work(parts: Application, ticker: JobScheduler, stopping: asyncio.Event, start: asyncio.Task[None]) -> float:
    """Work until `stopping` is set and what is in hand then has ended; return when the stop is to be over."""
    await stopping.wait()
    ends_at = asyncio.get_running_loop().time() + STOP_WITHIN
    looked = asyncio.wait([start], timeout=CUT_OFF_AFTER)  # one that is looking at the database is let end its look
    await asyncio.gather(looked, ticker.stop(CUT_OFF_AFTER), parts.worker.drain(CUT_OFF_AFTER))
    start.cancel()
    return ends_at


def _failed_unexpectedly(start: asyncio.Task[None], stopping: asyncio.Event) -> str | None:
    """Return what to tell when the start has ended before the rounds began; None otherwise."""
    if stopping.is_set() or not start.done() or not (start.cancelled() or start.exception()):
        return None
    return "the start of the rounds has ended unforeseen; restart the process"


def _tell_of_a_start_that_broke_off(start: asyncio.Task[None], stopping: asyncio.Event) -> None:
    if why := _failed_unexpectedly(start, stopping):
        log.error(why, exc_info=None if start.cancelled() else start.exception())


async def _start_when_ready(parts: Application, ticker: JobScheduler, stopping: asyncio.Event) -> None:
    told = None
    while (why := await _why_not_ready(parts)) and not stopping.is_set():
        if why != told:
            log.warning("not ready", why=why)
        told = why
        with suppress(TimeoutError):
            async with asyncio.timeout(LOOK_AGAIN):
                await stopping.wait()
    if not stopping.is_set():
        await ticker.start()


async def _why_not_ready(parts: Application) -> str | None:
    try:
        return await parts.store.health.ready()
    except Exception as error:  # noqa: BLE001 - whatever it is, a later look may find it mended: nothing else would
        return f"the database cannot be looked at: {type(error).__name__}"


def _app(parts: Application, role: Role, stopping: asyncio.Event, failure_reason: FailureReason) -> ASGIApp:
    services = _services(parts, stopping, failure_reason)
    return create_probe_app(services) if role == "worker" else create_app(services)


def _services(parts: Application, stopping: asyncio.Event, failure_reason: FailureReason) -> Services:
    return Services(
        health=parts.store.health,
        clock=parts.clock,
        api_keys=parts.settings.api_keys,
        counters=parts.counters,
        stopping=stopping.is_set,
        failure_reason=failure_reason,
        task_service=parts.task_service,
        receiver=parts.receiver,
        replayer=parts.store.deliveries,
        rounds=parts.worker,
        queries=parts.store.queries,
        blobs=parts.store.blobs,
        deliveries=parts.store.deliveries,
        signals=parts.store.signals,
        allow_off_peak=parts.settings.allow_off_peak,
    )


async def reconcile_once(settings: Settings) -> dict[str, int]:
    """Do one full round of submit, poll and dispatch for what is due; return how many of each.

    SIGTERM or SIGINT cuts it short, as it stops the service. A handler that will not end would hold the process: then
    what was done is logged, and the process ended by force.
    """
    configure_logging(settings.log_format, settings.log_level)
    settings = await _prepared(settings)
    async with build_application(settings) as parts:
        if why := await parts.store.health.ready():
            raise SchemaBehind(why)
        await check_delivery_targets(settings, parts.handlers)
        done = await _one_round(parts.worker, install_signal_handlers())
        if parts.worker.dispatcher.in_flight:
            log.warning("round done", **done)
            force_exit(after=HOLDS_ON_FOR)
        return done


async def _one_round(worker: Worker, stop: asyncio.Event) -> dict[str, int]:
    """Return what a full round has done once it is through, or cut short by `stop`, and what it began has ended."""
    full_round, stopped = asyncio.create_task(worker.reconcile_once()), asyncio.create_task(stop.wait())
    await asyncio.wait([full_round, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    await worker.drain(CUT_OFF_AFTER)
    return await full_round


async def migrate_database(settings: Settings) -> str:
    """Bring the database to the newest schema; return a sentence that says so."""
    await migrate(settings.database_url)
    return "The database has the newest schema."


def list_handlers(settings: Settings) -> list[dict[str, object]]:
    """Return a row for every handler that is found, loaded or not or broken."""
    return [asdict(row) for row in plugins.list_handlers(settings.handlers, settings.present)]
