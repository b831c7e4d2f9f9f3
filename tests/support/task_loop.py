"""The whole loop over a real SQLite file: a clock that is moved, and an upstream that does as it is told and bills."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.callbacks.receiver import CallbackReceiver
from service.deliveries.handler_api import Handler
from service.deliveries.handler_slots import HandlerSlots
from service.deliveries.task_results import TaskResults
from service.domain.callback import Verifier
from service.domain.errors import ReplyLost
from service.domain.event_routing import Subscription
from service.domain.notify import WhyNotDialled
from service.domain.poll_planner import PollPlanner
from service.domain.ports.provider import RateLimitedProvider
from service.domain.ports.queues import Limits
from service.domain.task import EventType, Json, Task, TaskId
from service.providers.callback_bodies import read_fact
from service.providers.rate_limited import RateLimitedClient
from service.runtime.ids import uuid7_factory
from service.storage import Store, open_store
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.new_task import NewTask
from service.tasks.poller import Poller, PollerConfig
from service.tasks.recorder import Recorder
from service.tasks.submitter import Submitter, SubmitterConfig
from service.tasks.task_service import TaskPolicy, TaskService
from tests.support.database_copies import database
from tests.support.no_egress_guard import any_address
from tests.support.scripted_provider import TOKENS, CountingLedger, Scripted, token_of
from tests.support.wait_until_idle import ended

START = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
LEASE = MINUTE
IN_DOUBT_FOR = 15 * MINUTE
DEADLINE = 2 * HOUR
PATIENCE = 10.0
"""Seconds after which a test that waits for something gives up."""

GOOD: Json = {"prompt": "a cat", "images": ["https://files.example/cat.png"]}
MODEL = "viduq2_pro_reference"
HANDLERS = ("log", "webhook")


@dataclass
class MovedClock:
    """A clock that only moves when it is told to."""

    at: datetime = START

    def now(self) -> datetime:
        """Return where the clock stands."""
        return self.at

    def move(self, by: timedelta) -> None:
        """Let time pass."""
        self.at += by


@dataclass(frozen=True, kw_only=True)
class Options:
    """The operator's settings, as far as these tests change them; `crew` are the handlers that run in this process."""

    confirm: bool = True
    resubmit_in_doubt: bool = False
    limits: Limits = field(default_factory=Limits)
    concurrency: int = 16
    handlers: tuple[str, ...] = HANDLERS
    refusal: WhyNotDialled = any_address
    crew: tuple[Handler, ...] = ()
    verifier: Verifier | None = None
    public_url: str | None = "https://boomerang.example"
    lease: timedelta = LEASE
    rate: float | None = None


