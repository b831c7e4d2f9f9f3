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
from service.deliveries.replay import ReplayService
from service.domain.errors import BadSetting, SchemaBehind
from service.runtime.bootstrap import Application, build_application
from service.runtime.config.setting_types import database_file
from service.runtime.config.settings import Settings, ensure_secret_keys
from service.runtime.log_config import configure_logging
from service.runtime.malloc import return_large_blocks_to_os
from service.runtime.scheduler import JobScheduler
from service.runtime.shutdown import EXIT_GRACE, force_exit, install_signal_handlers
from service.runtime.startup_checks import check_delivery_targets
from service.runtime.worker import Worker
from service.storage import migrate
from service.tasks.media_inspector import missing_extras

log = structlog.get_logger("boomerang")

Role = Literal["all", "web", "worker"]

FailureReason = Callable[[], str | None]
"""Says what keeps the process from working, None while nothing does."""

SHUTDOWN_TIMEOUT = 8
"""Seconds from the word to stop to the end; platforms kill after ten."""

DRAIN_TIMEOUT = 6
"""Seconds of these that requests and work in hand have, side by side; the rest is for what is cut off then.

It cleans up, what came of it is written down, and its leases are given back.
"""

READY_CHECK_INTERVAL = 2.0
"""Seconds between looks at a database that is not ready."""

GC_THRESHOLD = 10_000
"""Objects between two looks for garbage: a busy loop has some thousands in hand, and none of them is garbage yet."""

SWITCH_INTERVAL = 0.001
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
        force_exit(after=SHUTDOWN_TIMEOUT + EXIT_GRACE)
        log.info("stopping", role=role, within_seconds=SHUTDOWN_TIMEOUT)
    log.info("stopped", role=role)


