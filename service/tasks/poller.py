"""Comparing what we believe with the upstream: every task settles, though no callback ever comes."""

import asyncio
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog

from service.concurrency.lease_pool import LeasePool
from service.domain.errors import Paused, ProviderUnavailable, Refused, StoreUnavailable, Throttled, UnknownTask
from service.domain.fact_json import fact_from_json
from service.domain.poll_planner import PollPlanner
from service.domain.ports.health import Retention, RunTimeStats
from service.domain.ports.provider import RateLimitedProvider
from service.domain.ports.queues import PollQueue
from service.domain.ports.signals import Clock, Signals
from service.domain.schedule_times import JITTER
from service.domain.task import Fact, Json, Source, Status, Task, TaskError, TaskId, UpstreamId
from service.domain.task_update import NOTHING_MADE, RESUBMITTED_WARNING, TaskUpdate
from service.domain.tokens import Tokens
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.recorder import Recorder

log = structlog.get_logger("boomerang.reconcile")

CLOCKS_APART = timedelta(minutes=10)
"""How far the upstream's clock may be from ours when its list is searched."""

RUN_TIMES_KEPT = 200
"""Newest run times of each bucket from which is learned when to ask."""

HEARD_KEPT = 1000
"""Newest tasks of all buckets from which is learned whether callbacks come."""

IN_HAND = 4
"""Tasks in hand for each question at once: while answers wait for their commit, the next ones are asked about."""

UNKNOWN = TaskError(
    code="submission_unknown",
    message="the reply to the submission was lost and nothing came after it; submit again if you accept a second bill",
)

LATE = timedelta(minutes=1)
"""How late a doubt may be looked at: later, this process slept or was busy, and may have heard nothing meanwhile."""

SECOND_WAIT_NOTE = "waits for its callback once more: nobody may have listened while it could come"
"""Stored as the task's note, and compared with it: reworded, a doubt under way would be waited for a third time."""


@dataclass(frozen=True, kw_only=True)
class PollerConfig:
    """The operator's terms; `resubmit_in_doubt` is the operator's yes to a possible second bill."""

    lease: timedelta
    concurrency: int
    resubmit_in_doubt: bool
    retention: timedelta


