"""The use cases over a real SQLite file, with a manual clock and a scripted provider."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from service.artifacts.contents import Contents
from service.callbacks.inbox_worker import InboxWorker
from service.callbacks.receiver import CallbackReceiver
from service.callbacks.refusals import Refusals
from service.deliveries.handler_slots import HandlerSlots
from service.deliveries.task_results import TaskResults
from service.domain.errors import ReplyLost
from service.domain.event_routing import Subscription
from service.domain.poll_planner import PollPlanner
from service.domain.ports.provider import RateLimitedProvider
from service.domain.task import EventType, Json, Task, TaskId
from service.domain.tokens import Tokens
from service.providers.callback_bodies import read_fact
from service.providers.rate_limited import RateLimitedClient
from service.runtime.system import uuid7_factory
from service.storage import Store, open_store
from service.tasks.credit_watch import CreditWatch
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.new_task import NewTask
from service.tasks.poller import Poller, PollerConfig
from service.tasks.recorder import Recorder
from service.tasks.submitter import Submitter, SubmitterConfig
from service.tasks.task_service import TaskPolicy, TaskService
from tests.support.database_copies import database
from tests.support.history import history_of
from tests.support.loop_options import Options
from tests.support.scripted_provider import CountingUnitOfWorkFactory, ScriptedProvider, token_of
from tests.support.wait_until_idle import ended

START = datetime(2026, 5, 6, 12, 0, tzinfo=UTC)
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
LEASE = MINUTE
IN_DOUBT_FOR = 15 * MINUTE
DEADLINE = 2 * HOUR
TIMEOUT = 30.0
"""Seconds after which a waiting test fails."""

GOOD: Json = {"prompt": "a cat", "images": ["https://files.example/cat.png"]}
MODEL = "viduq2_pro_reference"


@dataclass
class MovedClock:
    """A clock that tests move."""

    at: datetime = START

    def now(self) -> datetime:
        """Return the clock's time."""
        return self.at

    def move(self, by: timedelta) -> None:
        """Advance the clock."""
        self.at += by


