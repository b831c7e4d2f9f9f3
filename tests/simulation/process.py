"""One process of the service: put together from the real parts, crashed at a chosen point, started again."""

import asyncio
import contextvars
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
from starlette.types import ASGIApp, Receive, Scope, Send

from service.handling import Handler
from service.ids import id_maker
from service.main import _app, _working
from service.settings import Settings
from service.store import open_store
from service.ticker import Ticker
from service.upstream import open_upstream
from service.wiring import Builder, Parts
from tests.simulation.dice import Dice
from tests.simulation.history import History
from tests.simulation.loop import OWNER, SimLoop
from tests.simulation.network import Line, Network
from tests.simulation.scheduler import Interests, SimScheduler
from tests.simulation.sqlite import Wire

HOST = "127.0.0.1"
GRACE = 8.0
LAST_LAPS = 20


@dataclass(frozen=True, kw_only=True)
class Crash:
    """Where a process dies: at the `count`-th pass of `point` in its life, and for how many seconds it is gone."""

    process: int
    point: str
    count: int
    down: float


@dataclass(frozen=True, kw_only=True)
class Stall:
    """A time in which a process comes to no statement: its machine sleeps, or its disk does."""

    process: int
    at: float
    seconds: float


@dataclass(kw_only=True)
class Surroundings:
    """What processes share: the virtual time, the network, the chance, and the history."""

    loop: SimLoop
    network: Network
    dice: Dice
    history: History
    interests: Interests
    settings: Settings
    handlers: Callable[[], dict[str, Handler]]
    commit_delay: float
    faithful: bool
    on_commit: Callable[[], None] = lambda: None


