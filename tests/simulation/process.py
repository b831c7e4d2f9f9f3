"""One process of the service, built from the real parts, crashed at a chosen point and restarted."""

import asyncio
import contextvars
from collections import Counter
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from service.deliveries.egress_clients import EgressClients
from service.providers import open_provider
from service.runtime.application import Application
from service.runtime.bootstrap import ApplicationBuilder
from service.runtime.process import _running_jobs
from service.runtime.scheduler import JobScheduler
from service.runtime.shutdown import DRAIN_TIMEOUT
from service.runtime.system import uuid7_factory
from service.runtime.web import build_app
from service.storage import open_store
from tests.simulation.callback_bursts import RandomBursts
from tests.simulation.code_positions import watched
from tests.simulation.crash_points import Crash, CrashPoints
from tests.simulation.loop import OWNER
from tests.simulation.machine_faults import SharedState
from tests.simulation.network import SimTransport
from tests.simulation.scenario import Scenario
from tests.simulation.scheduler import SimScheduler
from tests.simulation.sqlite import SimConnection

HOST = "127.0.0.1"
CLEANUP_ITERATIONS = 20
CLEAR_AT = 64
"""Number of tasks after which ended ones are removed."""


class Process:
    """A process of the service: `start`, then `crash` or `stop`, then `start` again."""

    def __init__(self, number: int, shared: SharedState, scenario: Scenario) -> None:
        self.number = number
        self.name = f"p{number}"
        self._shared = shared
        self._loop = shared.loop
        own = [crash for crash in scenario.crashes if crash.process == number]
        self._crash_points = CrashPoints(own, self._inject_crash, shared.history.positions)
        self._stalls = [stall for stall in scenario.stalls if stall.process == number]
        self.incarnation = 0
        self.keys: tuple[str, ...] = shared.settings.secret_keys
        self.ahead = scenario.ahead[number]
        for jump in scenario.jumps:
            if jump.process == number:
                self._loop.call_at(jump.at, self._jump, jump.seconds)
        self.context = contextvars.copy_context()
        self.connections: list[SimConnection] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self._clear_at = CLEAR_AT
        self.requests = 0
        self.dead = True
        self.app: ASGIApp | None = None
        self.parts: Application | None = None
        self.down_until = 0.0
        self._began_down = 0.0
        self.started_at = 0.0

    @property
    def running(self) -> bool:
        """Return whether it is started or starting."""
        return not self.dead

    def now(self) -> datetime:
        """Return the time of the process's clock."""
        return self._loop.now() + timedelta(seconds=self.ahead)

    def _jump(self, seconds: float) -> None:
        self.ahead += seconds
        self._note(f"has its clock moved {'forward' if seconds > 0 else 'back'} by {abs(seconds):.0f} s")
        if not self.dead and hasattr(self, "_scheduler"):
            self._scheduler.clock_jumped()

    # ── start, crash, stop ───────────────────────────────────────────────────

    def start(self) -> None:
        """Start without any state but that of the database."""
        self.incarnation += 1
        self.dead = False
        self.started_at = self._loop.time()
        self._crash_points.begin()
        self._draws: Counter[str] = Counter()
        self.connections, self.tasks, self.requests = [], {}, 0
        self._stop = asyncio.Event()
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        self._note("starts")
        self._shared.history.note_disturbance("down", self._began_down, self._loop.time() + 0.1)
        self.main = self._loop.create_task(self._run(), context=self.context)

    async def _run(self) -> None:
        async with AsyncExitStack() as stack:
            parts = await stack.enter_async_context(self._open_application())
            jobs = parts.worker.jobs() if self._shared.runs_jobs else parts.worker.web_jobs()
            jobs.append(parts.keys.job())
            job_scheduler = JobScheduler(jobs, parts.store.signals)
            self._scheduler = SimScheduler(
                self._loop,
                self._shared.due_times,
                lambda: self.ahead,
                faithful=self._shared.faithful,
                renewed_until=self._shared.renewed_until,
            )
            job_scheduler._scheduler = self._scheduler  # type: ignore[assignment] # replaces the real scheduler
            failure_reason = await stack.enter_async_context(_running_jobs(parts, job_scheduler, self._stop))
            self.app = self._counted(build_app(parts, "all", self._stop, failure_reason))
            self._shared.network.serve(HOST, self)
            self._shared.network.serve("service.test", self)
            await self._stop.wait()
            await self._withdraw()

    def _counted(self, app: ASGIApp) -> ASGIApp:
        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            self.requests += 1
            try:
                await app(scope, receive, send)
            finally:
                self.requests -= 1

        return counted

    async def _withdraw(self) -> None:
        """Accept no more requests and wait for the running ones, as the web server does."""
        for host in (HOST, "service.test"):
            self._shared.network.withdraw(host, self)
        until = self._loop.time() + DRAIN_TIMEOUT
        while self.requests and self._loop.time() < until:  # noqa: ASYNC110 - virtual time passes at once
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def _open_application(self) -> AsyncIterator[Application]:
        shared = self._shared
        settings = shared.settings.model_copy(update={"secret_keys": self.keys})
        transport = SimTransport(shared.network, self)
        async with (
            open_store(settings.database_url) as store,
            httpx.AsyncClient(transport=transport, trust_env=False, timeout=15) as outside,
        ):
            builder = ApplicationBuilder(
                settings=settings,
                clock=self,
                store=store,
                upstream=open_provider(
                    settings.provider,
                    transport=transport,
                    base_url=settings.upstream_url,
                    key=settings.upstream_key or "",
                    rate=settings.upstream_rate,
                    concurrency=settings.upstream_concurrency,
                ),
                handlers=shared.handlers(),
                jitter=self._jitter,
                new_id=uuid7_factory(lambda: int(self.now().timestamp() * 1000), self._bits),
            )
            self.parts = builder.build(EgressClients(notify=outside, handlers=outside))
            if shared.burst_share:
                self.parts.receiver._burst_detector = RandomBursts(shared.burst_share, self.draw)
            yield self.parts

    def _jitter(self) -> float:
        return self.draw("jitter")

    def _bits(self, count: int) -> int:
        return int(self.draw("bits") * 2**count)

    def draw(self, what: str) -> float:
        """Draw a number from 0 to 1."""
        self._draws[what] += 1
        return self._shared.seeded_faults.draw(what, f"{self.name}/{self.incarnation}/{self._draws[what]}")

    def crash(self) -> None:
        """Crash now: connections and requests end, and running tasks have no further effect."""
        if self.dead:
            return
        self.dead = True
        self._began_down = self._loop.time()
        self._note("crashes")
        for sim_connection in self.connections:
            sim_connection.stop()
        self._end()
        for task in list(self.tasks):
            task.cancel()
        self._shared.on_crash()

    async def stop(self) -> None:
        """Stop as on SIGTERM: finish running work and release the leases of the rest."""
        self._note("stops")
        self._began_down = self._loop.time()
        self._stop.set()
        await asyncio.wait([self.main])
        if not self.main.cancelled() and (error := self.main.exception()):
            self._shared.history.add_violation(f"{self.name} did not stop cleanly: {error!r}")
        self.dead = True
        self._end()
        self._shared.on_crash()

    async def restart(self, *, crash: bool = False) -> None:
        """Stop as a deployment does, or crash, and start again a second later; a dead process starts when it is due."""
        if self.dead:
            return
        self.down_until = self._loop.time() + 3600  # it is not started meanwhile
        if crash:
            self.crash()
        else:
            await self.stop()
        self.down_until = self._loop.time() + 1
        self._shared.on_crash()

    def _end(self) -> None:
        self.app = self.parts = None
        for host in (HOST, "service.test"):
            self._shared.network.withdraw(host, self)
        if hasattr(self, "_scheduler"):
            self._scheduler.shutdown(wait=False)

    async def wait_closed(self) -> None:
        """Return once every task of the dead process has ended; none of them has any effect."""
        for _ in range(CLEANUP_ITERATIONS):  # let the cleanup of canceled tasks end
            await asyncio.sleep(0)
        while tasks := [task for task in self.tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        self.context.run(self.tasks.clear)  # exceptions of a dead process are never retrieved
        for sim_connection in self.connections:
            sim_connection.release()

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Add a task of the process."""
        self.tasks[task] = None
        if len(self.tasks) > self._clear_at:
            self.tasks = {task: None for task in self.tasks if not task.done()}
            self._clear_at = 2 * len(self.tasks) + CLEAR_AT

    def watched(self, work: Coroutine[Any, Any, Any]) -> Coroutine[Any, Any, Any]:
        """Return `work` as its task runs it: observed at each pause if a crash may happen there."""
        return watched(work, self._paused) if self._crash_points.awaits("await") else work

    def _paused(self, work: Any) -> None:
        if not self.dead:
            self._crash_points.passed("await", work)

    # ── points where it may crash ────────────────────────────────────────────

    def point(self, name: str) -> None:
        """Pass a point where it may crash."""
        if self.dead:
            return
        self._crash_points.passed(name)

    def awaits(self, name: str) -> bool:
        """Return whether a crash at this kind of point is still to come."""
        return self._crash_points.awaits(name)

    def _inject_crash(self, crash: Crash, position: str) -> None:
        self.down_until = self._loop.time() + crash.down
        self._shared.history.crashed_at.append((crash.point, position))
        self._note(f"crash injected at {crash.point} {crash.count} {position.partition(' ')[0]}")
        self.crash()

    @property
    def disk_is_full(self) -> bool:
        """Return whether its database rejects writes now."""
        return self._shared.disk_is_full

    @property
    def fast(self) -> bool:
        """Return whether the run uses the quick engine and skips queries without results."""
        return not self._shared.faithful

    def may_find(self, query: str, values: dict[str, Any]) -> bool:
        """Return whether a query may find a row."""
        return self._shared.due_times.any(query, values)

    async def statement(self, sql: str) -> None:
        """Pause before a statement of the store."""
        if sql.startswith("BEGIN"):
            await self._stalled()
        await asyncio.sleep(0)
        self.point("statement")

    async def _stalled(self) -> None:
        for stall in self._stalls:
            if stall.at <= self._loop.time() < stall.at + stall.seconds:
                self._note(f"is stalled for {stall.seconds:.0f} s")
                self._shared.history.note_disturbance("stall", stall.at, stall.at + stall.seconds, self.name)
                await asyncio.sleep(stall.at + stall.seconds - self._loop.time())
                if not self.dead and hasattr(self, "_scheduler"):
                    self._scheduler.stall_ended()

    async def committing(self) -> None:
        """Pause before a commit."""
        await asyncio.sleep(self._shared.commit_delay * self.draw("commit"))
        self.point("before commit")

    def committed(self, *, rows: int) -> None:
        """Handle a durable commit."""
        self._shared.on_commit(rows)
        self.point("after commit")

    def reschedule(self, *, moved: bool) -> None:
        """Reschedule the jobs after a commit; `moved` says whether it changed anything."""
        if not self.dead and hasattr(self, "_scheduler"):
            self._scheduler.reschedule(moved=moved)

    def _note(self, what: str) -> None:
        self._shared.history.note(self._loop.time(), "process", f"{self.name} {what}")