def _tune_interpreter() -> None:
    """Tell the interpreter that what is loaded by now stays, and that threads here take short turns."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD)
    sys.setswitchinterval(SWITCH_INTERVAL)


@asynccontextmanager
async def running(settings: Settings, *, host: str, port: int | None, role: Role = "all") -> AsyncIterator[str]:
    """Run the service inside the block and yield its address, empty without a port.

    At its end nothing more is begun, and requests and work in hand have CUT_OFF_AFTER seconds, side by side; the leases
    of what is left are given back.
    """
    return_large_blocks_to_os()
    settings = await _prepare_storage(settings)
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(build_application(settings))
        log.info("handlers loaded", handlers=sorted(application.handlers))
        if role != "web":
            await check_delivery_targets(settings, application.handlers)
        _log_degraded_features(settings)
        await stack.enter_async_context(application.store.listening())
        worker = application.worker.web_jobs() if role == "web" else application.worker.jobs()
        stopping, scheduler = asyncio.Event(), JobScheduler(worker, application.store.signals)
        failure_reason = await stack.enter_async_context(_running_jobs(application, scheduler, stopping))
        address = ""
        if port is not None:
            app = _app(application, role, stopping, failure_reason)
            address = await stack.enter_async_context(serving(app, _listen(host, port), grace=DRAIN_TIMEOUT))
        try:
            yield address
        finally:
            stopping.set()


async def _prepare_storage(settings: Settings) -> Settings:
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
    application: Application, scheduler: JobScheduler, stopping: asyncio.Event
) -> AsyncIterator[FailureReason]:
    """Ring the rounds from the moment that the database is ready until `stopping` is set, or the block ends.

    Yield what says why they are not rung, None while they are. What is in hand at the end ends beside the last
    requests, so that a slow client costs no time of its own.
    """
    start = asyncio.create_task(_start_when_ready(application, scheduler, stopping), name="start")
    start.add_done_callback(lambda _: _log_failed_start(start, stopping))
    work = asyncio.create_task(_run_until_stopped(application, scheduler, stopping, start), name="work")
    try:
        yield lambda: _start_failure(start, stopping) or scheduler.failure_reason()
    finally:
        stopping.set()
        ends_at = await work
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends_at):
                await (
                    application.receiver.flush()
                )  # what the last requests brought, though nobody may wait for it any more


async def _run_until_stopped(
    application: Application, scheduler: JobScheduler, stopping: asyncio.Event, start: asyncio.Task[None]
) -> float:
    """Work until `stopping` is set and what is in hand then has ended; return when the stop is to be over."""
    await stopping.wait()
    ends_at = asyncio.get_running_loop().time() + SHUTDOWN_TIMEOUT
    looked = asyncio.wait([start], timeout=DRAIN_TIMEOUT)  # one that is looking at the database is let end its look
    await asyncio.gather(looked, scheduler.stop(DRAIN_TIMEOUT), application.worker.drain(DRAIN_TIMEOUT))
    start.cancel()
    return ends_at


def _start_failure(start: asyncio.Task[None], stopping: asyncio.Event) -> str | None:
    """Return what to tell when the start has ended before the rounds began; None otherwise."""
    if stopping.is_set() or not start.done() or not (start.cancelled() or start.exception()):
        return None
    return "the start of the rounds has ended unforeseen; restart the process"


def _log_failed_start(start: asyncio.Task[None], stopping: asyncio.Event) -> None:
    if reason := _start_failure(start, stopping):
        log.error(reason, exc_info=None if start.cancelled() else start.exception())


async def _start_when_ready(application: Application, scheduler: JobScheduler, stopping: asyncio.Event) -> None:
    logged = None
    while (reason := await _not_ready_reason(application)) and not stopping.is_set():
        if reason != logged:
            log.warning("not ready", reason=reason)
        logged = reason
        with suppress(TimeoutError):
            async with asyncio.timeout(READY_CHECK_INTERVAL):
                await stopping.wait()
    if not stopping.is_set():
        await scheduler.start()


async def _not_ready_reason(application: Application) -> str | None:
    try:
        return await application.store.health.ready()
    except Exception as error:  # noqa: BLE001 - whatever it is, a later look may find it mended: nothing else would
        return f"the database cannot be looked at: {type(error).__name__}"


def _app(application: Application, role: Role, stopping: asyncio.Event, failure_reason: FailureReason) -> ASGIApp:
    services = _services(application, stopping, failure_reason)
    return create_probe_app(services) if role == "worker" else create_app(services)


def _services(application: Application, stopping: asyncio.Event, failure_reason: FailureReason) -> Services:
    return Services(
        health=application.store.health,
        clock=application.clock,
        api_keys=application.settings.api_keys,
        counters=application.counters,
        stopping=stopping.is_set,
        failure_reason=failure_reason,
        task_service=application.task_service,
        receiver=application.receiver,
        replayer=ReplayService(application.store.deliveries, application.clock),
        rounds=application.worker,
        queries=application.store.queries,
        inputs=application.store.inputs,
        deliveries=application.store.deliveries,
        signals=application.store.signals,
        allow_off_peak=application.settings.allow_off_peak,
    )


async def reconcile_once(settings: Settings) -> dict[str, int]:
    """Do one full round of submit, poll and dispatch for what is due; return how many of each.

    SIGTERM or SIGINT cuts it short, as it stops the service. A handler that will not end would hold the process: then
    what was done is logged, and the process ended by force.
    """
    configure_logging(settings.log_format, settings.log_level)
    settings = await _prepare_storage(settings)
    async with build_application(settings) as application:
        if reason := await application.store.health.ready():
            raise SchemaBehind(reason)
        await check_delivery_targets(settings, application.handlers)
        done = await _run_single_pass(application.worker, install_signal_handlers())
        if application.worker.dispatcher.in_hand:
            log.warning("round done", **done)
            force_exit(after=EXIT_GRACE)
        return done


async def _run_single_pass(worker: Worker, stop: asyncio.Event) -> dict[str, int]:
    """Return what a full round has done once it is through, or cut short by `stop`, and what it began has ended."""
    full_round, stopped = asyncio.create_task(worker.reconcile_once()), asyncio.create_task(stop.wait())
    await asyncio.wait([full_round, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    await worker.drain(DRAIN_TIMEOUT)
    return await full_round


async def migrate_database(settings: Settings) -> str:
    """Bring the database to the newest schema; return a sentence that says so."""
    await migrate(settings.database_url)
    return "The database has the newest schema."


def list_handlers(settings: Settings) -> list[dict[str, object]]:
    """Return a row for every handler that is found, loaded or not or broken."""
    return [asdict(row) for row in plugins.list_handlers(settings.handlers, settings.present)]