class Poller:
    """Asks the upstream about every task whose next step is due. `outcomes` counts the answers."""

    def __init__(
        self,
        *,
        queue: PollQueue,
        run_time_stats: RunTimeStats,
        retention: Retention,
        recorder: Recorder,
        upstream: RateLimitedProvider,
        planner: PollPlanner,
        tokens: Tokens,
        clock: Clock,
        signals: Signals,
        terms: PollerConfig,
        immediate_polls: ImmediatePolls,
    ) -> None:
        self._queue = queue
        self._run_time_stats = run_time_stats
        self._retention = retention
        self._recorder = recorder
        self._provider = upstream
        self._planner = planner
        self._tokens = tokens
        self._clock = clock
        self._signals = signals
        self._terms = terms
        self._immediate_polls = immediate_polls
        self._asking = 0
        self._listens_since = clock.now()
        self.outcomes: Counter[str] = Counter()
        self._lease_pool: LeasePool[TaskId] = LeasePool(
            most=IN_HAND * terms.concurrency,
            lease=terms.lease,
            renew=lambda held: queue.renew(held, until=clock.now() + terms.lease),
            freed=lambda: signals.notify("reconcile"),
        )

    def open(self) -> None:
        """Ask at once, from now on, about what becomes due by what is recorded here, as far as there is room."""
        self._immediate_polls.open(self._room, self._start)

    async def round(self) -> int:
        """Begin to ask about as many due tasks as may be asked at once; return how many."""
        return len(await self.begin())

    async def begin(self) -> list[asyncio.Task[None]]:
        """Begin to ask about as many due tasks as may be asked at once; return the asyncio tasks that ask."""
        limit = self._room() - self._immediate_polls.kept
        if limit < 1:
            return []
        now = self._clock.now()
        claimed = await self._queue.claim_polls(now=now, until=now + self._terms.lease, limit=limit)
        if self._lease_pool.closed:  # since the claim began
            await self._queue.release({task.id: task.fence for task in claimed}, due_at=now)
            return []
        return [self._start(task) for task in claimed]

    def _room(self) -> int:
        """Return how many more may be asked about; during a pause all that are due are looked at, and put off."""
        ready = self._terms.concurrency if self._provider.pause > timedelta() else self._provider.ready()
        return min(self._lease_pool.free_slots, self._terms.concurrency - self._asking, ready)

    def _start(self, task: Task) -> asyncio.Task[None]:
        self._asking += 1
        return self._lease_pool.start(task.id, task.fence, self._reconcile(task))

    async def update_estimates(self) -> None:
        """Read again how long tasks ran, and whether their callbacks came."""
        callback_stats = await self._run_time_stats.callback_stats(newest=HEARD_KEPT)
        self._planner.update_estimates(await self._run_time_stats.run_times(per_bucket=RUN_TIMES_KEPT), callback_stats)

    async def prune(self) -> int:
        """Delete what is older than the retention period; return the number of deleted rows."""
        return await self._retention.prune(before=self._clock.now() - self._terms.retention)

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks that ask about what is in hand."""
        return self._lease_pool.running()

    async def drain(self, seconds: float) -> None:
        """Ask no more, wait up to `seconds` for the questions in hand, and give back the leases of the rest."""
        self._lease_pool.close()
        until = asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self._immediate_polls.close()
        left = await self._lease_pool.drain(max(0.0, until - asyncio.get_running_loop().time()))
        try:
            await self._queue.release(left, due_at=self._clock.now())
        except StoreUnavailable as error:
            log.warning("leases not given back, they run out", why=str(error))

    async def _reconcile(self, task: Task) -> None:
        try:
            entry = await self._poll_guarded(task)
        finally:
            self._asking -= 1
            self._signals.notify("reconcile")  # the next may be asked about, while this answer waits for its commit
        self.outcomes[entry.poll or "none"] += 1
        recorded = await self._recorder.add(replace(entry, expires=True))
        status = recorded.task.status if recorded.task else None
        log.info("poll", task=task.id, upstream_id=task.upstream_id, outcome=entry.poll, status=status)

    async def _poll_guarded(self, task: Task) -> TaskUpdate:
        """Return what there is to record about `task` now; whatever breaks off, its deadline stands."""
        try:
            return await self._poll_once(task)
        except Throttled as throttled:
            return self._defer(task, throttled)
        except (ProviderUnavailable, Refused) as error:
            log.warning("upstream unwell", task=task.id, why=str(error)[:200])
            return self._unanswered(task, error.outcome)
        except Exception as error:
            log.exception("question broke off", task=task.id, error=type(error).__name__)
            return self._unanswered(task, "broken off")

    def _defer(self, task: Task, throttled: Throttled) -> TaskUpdate:
        """Ask again once the pause is over that the upstream asks for, but see that the task expires in time."""
        entry = TaskUpdate(
            task_id=task.id, fence=task.fence, poll=None if isinstance(throttled, Paused) else "throttled"
        )
        now = self._clock.now()
        planned = self._planner.due(task, now)
        if planned is None or throttled.retry_after is None:
            return entry
        over = now + throttled.retry_after * (1 + JITTER * self._planner.jitter())
        due_at = max(over, planned)
        return replace(entry, due_at=min(due_at, task.deadline_at) if now < task.deadline_at else due_at)

    async def _poll_once(self, task: Task) -> TaskUpdate:
        upstream_id = task.upstream_id or task.hinted_id
        if upstream_id:
            return await self._polled(task, upstream_id)
        if task.hinted_fact:
            return self._accept_unconfirmed(task, task.hinted_fact)
        if task.status is Status.IN_DOUBT:
            return await self._in_doubt(task)
        return TaskUpdate(task_id=task.id, fence=task.fence)

    async def _polled(self, task: Task, upstream_id: UpstreamId) -> TaskUpdate:
        try:
            fact = await self._provider.fetch(upstream_id)
        except UnknownTask:
            return self._unknown(task)
        if task.upstream_id is None and not self._ours_indeed(task, fact):
            return self._unanswered(task, "foreign")
        told = replace(fact, upstream_id=upstream_id, correlation=None)
        return self._answered(task, told)

    def _ours_indeed(self, task: Task, fact: Fact) -> bool:
        """Whether a task that only a callback named is ours: a payload that the upstream echoes must be our token.

        An older submission's is ours as well, as long as something comes of it.
        """
        if fact.correlation is None:
            return True
        newest = task.submission if fact.status in NOTHING_MADE else 1
        ours = [self._tokens.payload_token(task.id, one) for one in range(newest, task.submission + 1)]
        return fact.correlation in ours

    def _unknown(self, task: Task) -> TaskUpdate:
        """Return what follows when the GET knows no such id: not yet, or only the callback called it so."""
        if task.upstream_id is None and task.hinted_fact:
            return self._accept_unconfirmed(task, task.hinted_fact)
        if task.status is Status.IN_DOUBT and self._clock.now() >= self._planner.abandoned_at(task):
            return self._given_up(task, "unknown")
        return self._unanswered(task, "unknown")

    def _accept_unconfirmed(self, task: Task, told: Json) -> TaskUpdate:
        """Believe a callback's body that carried our payload token, since no GET can confirm it."""
        fact = replace(fact_from_json(told), upstream_id=None, unconfirmed=True)
        return TaskUpdate(task_id=task.id, fact=fact, source=Source.CALLBACK, fence=task.fence, poll="unknown")

    async def _in_doubt(self, task: Task) -> TaskUpdate:
        fact = await self._found(task)
        if fact:
            return self._answered(task, replace(fact, correlation=None))
        now = self._clock.now()
        if now < self._planner.abandoned_at(task):
            return self._unanswered(task, "not found")
        if self._may_have_missed_it(task):
            due_at = min(now + self._planner.in_doubt_for, max(now, task.deadline_at))
            return replace(self._unanswered(task, "not found"), due_at=due_at, note=SECOND_WAIT_NOTE)
        return self._given_up(task, "not found")

    def _may_have_missed_it(self, task: Task) -> bool:
        """Whether a callback may have come while nobody listened; it is waited for once more, and no third time."""
        if self._provider.lists or task.note == SECOND_WAIT_NOTE or task.due_at is None:
            return False
        young = self._listens_since > task.due_at - self._planner.in_doubt_for
        return young or self._clock.now() > task.due_at + LATE

    async def _found(self, task: Task) -> Fact | None:
        if not self._provider.lists:
            return None
        since = (task.submitted_at or task.created_at) - CLOCKS_APART
        token = self._tokens.payload_token(task.id, task.submission)
        return await self._provider.find(token, since=since, until=self._clock.now() + CLOCKS_APART)

    def _given_up(self, task: Task, outcome: str) -> TaskUpdate:
        in_time = self._clock.now() < task.deadline_at
        if in_time and self._terms.resubmit_in_doubt and RESUBMITTED_WARNING not in task.warnings:
            again = self._ours(task, Fact(status=Status.QUEUED, guessed=True))
            return replace(again, due_at=self._clock.now(), poll=outcome, warning=RESUBMITTED_WARNING)
        return replace(self._ours(task, Fact(status=Status.FAILED, guessed=True, error=UNKNOWN)), poll=outcome)

    def _answered(self, task: Task, fact: Fact) -> TaskUpdate:
        return TaskUpdate(task_id=task.id, fact=fact, source=Source.POLL, fence=task.fence, poll=fact.status)

    def _unanswered(self, task: Task, outcome: str) -> TaskUpdate:
        return TaskUpdate(task_id=task.id, source=Source.POLL, fence=task.fence, poll=outcome)

    def _ours(self, task: Task, fact: Fact) -> TaskUpdate:
        return TaskUpdate(task_id=task.id, fact=fact, fence=task.fence, ours_only=True)
