"""Start the service and stop it in order."""

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import asdict
from importlib.metadata import version

import anyio
import structlog

from service.api.request_work import BACKGROUND
from service.deliveries import handler_loader
from service.domain.errors import BadSetting, SchemaBehind, StoreUnavailable
from service.domain.ports.handler_pauses import HandlerPause
from service.runtime.application import Application
from service.runtime.bootstrap import build_application
from service.runtime.config.required_settings import ensure_secret_keys
from service.runtime.config.setting_parsers import database_file, database_kind
from service.runtime.config.settings import Settings
from service.runtime.late_imports import import_late, late_modules
from service.runtime.log_config import configure_logging
from service.runtime.malloc import return_large_blocks_to_os
from service.runtime.noted_pass import note_pass
from service.runtime.open_files import max_connections, raise_open_files_limit
from service.runtime.scheduler import JobScheduler
from service.runtime.serverless import ServerlessWork, serverless_work
from service.runtime.shutdown import DRAIN_TIMEOUT, EXIT_GRACE, SHUTDOWN_TIMEOUT, force_exit, install_signal_handlers
from service.runtime.startup_checks import check_delivery_targets, log_warnings
from service.runtime.web import FailureReason, Role, build_app, open_port, web_limits
from service.runtime.worker import Worker
from service.storage import migrate, open_store
from service.storage.migrate import HEAD as NEWEST_SCHEMA

DISTRIBUTION = "boomerang-service"

log = structlog.get_logger("boomerang.runtime")

Scheduler = JobScheduler | ServerlessWork

READY_CHECK_INTERVAL = 2.0
"""Seconds between two checks of a database that is not ready."""

PAUSES_TIMEOUT = 3.0
"""Seconds that a list of handlers waits for the database."""

START_TIMEOUT = 5.0
"""Seconds that a serverless process waits for its database before it opens its port."""

GC_THRESHOLD = 30_000
"""Allocations between two garbage collections: a busy event loop holds some thousands of live new objects."""

SWITCH_INTERVAL = 0.001
"""Maximum seconds for which the event loop and the database thread wait for each other."""


async def serve(settings: Settings, *, host: str, port: int | None, role: Role) -> None:
    """Run the service until SIGTERM or SIGINT. With `port` None it opens no port. Raises BadSetting, BadHandler.

    The process is forced to exit if a handler blocks it or the shutdown takes too long.
    """
    configure_logging(settings.log_format, settings.log_level)
    stop = install_signal_handlers()
    log.info("starting", version=version(DISTRIBUTION), role=role, database=database_kind(settings.database_url))
    async with running(settings, host=host, port=port, role=role) as address:
        # objects loaded by now live until the end (a collection would delay the first requests), threads switch often
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        gc.enable()
        sys.setswitchinterval(SWITCH_INTERVAL)
        log.info("started", role=role, address=address, provider=settings.provider)
        await stop.wait()
        force_exit(after=SHUTDOWN_TIMEOUT + EXIT_GRACE)
        log.info("stopping", role=role, within_seconds=SHUTDOWN_TIMEOUT)
    log.info("stopped", role=role)


@asynccontextmanager
async def running(settings: Settings, *, host: str, port: int | None, role: Role = "all") -> AsyncIterator[str]:
    """Run the service inside the block and yield its address, which is empty without a port.

    At the end of the block nothing more starts. Requests and running work have DRAIN_TIMEOUT seconds to end,
    concurrently; the leases of unfinished work are released.
    """
    return_large_blocks_to_os()
    connections = max_connections(raise_open_files_limit())
    settings = await prepare_storage(settings)
    async with AsyncExitStack() as stack:
        application = await stack.enter_async_context(build_application(settings))
        log.info("handlers loaded", handlers=sorted(application.handlers))
        serverless = serverless_work(application, role)
        application.keys.role = "serverless" if serverless else role
        if role != "web" or serverless:
            await check_delivery_targets(settings, application.handlers)
        log_warnings(settings)
        stopping, listening = asyncio.Event(), asyncio.Event()
        scheduler = serverless or _scheduler(application, role)
        if not serverless:  # a connection that listens would be lost while the process does not run
            await stack.enter_async_context(application.store.listening())
        failure_reason = await stack.enter_async_context(
            _running_jobs(application, scheduler, stopping, listening=listening)
        )
        address = ""
        if port is not None:
            limits = web_limits(settings, connections)
            app = build_app(application, role, stopping, failure_reason, limits, work=serverless or BACKGROUND)
            address = await stack.enter_async_context(
                open_port(app, host, port, max_connections=connections, keep_alive=settings.keep_alive)
            )
            if not serverless:  # nothing runs between its requests
                stack.enter_context(_importing_late(settings, role, listening))
        listening.set()
        try:
            yield address
        finally:
            stopping.set()


@contextmanager
def _importing_late(settings: Settings, role: Role, listening: asyncio.Event) -> Iterator[None]:
    """Inside the block, import what requests need beside what the start has imported."""

    async def run() -> None:
        await listening.wait()
        await import_late(late_modules(role, dashboard=settings.dashboard == "on"))

    importing = asyncio.create_task(run(), name="late imports")
    try:
        yield
    finally:
        importing.cancel()


def _scheduler(application: Application, role: Role) -> JobScheduler:
    jobs = application.worker.web_jobs() if role == "web" else application.worker.jobs()
    return JobScheduler([*jobs, application.keys.job()], application.store.signals)


async def prepare_storage(settings: Settings) -> Settings:
    """Return the settings with their keys; migrate the database if it is an SQLite file.

    The migration comes first: no key file is created beside a file that is not a database of the service.
    """
    if database_file(settings.database_url):
        await migrate(settings.database_url)
    return ensure_secret_keys(settings)


