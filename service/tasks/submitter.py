"""Submitting tasks: each claim is durable before anything is sent, and no charge is risked twice without approval."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import structlog

from service.concurrency.lease_pool import LeasePool
from service.domain.callback import callback_address
from service.domain.error_kinds import request_texts
from service.domain.errors import NotSent, Refused, ReplyLost, StoreUnavailable, Throttled
from service.domain.models.media_descriptors import restore
from service.domain.ports.provider import ProviderRequest, RateLimitedProvider
from service.domain.ports.queues import SubmissionQueue
from service.domain.ports.signals import Clock, Signals
from service.domain.ports.tasks import BlobStore
from service.domain.retry_schedule import next_submission
from service.domain.submission_limits import LimitName, Limits
from service.domain.task import Fact, Status, Task, TaskError, TaskId
from service.domain.task_update import TaskUpdate, UpdateResult
from service.domain.task_wait import Wait, WaitReason
from service.domain.tokens import Tokens
from service.tasks.credit_watch import CreditWatch
from service.tasks.recorder import Recorder
from service.tasks.submission_guard import ShuttingDown, SubmissionGuard
from service.tasks.submission_request import BlobsExpired, meta_data, request_size
from service.tasks.wait_reasons import WaitReasons

log = structlog.get_logger("boomerang.tasks")

TOKEN_GRACE = timedelta(days=7)
"""How long after its deadline a task's callback token is valid."""

FINAL_COMMIT_GRACE = 1.5
"""Seconds that a shutdown waits for the commit of a reply."""

CHECK_INTERVAL = timedelta(seconds=5)
"""Least time between two checks whether tasks wait for a limit."""

MAX_NOTE = 300
"""Characters of a note."""

MAX_DETAIL = 200
"""Characters of a reason in the history."""

LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class SubmitterConfig:
    """The operator's settings for submissions; with `public_url` None no callback address is sent."""

    public_url: str | None
    lease: timedelta
    concurrency: int
    limits: Limits


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The update for the result of a submission; `no_credit` is the code of a refusal for want of credit, else None."""

    update: TaskUpdate
    no_credit: str | None = None


@dataclass(kw_only=True, slots=True, eq=False)
class Submitter:
    """Claims queued tasks and submits each of them once. `jitter` returns a number from 0 to 1.

    `behind` is true if more tasks may have been due than could be submitted.
    """

    queue: SubmissionQueue
    blobs: BlobStore
    recorder: Recorder
    provider: RateLimitedProvider
    tokens: Tokens
    clock: Clock
    signals: Signals
    config: SubmitterConfig
    jitter: Callable[[], float]
    credit: CreditWatch
    behind: bool = field(init=False, default=False)
    _checked_at: datetime = field(init=False, default=LONG_AGO)
    _limit_reached: LimitName | None = field(init=False, default=None)
    _unanswered: int = field(init=False, default=0)
    _waits: WaitReasons = field(init=False, default_factory=WaitReasons)
    _lease_pool: LeasePool[TaskId] = field(init=False)

    def __post_init__(self) -> None:
        self._lease_pool = LeasePool(
            store=self.queue,
            clock=self.clock,
            lease=self.config.lease,
            limit=self.config.concurrency,
            on_end=lambda: self.signals.notify("submit"),
        )

    async def run_once(self) -> int:
        """Start as many due submissions as may run; return how many."""
        return len(await self.start_due())

    async def start_due(self) -> list[asyncio.Task[None]]:
        """Start as many due submissions as may run; return their asyncio tasks.

        No more are claimed than can be sent without waiting: a crash leaves in doubt only what may have been sent.
        """
        limit, now = min(self._lease_pool.free_slots, self.provider.ready()), self.clock.now()
        if limit < 1:
            self._waits.note("provider_pause" if self.provider.pause else "upstream_rate", now)
            return []
        until = now + self.config.lease
        claimed = await self.queue.claim_submissions(now=now, until=until, limit=limit, limits=self.config.limits)
        if self._lease_pool.closed:  # since the claim was made
            await asyncio.gather(*(self.recorder.add(TaskUpdate.requeue(task, now)) for task in claimed))
            return []
        started = [
            self._lease_pool.start(task.id, task.fence, self._submit(task), leased_until=until) for task in claimed
        ]
        self.behind = len(claimed) == limit
        if not self.behind:
            await self._note_reached_limit(now)
        else:
            self._waits.note("upstream_rate", now)
        return started

    async def _note_reached_limit(self, now: datetime) -> None:
        """Note, and log once, that all queued tasks wait for a limit; checks at most once in CHECK_INTERVAL."""
        limits = self.config.limits
        if self.credit.pause:
            self._waits.note("no_credit", now)
            return
        if not limits.any or now < self._checked_at + CHECK_INTERVAL:
            return
        self._checked_at = now
        reached = await self.queue.limit_reached(now=now, limits=limits)
        if reached:
            self._waits.note(reached, now)
        if reached and reached != self._limit_reached:
            log.warning("submissions wait for a limit", limit=reached.upper())
        self._limit_reached = reached

    async def sweep(self) -> int:
        """Mark submissions whose worker has crashed as in doubt; return how many.

        Those of this process are alive, even if their leases expired while the machine was suspended.
        """
        await self.credit.refresh()
        await self._lease_pool.renew()
        abandoned = await self.queue.sweep(now=self.clock.now())
        await asyncio.gather(*(self.recorder.add(TaskUpdate.abandoned(task)) for task in abandoned))
        return len(abandoned)

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks of the running submissions."""
        return self._lease_pool.running()

    def task_ids(self) -> set[TaskId]:
        """Return the tasks whose submissions are running."""
        return self._lease_pool.keys()

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for the running submissions; requeue those of the rest that were not sent."""
        await self._lease_pool.drain(seconds)

    async def _submit(self, task: Task) -> None:
        started = self.clock.now()
        guard = SubmissionGuard(
            allowed=lambda: self._lease_pool.lease_valid(task.id, task.fence),
            stopping=lambda: self._lease_pool.closed,
        )
        self._unanswered += 1
        try:
            reply = await self._send(task, guard)
        except asyncio.CancelledError:
            unsent = TaskUpdate.requeue(task, self.clock.now())
            await asyncio.shield(self.recorder.add(TaskUpdate.in_doubt(task) if guard.begun else unsent))
            raise
        finally:
            self._unanswered -= 1
        update = replace(reply.update, waits=(*self._waits.waits_of(task), *reply.update.waits))
        result = await self._record_despite_shutdown(task, replace(reply, update=update))
        fact, seconds = update.fact, (self.clock.now() - started).total_seconds()
        # only the error's code: its message may repeat the caller's values, which are never logged
        error = update.note or (fact.error.code if fact and fact.error else None)
        log.info(
            "submission",
            task=task.id,
            submission=task.submission,
            status=result.task.status if result.task else None,
            seconds=round(seconds, 3),
            **({"error": error} if error else {}),
        )

    async def _record_despite_shutdown(self, task: Task, reply: Reply) -> UpdateResult:
        """Record the result of a submission, also during a shutdown: no one else may know the provider's id."""
        recording = asyncio.ensure_future(self._record(task, reply))
        try:
            return await asyncio.shield(recording)
        except asyncio.CancelledError:
            await asyncio.wait([recording], timeout=FINAL_COMMIT_GRACE)
            recording.cancel()
            raise

    async def _record(self, task: Task, reply: Reply) -> UpdateResult:
        """Record a reply. A pause of submissions is stored first: the task that is queued again would be claimed."""
        if reply.no_credit is not None:
            await self.credit.refused(task, reply.no_credit)
        result = await self.recorder.add_with_retry(reply.update, more_soon=self._unanswered > 0)
        fact = reply.update.fact
        if reply.no_credit is None and fact and fact.upstream_id:
            await self.credit.accepted(task)
        return result

    async def _send(self, task: Task, guard: SubmissionGuard) -> Reply:
        """Send the task; return the update for the result."""
        request: ProviderRequest | None = None
        names_task = False
        try:
            async with self.provider.hold_bytes(request_size(task)):
                request = await self._request(task)
                fact = await self.provider.create(request, sent=guard.begin)
        except ShuttingDown:
            return Reply(update=TaskUpdate.requeue(task, self.clock.now()))
        except (NotSent, Throttled) as error:
            return Reply(update=self._retry(task, error))
        except Refused as refused:
            fact = Fact(status=Status.FAILED, error=TaskError(code=refused.code, message=refused.message))
            names_task = refused.names_task
        except BlobsExpired as expired:
            fact = Fact(status=Status.FAILED, error=TaskError(code="inputs_gone", message=str(expired)))
        except Exception as error:  # noqa: BLE001 - for any error: the request was sent only if the guard has begun
            return Reply(update=self._after_error(task, guard, error))
        if fact.status is Status.FAILED and fact.error and fact.upstream_id is None:
            return self._after_refusal(task, request, fact, names_task=names_task)
        return Reply(update=TaskUpdate.reply(task, fact))

    def _after_refusal(self, task: Task, request: ProviderRequest | None, failed: Fact, *, names_task: bool) -> Reply:
        """Return the result of a refusal: for want of credit the task is queued again, unless it may name a task."""
        error, sent = failed.error, request_texts(task.params, request.meta_data if request else None)
        if error is None or not self.credit.is_refusal(error, sent):
            return Reply(update=TaskUpdate.reply(task, failed))
        if names_task:
            return Reply(update=TaskUpdate.reply(task, failed), no_credit=error.code)
        now = self.clock.now()
        text = f"{error.code}: {error.message}"[:MAX_DETAIL]
        wait = Wait(reason="no_credit", first_at=now, last_at=now, detail=text)
        return Reply(update=TaskUpdate.retry(task, now, None, wait), no_credit=error.code)

    def _after_error(self, task: Task, guard: SubmissionGuard, error: Exception) -> TaskUpdate:
        log.warning(
            "submission reply lost" if guard.begun else "submission not sent",
            task=task.id,
            submission=task.submission,
            error=f"{type(error).__name__}: {error}"[:200],
            exc_info=None if isinstance(error, ReplyLost | StoreUnavailable) else error,
        )
        if guard.begun:
            reason = str(error) if isinstance(error, ReplyLost) else type(error).__name__
            return TaskUpdate.in_doubt(task, f"the reply to the submission was not usable: {reason}"[:MAX_NOTE])
        return self._retry(task, NotSent(f"it could not be prepared ({type(error).__name__})"))

    def _retry(self, task: Task, error: NotSent | Throttled) -> TaskUpdate:
        retry_after, now = error.retry_after if isinstance(error, Throttled) else None, self.clock.now()
        due_at = next_submission(task.tries, now, self.jitter(), retry_after)
        reason: WaitReason = "throttled" if isinstance(error, Throttled) else "not_sent"
        wait = Wait(reason=reason, first_at=now, last_at=now, detail=str(error)[:MAX_DETAIL])
        note = f"waits to be submitted again: {error}"[:MAX_DETAIL]
        return TaskUpdate.retry(task, due_at, note, wait)

    async def _request(self, task: Task) -> ProviderRequest:
        """Return the provider request of `task`; raises BlobsExpired if its media are no longer stored."""
        blobs = await self.blobs.load(task.id)
        try:
            params = restore(task.params, blobs)
        except KeyError as missing:
            raise BlobsExpired(f"{missing.args[0]} is not stored any more; submit the task again with it") from missing
        callback_url = None
        if self.config.public_url is not None:
            token = self.tokens.callback_token(task.id, task.submission, task.deadline_at + TOKEN_GRACE)
            callback_url = callback_address(self.config.public_url, token)
        return ProviderRequest(
            model=task.model,
            params=params,
            payload=self.tokens.payload_token(task.id, task.submission),
            meta_data=meta_data(blobs.get("meta_data"), task.id, task.model),
            callback_url=callback_url,
        )
