"""Do due work only while a request is open, for platforms that stop the process at all other times.

Such a platform may stop the process in the middle of anything: of a transaction, which then holds its locks, or of a
request to the provider, whose reply is then lost. So no job runs in the background. Each request that makes something
due, or asks for it, does it itself, together with everything else that is due. It is answered once that was tried, or
its time is up. The last open request also waits for the rest of the running work, ends what takes longer, and releases
its leases: what is left is due, and the next request takes it at once.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta

import structlog

from service.domain.errors import StoreUnavailable
from service.domain.ports.signals import Clock
from service.domain.ports.tasks import TaskQueries
from service.domain.task import Task, TaskId
from service.runtime.application import Application
from service.runtime.scheduler import PeriodicJob
from service.runtime.serverless_request import (
    CHECK_INTERVAL,
    CLOSE_SECONDS,
    COUNTED_AFTER,
    CUT_SHORT,
    LAST_STARTS,
    WORK_SECONDS,
    OpenRequest,
    is_task_due,
)
from service.runtime.serverless_upkeep import Upkeep
from service.runtime.single_pass import MAX_PAUSE, RATE_CHECK_INTERVAL
from service.runtime.worker import Worker

log = structlog.get_logger("boomerang.runtime")


class ServerlessWork:
    """Does what is due while requests are open. It takes the place of the scheduler of the jobs.

    `keys` and `upkeep` are jobs that run during requests too (see `Upkeep`). `queries` reads a task again after it was
    driven.
    """

    max_wait = WORK_SECONDS - LAST_STARTS / 2

    def __init__(
        self, worker: Worker, *, keys: PeriodicJob, upkeep: Sequence[PeriodicJob], queries: TaskQueries, clock: Clock
    ) -> None:
        self._worker = worker
        self._upkeep = Upkeep(keys, upkeep, clock=clock, swept=lambda number: self._count("swept", number))
        self._queries = queries
        self._clock = clock
        self._requests: list[OpenRequest] = []
        self._changed = asyncio.Event()
        self._loop_task: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self._stopping = False

    # ── in place of the scheduler ────────────────────────────────────────────

    async def start(self) -> None:
        """Note that the keys were registered just now."""
        self._upkeep.note_keys_renewed()

    async def stop(self, seconds: float) -> None:
        """Start nothing more, and wait up to `seconds` for the last search for due work."""
        self._stopping = True
        self._changed.set()
        running = self._upkeep.running() | ({self._loop_task} if self._loop_task else set())
        if running:
            await asyncio.wait(running, timeout=seconds)

    def failure_reason(self) -> str | None:
        """Return why no work is done, or None."""
        return "the process is stopping" if self._stopping else None

    # ── requests ─────────────────────────────────────────────────────────────

    async def prepare(self) -> None:
        """Register the keys again if that is long ago, so that callbacks are verified with the keys that are valid now.

        Raises StoreUnavailable.
        """
        await self._upkeep.renew_keys()

    async def reconcile_once(self, *, start_within: timedelta | None = None) -> dict[str, int]:  # noqa: ARG002 - fixed
        """Do everything that is due now and what becomes due by that; return how many of each kind were started."""
        async with self._open(None, seconds=0.0, held=False) as request:
            pass
        counts = {name: request.counts[name] for name in ("swept", "submitted", "polled", "dispatched")}
        if (pause := self._worker.provider.pause) > MAX_PAUSE:
            counts["upstream_pause_seconds"] = round(pause.total_seconds())
        return counts

    async def drive(self, task_id: TaskId) -> None:
        """Return once everything about this task that is due was tried, or the time is up."""
        async with self._open(task_id, seconds=0.0, held=False):
            pass

    async def drive_all(self) -> None:
        """Return once everything that is due was tried, or the time is up."""
        async with self._open(None, seconds=0.0, held=False):
            pass

    async def tried(self, task: Task, *, if_due: bool = False) -> Task:
        """Drive this task and return it as it is then; with `if_due` return it at once unless something is due."""
        if if_due and not is_task_due(task, self._clock.now()):
            return task
        await self.drive(task.id)
        try:
            return await self._queries.task(task.id) or task
        except StoreUnavailable:  # what was asked for is done, and an error would have it asked for again
            return task

    @asynccontextmanager
    async def driving(self, task_id: TaskId, seconds: float) -> AsyncIterator[None]:
        """Do what is due inside the block, for `seconds` at least; leaving it is like `drive`."""
        async with self._open(task_id, seconds=seconds, held=True):
            yield

    @asynccontextmanager
    async def _open(self, task_id: TaskId | None, *, seconds: float, held: bool) -> AsyncIterator[OpenRequest]:
        ends_at = asyncio.get_running_loop().time() + max(WORK_SECONDS, seconds)
        request = OpenRequest(task_id=task_id, starts_until=ends_at - LAST_STARTS, ends_at=ends_at, held=held)
        self._requests.append(request)
        self._changed.set()
        if self._loop_task is None:
            self._loop_task = asyncio.create_task(self._run(), name="serverless work")
        try:
            yield request
            request.held = False
            self._changed.set()
            with suppress(TimeoutError):
                async with asyncio.timeout_at(ends_at):
                    await request.answerable.wait()
        finally:
            self._requests.remove(request)
            self._changed.set()
        if not self._requests:
            await self._close()

    async def _close(self) -> None:
        """End the work that no open request waits for any more, within CLOSE_SECONDS."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._end_work(self._loop_task), name="end of serverless work")
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await asyncio.shield(self._closing)

    async def _end_work(self, search: asyncio.Task[None] | None) -> None:
        """Release what is running, after the last `search` for due work. Submissions are left: their replies count."""
        try:
            if search:
                await asyncio.wait([search])
            if self._requests or self._stopping:  # a request that came meanwhile waits for it, or the shutdown does
                return
            if self._worker.dispatcher.running() or self._worker.poller.running():
                log.info("request answered before its work ended", **self._running_counts())
            await asyncio.gather(
                self._worker.poller.release_running(),
                self._worker.dispatcher.end_running(CUT_SHORT, counted_after=COUNTED_AFTER),
                self._worker.handler_jobs.release_running(),
            )
        finally:
            self._closing = None

    def _running_counts(self) -> dict[str, int]:
        worker = self._worker
        return {
            "submissions": len(worker.submitter.running()),
            "polls": len(worker.poller.running()),
            "deliveries": len(worker.dispatcher.running()),
        }

    def _running(self) -> set[asyncio.Task[None]]:
        worker = self._worker
        parts = (worker.submitter, worker.poller, worker.dispatcher, worker.handler_jobs, self._upkeep)
        return set[asyncio.Task[None]]().union(*(part.running() for part in parts))

    # ── work ─────────────────────────────────────────────────────────────────

    def _waiting(self) -> list[OpenRequest]:
        return [request for request in self._requests if not request.answerable.is_set()]

    async def _run(self) -> None:
        """Search for due work and start it until every open request can be answered."""
        try:
            if self._closing:
                await asyncio.wait([self._closing])
            await self._renew_keys()
            while waiting := self._waiting():
                self._changed.clear()
                try:
                    await self._search(waiting)
                except StoreUnavailable as error:
                    log.warning("work delayed, database unavailable", error=str(error))
                    await self._wait_for_change(CHECK_INTERVAL)
                except Exception as error:
                    log.exception("work failed", error=type(error).__name__)
                    await self._wait_for_change(CHECK_INTERVAL)
        finally:
            self._loop_task = None

    async def _renew_keys(self) -> None:
        """Register the keys before anything is submitted: it is signed with a key that all processes know."""
        try:
            await self._upkeep.renew_keys()
        except Exception as error:  # noqa: BLE001 - the next request tries again
            log.warning("keys not registered", error=type(error).__name__)

    async def _search(self, waiting: Collection[OpenRequest]) -> None:
        """Start what is due. If nothing is, let requests be answered, and wait for a change."""
        if not self._stopping:
            self._upkeep.start_due()  # also during a request: who waits longer than an interval watches a task
        before = self._running()
        started = await self._start_due(waiting)
        now = self._running()
        if before - now or len(now - before) < started:  # what has ended meanwhile may have made more due
            return
        full, throttled = self._lacks_capacity(waiting)
        if not (started or full or throttled):
            self._answer(waiting)
        if self._waiting():
            await self._wait_for_change(RATE_CHECK_INTERVAL if throttled else CHECK_INTERVAL)

    def _may_start(self, waiting: Collection[OpenRequest]) -> bool:
        now = asyncio.get_running_loop().time()
        return not self._stopping and any(now < request.starts_until for request in waiting)

    async def _start_due(self, waiting: Collection[OpenRequest]) -> int:
        """Start what is due; return how many of all kinds."""
        worker, total = self._worker, 0
        while self._may_start(waiting) and await worker.inbox_worker.run_once():
            total += 1
        if self._may_start(waiting) and not worker.provider.pause:
            total += self._count("submitted", len(await worker.submitter.start_due()))
            total += self._count("polled", len(await worker.poller.start_due()))
        if self._may_start(waiting):
            await worker.controls.refresh_old()
            total += self._count("dispatched", len(await worker.dispatcher.start_due()))
        if self._may_start(waiting):
            total += self._count("handler_jobs", len(await worker.handler_jobs.start_due()))
        if self._may_start(waiting) and any(request.held for request in waiting):  # somebody waits, and so watches
            total += self._count("polled", len(await worker.progress.start_due()))
        return total

    def _count(self, name: str, number: int) -> int:
        for request in self._requests:
            request.counts[name] += number
        return number

    def _lacks_capacity(self, waiting: Collection[OpenRequest]) -> tuple[bool, bool]:
        """Return whether due work may wait for a slot of its handler, and whether for the limits of the provider."""
        if not self._may_start(waiting):
            return False, False
        provider = self._worker.provider
        return self._worker.dispatcher.slots.full, provider.ready() < 1 and provider.pause <= MAX_PAUSE

    def _answer(self, waiting: Collection[OpenRequest]) -> None:
        """Let requests be answered whose work was tried; the last one when nothing is running any more."""
        idle = not self._running()
        left = len(waiting)
        for request in waiting:
            others = left > 1 and request.task_id is not None and not self._works_on(request.task_id)
            if not request.held and (idle or others):
                request.answerable.set()
                left -= 1

    def _works_on(self, task_id: TaskId) -> bool:
        parts = (self._worker.submitter, self._worker.poller, self._worker.dispatcher)
        return any(task_id in part.task_ids() for part in parts)

    async def _wait_for_change(self, seconds: float) -> None:
        """Wait until something that is running has ended, a request has come or gone, or `seconds` are over."""
        changed = asyncio.ensure_future(self._changed.wait())
        try:
            await asyncio.wait({changed, *self._running()}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()


def serverless_work(application: Application, role: str) -> ServerlessWork | None:
    """Return what works while requests are open, where the settings ask for it; None for a worker, which has none."""
    if application.settings.serverless == "off" or role == "worker":
        return None
    if application.settings.public_url is None:
        log.warning(
            "no callbacks, tasks are polled only during requests", hint="let a cron job call POST /v1/reconcile"
        )
    return ServerlessWork(
        application.worker,
        keys=application.keys.job(),
        upkeep=application.worker.upkeep_jobs(),
        queries=application.store.queries,
        clock=application.clock,
    )