@asynccontextmanager
async def _running_jobs(
    application: Application,
    scheduler: Scheduler,
    stopping: asyncio.Event,
    *,
    listening: asyncio.Event | None = None,
) -> AsyncIterator[FailureReason]:
    """Run the jobs from the moment that the database is ready until `stopping` is set or the block ends.

    One line of the log says when the jobs run and, if given, `listening` is set.

    Yield a function that returns why no jobs run, or None. Running work and the last requests end concurrently, so that
    a slow client does not lengthen the shutdown.
    """
    start = asyncio.create_task(_start_when_ready(application, scheduler, stopping), name="start")
    start.add_done_callback(lambda _: _log_failed_start(start, stopping))
    ready = asyncio.create_task(_log_ready(start, stopping, listening), name="ready")
    work = asyncio.create_task(_run_until_stopped(application, scheduler, stopping, start), name="work")
    if isinstance(scheduler, ServerlessWork):  # the platform may stop the process as soon as its port is open
        await asyncio.wait([start], timeout=START_TIMEOUT)
    try:
        yield lambda: _start_failure(start, stopping) or scheduler.failure_reason()
    finally:
        stopping.set()
        ready.cancel()
        ends_at = await work
        with suppress(TimeoutError):
            async with asyncio.timeout_at(ends_at):
                # record the updates of the last requests, even if their callers no longer wait
                await application.receiver.flush()
                await application.keys.remove()


async def _run_until_stopped(
    application: Application, scheduler: Scheduler, stopping: asyncio.Event, start: asyncio.Task[None]
) -> float:
    """Wait for `stopping`, then for running work to end; return the loop time at which the shutdown times out."""
    await stopping.wait()
    ends_at = asyncio.get_running_loop().time() + SHUTDOWN_TIMEOUT
    checked = asyncio.wait([start], timeout=DRAIN_TIMEOUT)  # a check of the database that is running may end
    await asyncio.gather(checked, scheduler.stop(DRAIN_TIMEOUT), application.worker.drain(DRAIN_TIMEOUT))
    start.cancel()
    return ends_at


def _start_failure(start: asyncio.Task[None], stopping: asyncio.Event) -> str | None:
    """Return why the jobs never start: their start task has failed. None otherwise."""
    if stopping.is_set() or not start.done() or not (start.cancelled() or start.exception()):
        return None
    return "the start of the jobs failed unexpectedly, restart the process"


async def _log_ready(start: asyncio.Task[None], stopping: asyncio.Event, listening: asyncio.Event | None) -> None:
    """Log when the process can do its work: the database has the newest schema, the jobs run, the port is open."""
    await asyncio.wait([start])
    if listening:
        await listening.wait()
    if not stopping.is_set() and not start.cancelled() and start.exception() is None:
        log.info("ready")


def _log_failed_start(start: asyncio.Task[None], stopping: asyncio.Event) -> None:
    if reason := _start_failure(start, stopping):
        log.error(reason, exc_info=None if start.cancelled() else start.exception())


async def _start_when_ready(application: Application, scheduler: Scheduler, stopping: asyncio.Event) -> None:
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
    """Return why the process cannot work yet; register it and its keys before it signs anything, and return None."""
    try:
        if reason := await application.store.health.ready():
            return reason
        await application.keys.renew()
    except Exception as error:  # noqa: BLE001 - a later check may succeed after any error
        return f"the database check failed: {type(error).__name__}"
    return None


async def reconcile_once(settings: Settings) -> dict[str, int]:
    """Submit, poll and dispatch what is due once; return how many of each.

    SIGTERM or SIGINT ends the pass early. If a handler does not end, the result is logged and the process is forced to
    exit.
    """
    configure_logging(settings.log_format, settings.log_level)
    settings = await prepare_storage(settings)
    async with build_application(settings) as application:
        if reason := await application.store.health.ready():
            raise SchemaBehind(reason)
        await check_delivery_targets(settings, application.handlers)
        application.keys.role = "pass"
        await application.keys.renew()
        done = await _run_single_pass(application.worker, install_signal_handlers())
        await note_pass(application.store.last_runs, application.clock)
        if application.worker.dispatcher.in_flight:
            log.warning("single pass done", **done)
            force_exit(after=EXIT_GRACE)
        await application.keys.remove()
        return done


async def _run_single_pass(worker: Worker, stop: asyncio.Event) -> dict[str, int]:
    """Return the result of a single pass when it or `stop` has ended it and the work that it started has ended."""
    single_pass, stopped = asyncio.create_task(worker.reconcile_once()), asyncio.create_task(stop.wait())
    await asyncio.wait([single_pass, stopped], return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    await worker.drain(DRAIN_TIMEOUT)
    return await single_pass


async def migrate_database(settings: Settings) -> str:
    """Bring the database to the newest schema, and return its version."""
    await migrate(settings.database_url)
    return NEWEST_SCHEMA


async def handler_pauses(settings: Settings) -> list[HandlerPause]:
    """Return which handlers are paused; nothing where the database does not exist, does not answer or is older."""
    file = database_file(settings.database_url)
    if file is not None and not await anyio.Path(file).exists():
        return []
    with suppress(StoreUnavailable, SchemaBehind, BadSetting, TimeoutError):
        async with asyncio.timeout(PAUSES_TIMEOUT), open_store(settings.database_url) as store:
            return list((await store.handler_pauses.paused()).values())
    return []


def list_handlers(settings: Settings) -> list[dict[str, object]]:
    """Return a row for each handler that is found, whether it is loaded, not loaded or broken."""
    return [asdict(row) for row in handler_loader.list_handlers(settings.handlers, settings.present)]