class Process:
    """A process of the service: `start`, then `crash` or `stop`, then `start` again."""

    def __init__(
        self,
        number: int,
        around: Surroundings,
        crashes: tuple[Crash, ...],
        stalls: tuple[Stall, ...],
    ) -> None:
        self.number = number
        self.name = f"p{number}"
        self._around = around
        self._loop = around.loop
        self._crashes = [crash for crash in crashes if crash.process == number]
        self._stalls = [stall for stall in stalls if stall.process == number]
        self._life = 0
        self.context = contextvars.copy_context()
        self.wires: list[Wire] = []
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.requests = 0
        self.dead = True
        self.app: ASGIApp | None = None
        self.parts: Parts | None = None
        self.down_until = 0.0
        self._began_down = 0.0

    @property
    def running(self) -> bool:
        """Whether it lives and serves, or will as soon as it has started."""
        return not self.dead

    def now(self) -> datetime:
        """Return the process's own time."""
        return self._loop.now()

    # ── its life ─────────────────────────────────────────────────────────────

    def start(self) -> None:
        """Begin a life: everything it knows is what the database says."""
        self._life += 1
        self.dead = False
        self.points: Counter[str] = Counter()
        self.wires, self.tasks, self.requests = [], {}, 0
        self._stop = asyncio.Event()
        self.context = contextvars.copy_context()
        self.context.run(OWNER.set, self)
        self._note("starts")
        self._around.history.amiss("down", self._began_down, self._loop.time() + 0.1)
        self.main = self._loop.create_task(self._live(), context=self.context)

    async def _live(self) -> None:
        async with AsyncExitStack() as stack:
            parts = await stack.enter_async_context(self._put_together())
            ticker = Ticker(parts.rounds.all(), parts.store.signals)
            self._scheduler = SimScheduler(self._loop, self._around.interests, faithful=self._around.faithful)
            ticker._scheduler = self._scheduler  # type: ignore[assignment] # it stands in for it
            await stack.enter_async_context(_working(parts, ticker))
            self.app = self._counted(_app(parts, "all", self._stop))
            self._around.network.serve(HOST, self)
            self._around.network.serve("service.test", self)
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
        """Take no more requests, and let those in hand end, as the web server does."""
        for host in (HOST, "service.test"):
            self._around.network.withdraw(host, self)
        until = self._loop.time() + GRACE
        while self.requests and self._loop.time() < until:  # noqa: ASYNC110 - virtual time passes at once
            await asyncio.sleep(0.05)

    @asynccontextmanager
    async def _put_together(self) -> AsyncIterator[Parts]:
        around, settings = self._around, self._around.settings
        line = Line(around.network, self)
        async with (
            open_store(settings.database_url) as store,
            httpx.AsyncClient(transport=line, trust_env=False) as inside,
            httpx.AsyncClient(transport=line, trust_env=False, timeout=15) as outside,
        ):
            builder = Builder(
                settings=settings,
                clock=self,
                store=store,
                upstream=open_upstream(
                    settings.provider,
                    client=inside,
                    base_url=settings.upstream_url,
                    key=settings.upstream_key or "",
                    rate=settings.upstream_rate,
                    concurrency=settings.upstream_concurrency,
                ),
                handlers=around.handlers(),
                jitter=self._jitter,
                new_id=id_maker(lambda: int(self.now().timestamp() * 1000), self._bits),
            )
            self.parts = builder.parts(outside)
            yield self.parts

    def _jitter(self) -> float:
        self.points["jitter"] += 1
        return self._around.dice.draw("jitter", f"{self.name}/{self._life}/{self.points['jitter']}")

    def _bits(self, count: int) -> int:
        self.points["bits"] += 1
        drawn = self._around.dice.draw("bits", f"{self.name}/{self._life}/{self.points['bits']}")
        return int(drawn * 2**count)

    def crash(self) -> None:
        """Die now: connections and requests end, and nothing that was begun comes to anything."""
        if self.dead:
            return
        self.dead = True
        self._began_down = self._loop.time()
        self._note("crashes")
        for wire in self.wires:
            wire.raw.close()
        self._end()
        for task in list(self.tasks):
            task.cancel()

    async def stop(self) -> None:
        """End as SIGTERM does: finish what is in hand, and give back the rest."""
        self._note("stops")
        self._began_down = self._loop.time()
        self._stop.set()
        await asyncio.wait([self.main])
        if not self.main.cancelled() and (error := self.main.exception()):
            self._around.history.complain(f"{self.name} did not stop cleanly: {error!r}")
        self.dead = True
        self._end()

    def _end(self) -> None:
        self.app = self.parts = None
        for host in (HOST, "service.test"):
            self._around.network.withdraw(host, self)
        if hasattr(self, "_scheduler"):
            self._scheduler.shutdown(wait=False)

    async def buried(self) -> None:
        """Return once every task of the dead process has ended; none of them can do anything any more."""
        for _ in range(LAST_LAPS):  # what cleans up after a cancelled task is let end
            await asyncio.sleep(0)
        while tasks := [task for task in self.tasks if not task.done()]:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for wire in self.wires:
            wire.raw.close()

    def adopt(self, task: "asyncio.Task[Any]") -> None:
        """Take a task as its own."""
        self.tasks[task] = None
        task.add_done_callback(lambda done: self.tasks.pop(done, None))

    # ── where it may die ─────────────────────────────────────────────────────

    def point(self, name: str) -> None:
        """Pass a point at which it may be meant to die."""
        if self.dead:
            return
        self.points[name] += 1
        for crash in self._crashes:
            if crash.point == name and crash.count == self.points[name]:
                self._crashes.remove(crash)
                self.down_until = self._loop.time() + crash.down
                self._note(f"is to die at {name} {crash.count}")
                self.crash()
                return

    @property
    def glances(self) -> bool:
        """Whether a question that finds nothing may be spared."""
        return not self._around.faithful

    def glance(self, query: str, now: datetime | None) -> bool:
        """Return whether a question may find something."""
        return self._around.interests.any(query, now)

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
                self._around.history.amiss("stall", stall.at, stall.at + stall.seconds, self.name)
                await asyncio.sleep(stall.at + stall.seconds - self._loop.time())

    async def committing(self) -> None:
        """Pause before a commit."""
        self.points["commit"] += 1
        delay = self._around.dice.draw("commit", f"{self.name}/{self._life}/{self.points['commit']}")
        await asyncio.sleep(self._around.commit_delay * delay)
        self.point("before commit")

    def committed(self) -> None:
        """Hear that a commit is durable."""
        self._around.on_commit()
        self.point("after commit")

    def replan(self) -> None:
        """Let the rounds hear of a commit."""
        if not self.dead and hasattr(self, "_scheduler"):
            self._scheduler.replan()

    def _note(self, what: str) -> None:
        self._around.history.note(self._loop.time(), "process", f"{self.name} {what}")