class Loop:
    """The use cases over one file; a second one is another process, or the next one after a crash."""

    def __init__(self, store: Store, clock: MovedClock, upstream: ScriptedProvider, options: Options) -> None:
        self.store, self.clock, self.upstream, self.options = store, clock, upstream, options
        limited = RateLimitedClient(upstream, rate=options.rate, concurrency=16) if options.rate else upstream
        self.rate_limited: RateLimitedProvider = limited
        self.tokens, self.new_id = options.tokens, uuid7_factory()
        self.units_of_work = CountingUnitOfWorkFactory(store)
        self.planner = PollPlanner(
            poll_first=None,
            poll_max=5 * MINUTE,
            in_doubt_for=IN_DOUBT_FOR,
            retention=timedelta(days=30),
            lists=upstream.lists,
            jitter=lambda: 0.0,
        )
        self.slots = HandlerSlots(
            options.local_handlers, lease=options.lease, notify=lambda: store.signals.notify("dispatch")
        )
        self.immediate_polls = ImmediatePolls(lease=options.lease)
        self.recorder = Recorder(
            units_of_work=self.units_of_work,
            clock=clock,
            planner=self.planner,
            slots=self.slots,
            immediate_polls=self.immediate_polls,
            subscriptions=_subscriptions(options),
            new_id=self.new_id,
            pricing=options.pricing,
        )
        self.inbox_worker = InboxWorker(
            recorder=self.recorder,
            inbox=store.inbox,
            tokens=self.tokens,
            clock=clock,
            confirm=options.confirm,
            read_fact=read_fact,
        )
        self.receiver = CallbackReceiver(
            recorder=self.recorder,
            inbox=store.inbox,
            inbox_worker=self.inbox_worker,
            tokens=self.tokens,
            clock=clock,
            confirm=options.confirm,
            read_fact=read_fact,
            refusals=Refusals(store=store.refusals, clock=clock),
            verifier_for=None if (verifier := options.verifier) is None else lambda _token: verifier,
        )
        self.results = TaskResults(queries=store.queries, upstream=upstream, recorder=self.recorder, files=Contents())
        self.task_service, self.submitter, self.poller = self._task_service(), self._submit(), self._reconcile()

    def _task_service(self) -> TaskService:
        policy = TaskPolicy(
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
            provider=self.upstream,
            clock=self.clock,
            policy=policy,
            inspect=None,
            new_id=self.new_id,
        )

    def _submit(self) -> Submitter:
        return Submitter(
            queue=self.store.tasks,
            blobs=self.store.blobs,
            recorder=self.recorder,
            provider=self.rate_limited,
            tokens=self.tokens,
            clock=self.clock,
            signals=self.store.signals,
            config=SubmitterConfig(
                public_url=self.options.public_url,
                lease=self.options.lease,
                concurrency=self.options.concurrency,
                limits=self.options.limits,
            ),
            jitter=lambda: 0.0,
            credit=CreditWatch(
                pauses=self.store.credit_pauses, clock=self.clock, provider="vtrix", waits=self.options.credit_waits
            ),
        )

    def _reconcile(self) -> Poller:
        return Poller(
            queue=self.store.tasks,
            run_time_stats=self.store.run_time_stats,
            retention=self.store.retention,
            recorder=self.recorder,
            provider=self.rate_limited,
            planner=self.planner,
            clock=self.clock,
            signals=self.store.signals,
            config=PollerConfig(
                lease=self.options.lease,
                concurrency=self.options.concurrency,
                resubmit_in_doubt=self.options.resubmit_in_doubt,
                retention=timedelta(days=30),
            ),
            immediate_polls=self.immediate_polls,
        )

    async def drain(self) -> None:
        """Cancel running submissions and polls."""
        await self.submitter.drain(0)
        await self.poller.drain(0)

    async def accept(self, **changes: Any) -> Task:
        """Accept a task."""
        task, _ = await self.task_service.accept(task_request(**changes))
        return task

    async def submit_due(self) -> int:
        """Submit due tasks and wait for the end."""
        started = await self.submitter.run_once()
        async with asyncio.timeout(TIMEOUT):
            await ended(self.submitter)
        return started

    async def poll_due(self) -> int:
        """Poll due tasks and wait for the end."""
        started = await self.poller.run_once()
        async with asyncio.timeout(TIMEOUT):
            await ended(self.poller)
        return started

    async def submitted(self, **changes: Any) -> Task:
        """Accept a task and submit it."""
        task = await self.accept(**changes)
        await self.submit_due()
        return await self.task(task.id)

    async def in_doubt(self) -> Task:
        """Accept a task, execute its submission and lose the reply."""
        self.upstream.creates.append(ReplyLost("time-out"))
        return await self.submitted()

    async def call_back(self, body: Json | bytes, *, request: int = -1) -> None:
        """Send a callback to the address in that request."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        await self.called_back(token_of(self.upstream.requests[request]), raw)

    async def called_back(self, token: str, raw: bytes) -> None:
        """Send a callback to the address with `token`."""
        await self.receiver.receive(self.receiver.verify_token(token), {"content-type": "application/json"}, raw)

    async def task(self, task_id: str) -> Task:
        """Return a task, which must exist."""
        task = await self.store.queries.task(TaskId(task_id))
        assert task is not None
        return task

    async def happened(self, task_id: str, kind: str = "event") -> list[str]:
        """Return the types of a task's events, oldest first, or the outcomes of its polls."""
        rows = await history_of(self.store.queries, task_id)
        return [row.get("type") or row.get("outcome") or "" for row in rows if row["kind"] == kind]

    async def callbacks(self) -> dict[str, int]:
        """Return the number of callbacks by verdict."""
        return dict((await self.store.health.gauges(self.clock.now())).callbacks)

    async def run_until(self, end: datetime, *, by: timedelta = MINUTE) -> None:
        """Sweep, submit and poll until `end`, in steps of time."""
        while self.clock.now() < end:
            self.clock.move(min(by, end - self.clock.now()))
            await self.submitter.sweep()
            await self.submit_due()
            await self.poll_due()


def _subscriptions(options: Options) -> list[Subscription]:
    every = frozenset(event.value for event in EventType)
    return [Subscription(name=name, events=every, by_request=name == "webhook") for name in options.handlers]


def task_request(**changes: Any) -> NewTask:
    """Return a valid request."""
    given: dict[str, Any] = {"client": "ann", "model": MODEL, "params": GOOD}
    return NewTask(**(given | changes))


@dataclass
class Environment:
    """One database, one provider and one clock, and the processes that use them."""

    url: str
    clock: MovedClock
    upstream: ScriptedProvider
    options: Options
    opened: list[tuple[Store, Loop]] = field(default_factory=list)

    def process(self, *, tokens: Tokens | None = None) -> Loop:
        """Start one more process on the same database, with the keys of `tokens` if given."""
        store = open_store(self.url)
        loop = Loop(store, self.clock, self.upstream, replace(self.options, tokens=tokens or self.options.tokens))
        self.opened.append((store, loop))
        return loop

    def kill(self, loop: Loop) -> Loop:
        """Crash a process, and return the next one."""
        loop.units_of_work.dead = True
        return self.process()

    async def close(self) -> None:
        """End every process."""
        for store, loop in self.opened:
            await loop.drain()
            await store.close()


@asynccontextmanager
async def open_environment(directory: Path, *, lists: bool = False, **options: Any) -> AsyncIterator[Environment]:
    """Yield an environment without a process."""
    environment = Environment(
        await database(directory), MovedClock(), ScriptedProvider(lists=lists), Options(**options)
    )
    try:
        yield environment
    finally:
        await environment.close()


@asynccontextmanager
async def open_loop(directory: Path, **options: Any) -> AsyncIterator[Loop]:
    """Yield one process in its own environment."""
    async with open_environment(directory, **options) as environment:
        yield environment.process()
