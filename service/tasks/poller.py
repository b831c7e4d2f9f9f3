"""Polling: compare tasks with the provider, so that every task settles, even without any callback."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial

import structlog

from service.concurrency.lease_pool import LeasePool
from service.domain.errors import Paused, ProviderUnavailable, Refused, StoreUnavailable, Throttled, UnknownTask
from service.domain.poll_planner import PollPlanner
from service.domain.ports.health import Retention, RunTimeStats
from service.domain.ports.provider import RateLimitedProvider
from service.domain.ports.queues import PollQueue
from service.domain.ports.signals import Clock, Signals
from service.domain.schedule_times import JITTER
from service.domain.task import Fact, Status, Task, TaskId, UpstreamId
from service.domain.task_update import NOTHING_MADE, RESUBMITTED_WARNING, TaskUpdate, fact_from_json
from service.domain.tokens import names_submission
from service.tasks.immediate_polls import ImmediatePolls
from service.tasks.recorder import Recorder

log = structlog.get_logger("boomerang.tasks")

MAX_CLOCK_SKEW = timedelta(minutes=10)
"""How much the provider's clock may differ from ours when its list is searched."""

RUN_TIMES_PER_BUCKET = 200
"""Newest run times of each bucket that estimates are based on."""

CALLBACKS_COUNTED = 1000
"""Newest tasks of all buckets on which the callback statistics are based."""

TASKS_PER_POLL_SLOT = 4
"""Tasks claimed for each concurrent poll: while results wait for their commit, the next tasks are polled."""

MAX_LATENESS = timedelta(minutes=1)
"""How late a poll of a task in doubt may be: after that, this process was stopped or busy and may have missed it."""

SECOND_WAIT_NOTE = "waits for its callback once more: nobody may have listened while it could come"
"""Stored as a task's note and compared with it. If the text changes, a task in doubt waits a third time."""

MAX_NOTE = 300
"""Characters of a note."""


@dataclass(frozen=True, kw_only=True)
class PollerConfig:
    """The operator's settings; `resubmit_in_doubt` approves a possible second charge."""

    lease: timedelta
    concurrency: int
    resubmit_in_doubt: bool
    retention: timedelta