class Loop:
    """The use-cases over one file. A second one over the same file is another process, or the same after a crash."""

    def __init__(self, store: Store, clock: MovedClock, upstream: Scripted, options: Options) -> None:
        self.store, self.clock, self.upstream, self.options = store, clock, upstream, options
        paced = RateLimitedClient(upstream, rate=options.rate, concurrency=16) if options.rate else upstream
        self.paced: RateLimitedProvider = paced
        self.tokens, self.new_id = TOKENS, uuid7_factory()
        self.units_of_work = CountingLedger(store)
        self.planner = PollPlanner(
            poll_first=None,
            poll_max=5 * MINUTE,
            in_doubt_for=IN_DOUBT_FOR,
            retention=timedelta(days=30),
            lists=upstream.lists,
            jitter=lambda: 0.0,
        )
        self.slots = HandlerSlots(options.crew, lease=options.lease, ring=lambda: store.signals.notify("dispatch"))
        self.immediate_polls = ImmediatePolls(lease=options.lease)
        self.recorder = Recorder(
            self.units_of_work,
            clock=clock,
            planner=self.planner,
            slots=self.slots,
            immediate_polls=self.immediate_polls,
            subscriptions=_subscriptions(options),
            new_id=self.new_id,
        )
        self.receive = CallbackReceiver(
            self.recorder,
            store.inbox,
            tokens=TOKENS,
            clock=clock,
            confirm=options.confirm,
            read_fact=read_fact,
            verifier_for=lambda _token: options.verifier,
        )
        self.results = TaskResults(queries=store.queries, upstream=upstream, recorder=self.recorder)
        self.task_service, self.submit, self.reconcile = self._task_service(), self._submit(), self._reconcile()

    def _task_service(self) -> TaskService:
        terms = TaskPolicy(
            provider="vtrix",
            task_deadline=DEADLINE,
            off_peak_deadline=49 * HOUR,
            handlers=frozenset(self.options.handlers),
            refusal=self.options.refusal,
        )
        return TaskService(
            intake=self.store.intake,
            blobs=self.store.blobs,
            queries=self.store.queries,
            recorder=self.recorder,
            upstream=self.upstream,
            clock=self.clock,
            terms=terms,
            inspect=None,
            new_id=self.new_id,
        )

    def _submit(self) -> Submitter:
        return Submitter(
            queue=self.store.tasks,
            blobs=self.store.blobs,
            recorder=self.recorder,
            upstream=self.paced,
            tokens=TOKENS,
            clock=self.clock,
            signals=self.store.signals,
            terms=SubmitterConfig(
                public_url=self.options.public_url,
                lease=self.options.lease,
                concurrency=self.options.concurrency,
                limits=self.options.limits,
            ),
            jitter=lambda: 0.0,
        )

    def _reconcile(self) -> Poller:
        return Poller(
            queue=self.store.tasks,
            run_time_stats=self.store.run_time_stats,
            retention=self.store.retention,
            recorder=self.recorder,
            upstream=self.paced,
            planner=self.planner,
            tokens=TOKENS,
            clock=self.clock,
            signals=self.store.signals,
            terms=PollerConfig(
                lease=self.options.lease,
                concurrency=self.options.concurrency,
                resubmit_in_doubt=self.options.resubmit_in_doubt,
                retention=timedelta(days=30),
            ),
            immediate_polls=self.immediate_polls,
        )

    async def drain(self) -> None:
        """Cut off what is in hand."""
        await self.submit.drain(0)
        await self.reconcile.drain(0)

    async def accept(self, **changes: Any) -> Task:
        """Take in a task."""
        task, _ = await self.task_service.accept(a_request(**changes))
        return task

    async def submit_due(self) -> int:
        """Submit what is due, to the end."""
        started = await self.submit.round()
        async with asyncio.timeout(PATIENCE):
            await ended(self.submit)
        return started

    async def poll_due(self) -> int:
        """Ask about what is due, to the end."""
        started = await self.reconcile.round()
        async with asyncio.timeout(PATIENCE):
            await ended(self.reconcile)
        return started

    async def submitted(self, **changes: Any) -> Task:
        """Take in a task and submit it."""
        task = await self.accept(**changes)
        await self.submit_due()
        return await self.task(task.id)

    async def in_doubt(self) -> Task:
        """Take in a task whose submission is carried out, and lose the reply."""
        self.upstream.creates.append(ReplyLost("time-out"))
        return await self.submitted()

    async def call_back(self, body: Json | bytes, *, order: int = -1) -> None:
        """Call back to the address that went up with that order."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.called_back(token_of(self.upstream.orders[order]), raw)

    async def called_back(self, token: str, raw: bytes) -> None:
        """Call back to the address that holds `token`."""
        await self.receive.receive(self.receive.verify_token(token), {"content-type": "application/json"}, raw)

    async def task(self, task_id: str) -> Task:
        """Return a task that must be there."""
        task = await self.store.queries.task(TaskId(task_id))
        assert task is not None
        return task

    async def happened(self, task_id: str, kind: str = "event") -> list[str]:
        """Return the types of a task's events, oldest first, or the outcomes of its polls."""
        rows = await self.store.queries.history(TaskId(task_id))
        return [row.get("type") or row.get("outcome") or "" for row in rows if row["kind"] == kind]

    async def callbacks(self) -> dict[str, int]:
        """Return how many callbacks there are of each verdict."""
        return dict((await self.store.health.gauges(self.clock.now())).callbacks)

    async def run_until(self, end: datetime, *, by: timedelta = MINUTE) -> None:
        """Do what a worker does until `end`, in steps of time."""
        while self.clock.now() < end:
            self.clock.move(min(by, end - self.clock.now()))
            await self.submit.sweep()
            await self.submit_due()
            await self.poll_due()


def _subscriptions(options: Options) -> list[Subscription]:
    every = frozenset(event.value for event in EventType)
    return [Subscription(name=name, events=every, by_request=name == "webhook") for name in options.handlers]


def a_request(**changes: Any) -> NewTask:
    """Return a request that is good."""
    given: dict[str, Any] = {"client": "ann", "model": MODEL, "params": GOOD}
    return NewTask(**(given | changes))


@dataclass
class World:
    """One database, one upstream and one clock, and the processes that work on them."""

    url: str
    clock: MovedClock
    upstream: Scripted
    options: Options
    opened: list[tuple[Store, Loop]] = field(default_factory=list)

    def process(self) -> Loop:
        """Return one more process on the same database."""
        store = open_store(self.url)
        loop = Loop(store, self.clock, self.upstream, self.options)
        self.opened.append((store, loop))
        return loop

    def kill(self, loop: Loop) -> Loop:
        """End a process without another word of it, and return the one that comes after it."""
        loop.units_of_work.dead = True
        return self.process()

    async def close(self) -> None:
        """End every process."""
        for store, loop in self.opened:
            await loop.drain()
            await store.close()


@asynccontextmanager
async def a_world(directory: Path, *, lists: bool = False, **options: Any) -> AsyncIterator[World]:
    """Yield a world with no process yet."""
    world = World(await database(directory), MovedClock(), Scripted(lists=lists), Options(**options))
    try:
        yield world
    finally:
        await world.close()


@asynccontextmanager
async def a_loop(directory: Path, **options: Any) -> AsyncIterator[Loop]:
    """Yield one process in a world of its own."""
    async with a_world(directory, **options) as world:
        yield world.process()
