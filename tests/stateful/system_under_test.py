"""The use cases over one database, in a process that may lose its memory."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import count

from sqlalchemy import Table, select

from service.artifacts.contents import Contents
from service.callbacks.inbox_worker import InboxWorker
from service.callbacks.limits import BurstDetector
from service.callbacks.receiver import CallbackReceiver
from service.callbacks.refusals import Refusals
from service.deliveries.handler_slots import HandlerSlots
from service.deliveries.task_results import TaskResults
from service.domain.event_routing import Subscription
from service.domain.poll_planner import PollPlanner
from service.domain.task import EventType, Json
from service.providers.callback_bodies import read_fact
from service.storage import Store, open_store
from service.storage.delivery_tables import attempts, deliveries
from service.storage.tables import events, inbox, tasks
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.recorder import Recorder
from service.tasks.task_service import TaskPolicy, TaskService
from tests.support.no_egress_guard import any_address
from tests.support.scripted_provider import TOKENS, ScriptedProvider
from tests.support.task_loop import DEADLINE, HOUR, IN_DOUBT_FOR, LEASE, MINUTE, MovedClock

EVERY = frozenset(event.value for event in EventType)
SUBSCRIPTIONS = (
    Subscription(name="log", events=EVERY),
    Subscription(name="webhook", events=EVERY, by_request=True),
)
TABLES: dict[str, tuple[Table, str]] = {
    "tasks": (tasks, "id"),
    "events": (events, "seq"),
    "deliveries": (deliveries, "event_seq"),
    "attempts": (attempts, "number"),
    "inbox": (inbox, "received_at"),
}

Rows = dict[str, list[Json]]
"""Every row of the tables that matter, by the table's name."""


class AlwaysBurst(BurstDetector):
    """Sends every callback through the inbox."""

    def observe(self, now: datetime) -> bool:
        """Ignore a callback."""
        del now
        return True


@dataclass
class SystemUnderTest:
    """The use cases over the database at `url`; `reopen` discards everything that is not in it."""

    url: str
    clock: MovedClock
    confirm: bool
    burst: bool
    upstream: ScriptedProvider = field(default_factory=ScriptedProvider)
    numbers: "count[int]" = field(default_factory=lambda: count(1))

    def __post_init__(self) -> None:
        self._open()

    async def reopen(self) -> None:
        """Start again, like another process."""
        await self.store.close()
        self._open()

    def new_id(self) -> str:
        """Return an id that sorts by time."""
        return f"{next(self.numbers):06}"

    def _open(self) -> None:
        self.store: Store = open_store(self.url)
        planner = PollPlanner(
            poll_first=None,
            poll_max=5 * MINUTE,
            in_doubt_for=IN_DOUBT_FOR,
            retention=timedelta(days=30),
            lists=False,
            jitter=lambda: 0.0,
        )
        self.recorder = Recorder(
            units_of_work=self.store.units_of_work,
            clock=self.clock,
            planner=planner,
            slots=HandlerSlots((), lease=LEASE, notify=lambda: None),
            immediate_polls=ImmediatePolls(lease=LEASE),
            subscriptions=SUBSCRIPTIONS,
            new_id=self.new_id,
        )
        self.inbox_worker = InboxWorker(
            recorder=self.recorder,
            inbox=self.store.inbox,
            tokens=TOKENS,
            clock=self.clock,
            confirm=self.confirm,
            read_fact=read_fact,
        )
        self.receive = CallbackReceiver(
            recorder=self.recorder,
            inbox=self.store.inbox,
            inbox_worker=self.inbox_worker,
            tokens=TOKENS,
            clock=self.clock,
            confirm=self.confirm,
            read_fact=read_fact,
            refusals=Refusals(store=self.store.refusals, clock=self.clock),
            verifier_for=None,
        )
        if self.burst:
            self.receive._burst_detector = AlwaysBurst()
        self.results = TaskResults(
            queries=self.store.queries, upstream=self.upstream, recorder=self.recorder, files=Contents()
        )
        self.task_service = _task_service(self.store, self.recorder, self.upstream, self.clock, self.new_id)

    async def rows(self) -> Rows:
        """Return the rows of every table."""
        found: Rows = {}
        async with self.store._database.reading() as connection:
            for name, (table, order) in TABLES.items():
                rows = await connection.execute(select(table).order_by(table.c[order]))
                found[name] = [dict(row) for row in rows.mappings()]
        return found


def _task_service(
    store: Store, recorder: Recorder, upstream: ScriptedProvider, clock: MovedClock, new_id: Callable[[], str]
) -> TaskService:
    terms = TaskPolicy(
        provider="vtrix",
        task_deadline=DEADLINE,
        off_peak_deadline=49 * HOUR,
        handlers=frozenset({"log"}),
        refusal=any_address,
    )
    return TaskService(
        intake=store.intake,
        blobs=store.blobs,
        queries=store.queries,
        recorder=recorder,
        provider=upstream,
        clock=clock,
        policy=terms,
        inspect=None,
        new_id=new_id,
    )