@dataclass(kw_only=True, slots=True, eq=False)
class Poller:
    """Polls the provider about every task whose next step is due.

    `outcomes` counts the results. `behind` is true if more polls were due than could start.
    """

    queue: PollQueue
    run_time_stats: RunTimeStats
    retention: Retention
    recorder: Recorder
    provider: RateLimitedProvider
    planner: PollPlanner
    clock: Clock
    signals: Signals
    config: PollerConfig
    immediate_polls: ImmediatePolls
    outcomes: Counter[str] = field(init=False, default_factory=Counter)
    behind: bool = field(init=False, default=False)
    _polling: int = field(init=False, default=0)
    _started_at: datetime = field(init=False)
    _lease_pool: LeasePool[TaskId] = field(init=False)

    def __post_init__(self) -> None:
        self._started_at = self.clock.now()
        self._lease_pool = LeasePool(
            store=self.queue,
            clock=self.clock,
            lease=self.config.lease,
            limit=TASKS_PER_POLL_SLOT * self.config.concurrency,
            on_end=lambda: self.signals.notify("reconcile"),
        )

    def open(self) -> None:
        """From now on poll at once what becomes due by an update of this process, while capacity is free."""
        self.immediate_polls.open(self._capacity, self._start)

    async def run_once(self) -> int:
        """Start as many due polls as may run; return how many."""
        return len(await self.start_due())

    async def start_due(self) -> list[asyncio.Task[None]]:
        """Start as many due polls as may run; return their asyncio tasks."""
        limit = self._capacity() - self.immediate_polls.reserved
        if limit < 1:
            return []
        now = self.clock.now()
        overdue = not self.planner.clock_doubted()
        claimed = await self.queue.claim_polls(now=now, until=now + self.config.lease, limit=limit, overdue=overdue)
        self.behind = len(claimed) == limit
        if self._lease_pool.closed:  # since the claim was made
            await self.queue.release({task.id: task.fence for task in claimed}, due_at=now)
            return []
        return [self._start(task) for task in claimed]

    async def start_watched(self, claimed: Sequence[Task]) -> list[asyncio.Task[None]]:
        """Start polls of claimed tasks that are not due but watched; return their asyncio tasks."""
        if self._lease_pool.closed:  # since the claim was made
            await asyncio.gather(*(self.recorder.add(TaskUpdate.not_polled(task).in_between(task)) for task in claimed))
            return []
        return [self._start(task, watched=True) for task in claimed]

    def spare(self) -> int:
        """Return how many polls may start of tasks that are not due."""
        return 0 if self._lease_pool.closed else self._capacity() - self.immediate_polls.reserved

    def _capacity(self) -> int:
        """Return how many more polls may start; during a pause of the provider all due tasks are deferred."""
        ready = self.config.concurrency if self.provider.pause > timedelta() else self.provider.ready()
        return min(self._lease_pool.free_slots, self.config.concurrency - self._polling, ready)

    def _start(self, task: Task, *, watched: bool = False) -> asyncio.Task[None]:
        self._polling += 1
        until = task.leased_until or self.clock.now()
        return self._lease_pool.start(task.id, task.fence, self._poll(task, watched=watched), leased_until=until)

    async def update_estimates(self) -> None:
        """Update the estimates of run times and the callback statistics."""
        callback_stats = await self.run_time_stats.callback_stats(newest=CALLBACKS_COUNTED)
        run_times = await self.run_time_stats.run_times(per_bucket=RUN_TIMES_PER_BUCKET)
        self.planner.update_estimates(run_times, callback_stats)

    async def prune(self) -> int:
        """Delete what is older than the retention period; return the number of deleted rows."""
        return await self.retention.prune(before=self.clock.now() - self.config.retention)

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks of the running polls."""
        return self._lease_pool.running()

    def task_ids(self) -> set[TaskId]:
        """Return the tasks whose polls are running."""
        return self._lease_pool.keys()

    async def release_running(self) -> None:
        """Cancel the running polls and release their leases, so that the next claim may take them at once."""
        await self._release(await self._lease_pool.cancel_running())
        self._polling = 0  # a poll that was cancelled before its first step has not counted down

    async def drain(self, seconds: float) -> None:
        """Start no more polls, wait up to `seconds` for the running ones, and release the leases of the rest."""
        self._lease_pool.close()
        until = asyncio.get_running_loop().time() + seconds
        with suppress(TimeoutError):
            async with asyncio.timeout_at(until):
                await self.immediate_polls.close()
        await self._release(await self._lease_pool.drain(max(0.0, until - asyncio.get_running_loop().time())))

    async def _release(self, unfinished: dict[TaskId, int]) -> None:
        try:
            await self.queue.release(unfinished, due_at=self.clock.now())
        except StoreUnavailable as error:
            log.warning("failed to release leases, they will expire", error=str(error))

    async def _poll(self, task: Task, *, watched: bool) -> None:
        """Poll one task and record the result; after any error its deadline still holds."""
        try:
            update = await self._poll_once(task)
        except Throttled as throttled:
            update = self._defer(task, throttled)
        except (ProviderUnavailable, Refused) as error:
            log.warning("provider unavailable", task=task.id, error=str(error)[:200])
            update = TaskUpdate.no_answer(task, error.outcome, note=_unusable(task, str(error)))
        except Exception as error:
            log.exception("poll failed unexpectedly", task=task.id, error=type(error).__name__)
            update = TaskUpdate.no_answer(task, "broken off", note=_unusable(task, type(error).__name__))
        finally:
            self._polling -= 1
            self.signals.notify("reconcile")  # the next poll may start while this result waits for its commit
        self.outcomes[update.poll or "none"] += 1
        update = update.in_between(task) if watched else update
        result = await self.recorder.add(update)
        status = result.task.status if result.task else None
        log.info("poll", task=task.id, upstream_id=task.upstream_id, outcome=update.poll, status=status)

    def _defer(self, task: Task, throttled: Throttled) -> TaskUpdate:
        """Poll again after the pause that the provider asks for, but not after the task's deadline."""
        outcome = None if isinstance(throttled, Paused) else "throttled"
        note = None if isinstance(throttled, Paused) else _unusable(task, str(throttled))
        now = self.clock.now()
        planned = self.planner.due(task, now)
        if planned is None or throttled.retry_after is None:
            return TaskUpdate.not_polled(task, outcome=outcome, note=note)
        pause_end = now + throttled.retry_after * (1 + JITTER * self.planner.jitter())
        due_at = max(pause_end, planned)
        if now < task.deadline_at:
            due_at = min(due_at, task.deadline_at)
        return TaskUpdate.not_polled(task, due_at=due_at, outcome=outcome, note=note)

    async def _poll_once(self, task: Task) -> TaskUpdate:
        upstream_id = task.upstream_id or task.hinted_id
        if upstream_id:
            return await self._poll_by_id(task, upstream_id)
        if task.hinted_fact:
            return TaskUpdate.unconfirmed(task, fact_from_json(task.hinted_fact))
        if task.status is Status.IN_DOUBT:
            return await self._resolve_doubt(task)
        return TaskUpdate.not_polled(task)

    async def _poll_by_id(self, task: Task, upstream_id: UpstreamId) -> TaskUpdate:
        """Poll by the id of the reply; if that is unknown, by the one of a callback: a reply may name another thing."""
        try:
            fact = await self.provider.fetch(upstream_id)
        except UnknownTask:  # not yet known, or only the callback gave it this id
            if task.hinted_id and task.hinted_id != upstream_id:
                return await self._poll_by_id(task, task.hinted_id)
            return self._unknown(task)
        if upstream_id != task.upstream_id and not self._belongs_to(task, fact):
            return TaskUpdate.no_answer(task, "foreign", note=_unusable(task, "it is about another task"))
        return TaskUpdate.poll_result(task, replace(fact, upstream_id=upstream_id, correlation=None))

    def _unknown(self, task: Task) -> TaskUpdate:
        """Return the update for an id that the provider does not know.

        The fact of a callback with our payload token replaces a poll by an id that only the callback named; by the id
        of the reply, it does so at the deadline.
        """
        now = self.clock.now()
        if task.hinted_fact and (task.upstream_id is None or self.planner.overdue(task, now)):
            return TaskUpdate.unconfirmed(task, fact_from_json(task.hinted_fact))
        if task.status is Status.IN_DOUBT and self.planner.abandoned(task, now):
            return self._end_doubt(task, "unknown")
        return TaskUpdate.no_answer(task, "unknown", note=_unusable(task, "the upstream does not know the id"))

    def _belongs_to(self, task: Task, fact: Fact) -> bool:
        """Return whether a result that only a callback named is that of `task`: an echoed payload must be our token.

        The token of an older submission is accepted as well, unless that submission made nothing.
        """
        if fact.correlation is None:
            return True
        oldest = task.submission if fact.status in NOTHING_MADE else 1
        return names_submission(fact.correlation, task.id, range(oldest, task.submission + 1))

    async def _resolve_doubt(self, task: Task) -> TaskUpdate:
        """Search the provider's list for a submission in doubt; wait for its callback, or end the doubt."""
        now = self.clock.now()
        if self.provider.lists:
            newest = range(task.submission, task.submission + 1)
            matches = partial(names_submission, task_id=task.id, submissions=newest)
            since = (task.submitted_at or task.created_at) - MAX_CLOCK_SKEW
            fact = await self.provider.find(matches, since=since, until=now + MAX_CLOCK_SKEW)
            if fact:
                return TaskUpdate.poll_result(task, replace(fact, correlation=None))
            now = self.clock.now()
        if not self.planner.abandoned(task, now):
            return TaskUpdate.no_answer(task, "not found")
        if self._may_have_missed_callback(task):
            due_at = min(now + self.planner.in_doubt_for, max(now, task.deadline_at))
            return TaskUpdate.no_answer(task, "not found", due_at=due_at, note=SECOND_WAIT_NOTE)
        return self._end_doubt(task, "not found")

    def _may_have_missed_callback(self, task: Task) -> bool:
        """Return whether the callback may have come while no process listened; wait once more then, and only once."""
        if self.provider.lists or task.note == SECOND_WAIT_NOTE or task.due_at is None:
            return False
        started_late = self._started_at > task.due_at - self.planner.in_doubt_for
        return started_late or self.clock.now() > task.due_at + MAX_LATENESS

    def _end_doubt(self, task: Task, outcome: str) -> TaskUpdate:
        """Submit again if the operator approved a second charge, once and before the deadline; fail otherwise."""
        now = self.clock.now()
        if now < task.deadline_at and self.config.resubmit_in_doubt and RESUBMITTED_WARNING not in task.warnings:
            return TaskUpdate.resubmit(task, now, outcome)
        return TaskUpdate.submission_unknown(task, outcome)


def _unusable(task: Task, reason: str) -> str | None:
    """Return the note on a poll without a usable answer; the note on a second wait stays, as it is compared."""
    return (
        task.note if task.note == SECOND_WAIT_NOTE else f"the last answer to a poll was not usable: {reason}"[:MAX_NOTE]
    )
