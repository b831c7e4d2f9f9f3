"""Submitting: written down before it is sent, and never paid for twice without a person's word."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import structlog

from service.concurrency.lease_pool import LeasePool
from service.domain.callback import callback_address
from service.domain.errors import NotSent, Refused, ReplyLost, StoreUnavailable, Throttled
from service.domain.models.media_descriptors import restore
from service.domain.ports.provider import ProviderRequest, RateLimitedProvider
from service.domain.ports.queues import Limits, SubmissionQueue
from service.domain.ports.signals import Clock, Signals
from service.domain.ports.tasks import BlobStore
from service.domain.retry_schedule import next_submission
from service.domain.task import Fact, Source, Status, Task, TaskError, TaskId
from service.domain.task_update import TaskUpdate, UpdateResult
from service.domain.tokens import Tokens
from service.tasks.recorder import Recorder
from service.tasks.submission_guard import ShuttingDown, SubmissionGuard
from service.tasks.submission_request import BlobsExpired, meta_data, request_size

log = structlog.get_logger("boomerang.submit")

TOKEN_GRACE = timedelta(days=7)
"""How long after its deadline a task's callback is still listened to."""

LAST_WORD = 1.5
"""Seconds that a stop leaves the database to take in what came of a submission."""

SAY_EVERY = timedelta(seconds=5)
LONG_AGO = datetime.min.replace(tzinfo=UTC)

Claimed = tuple[TaskId, int]
"""A claim in hand: the task and its fence, since one process may hold a task by an older claim and a newer one."""


@dataclass(frozen=True, kw_only=True)
class SubmitterConfig:
    """The operator's terms for submissions; with `public_url` None no callback address is sent."""

    public_url: str | None
    lease: timedelta
    concurrency: int
    limits: Limits


class Submitter:
    """Claims queued tasks and submits each of them once."""

    def __init__(
        self,
        *,
        queue: SubmissionQueue,
        blobs: BlobStore,
        recorder: Recorder,
        upstream: RateLimitedProvider,
        tokens: Tokens,
        clock: Clock,
        signals: Signals,
        terms: SubmitterConfig,
        jitter: Callable[[], float],
    ) -> None:
        self._queue = queue
        self._blobs = blobs
        self._recorder = recorder
        self._provider = upstream
        self._tokens = tokens
        self._clock = clock
        self._terms = terms
        self._jitter = jitter
        self._said_at = LONG_AGO
        self._leased_until: dict[Claimed, datetime] = {}
        self._lease_pool: LeasePool[TaskId] = LeasePool(
            most=terms.concurrency,
            lease=terms.lease,
            renew=self._renew,
            freed=lambda: signals.notify("submit"),
        )

    async def round(self) -> int:
        """Begin as many due submissions as may go at once; return how many."""
        return len(await self.begin())

    async def begin(self) -> list[asyncio.Task[None]]:
        """Begin as many due submissions as may go at once; return the asyncio tasks that carry them out.

        No more is claimed than can be sent without waiting: a crash leaves in doubt only what may really have left.
        """
        limit = min(self._lease_pool.free_slots, self._provider.ready())
        if limit < 1:
            return []
        now = self._clock.now()
        claimed = await self._queue.claim_submissions(
            now=now, until=now + self._terms.lease, limit=limit, limits=self._terms.limits
        )
        if self._lease_pool.closed:  # since the claim began
            await asyncio.gather(*(self._recorder.add(self._unsent(task)) for task in claimed))
            return []
        self._leased_until.update(((task.id, task.fence), now + self._terms.lease) for task in claimed)
        begun = [self._lease_pool.start(task.id, task.fence, self._submit(task)) for task in claimed]
        if len(claimed) < limit:
            await self._note_waiting_tasks(now)
        return begun

    async def _note_waiting_tasks(self, now: datetime) -> None:
        """Note on what stays queued which of the operator's limits it waits for; not in every round."""
        if self._terms.limits == Limits() or now < self._said_at + SAY_EVERY:
            return
        self._said_at = now
        if held_back := await self._queue.held_back(now=now, limits=self._terms.limits):
            await self._queue.note_waiting(_why_held_back(held_back, self._terms.limits), now=now)

    async def sweep(self) -> int:
        """Book submissions whose worker has died as in doubt; return how many.

        Those in hand here live, though their leases may have run out while this machine slept.
        """
        await self._lease_pool.renew()
        abandoned = await self._queue.sweep(now=self._clock.now())
        lost = [replace(self._lost(task), only_if=Status.SUBMITTING) for task in abandoned]
        await asyncio.gather(*map(self._recorder.add, lost))
        return len(abandoned)

    def running(self) -> set[asyncio.Task[None]]:
        """Return the asyncio tasks that carry out what is in hand."""
        return self._lease_pool.running()

    async def drain(self, seconds: float) -> None:
        """Wait up to `seconds` for the submissions in hand; of the rest, what has not left yet is queued again."""
        await self._lease_pool.drain(seconds)

    async def _renew(self, held: Mapping[TaskId, int]) -> set[TaskId]:
        until = self._clock.now() + self._terms.lease
        kept = await self._queue.renew(held, until=until)
        renewed = {(one, held[one]) for one in kept}
        self._leased_until = {one: until if one in renewed else then for one, then in self._leased_until.items()}
        return kept

    def _lease_valid(self, task: Task) -> bool:
        """Whether nobody else may have taken `task` for abandoned, as after a sleep of this machine."""
        return self._clock.now() < self._leased_until.get((task.id, task.fence), LONG_AGO)

    async def _submit(self, task: Task) -> None:
        started = self._clock.now()
        sending = SubmissionGuard(allowed=lambda: self._lease_valid(task), stopping=lambda: self._lease_pool.closed)
        try:
            entry = await self._sent(task, sending)
        except asyncio.CancelledError:  # what may have left is in doubt
            cut_off = self._lost(task) if sending.begun else self._unsent(task)
            await asyncio.shield(self._recorder.add(cut_off))
            raise
        recorded = await self._surely_recorded(entry)
        status = recorded.task.status if recorded.task else None
        seconds = (self._clock.now() - started).total_seconds()
        why = entry.note or _code(entry)
        log.info(
            "submission",
            task=task.id,
            submission=task.submission,
            status=status,
            seconds=round(seconds, 3),
            **({"why": why} if why else {}),
        )

    async def _surely_recorded(self, entry: TaskUpdate) -> UpdateResult:
        """Record what came of a submission, in spite of a stop: a reply in hand may be all that names a bill."""
        recording = asyncio.ensure_future(self._recorder.add_with_retry(entry))
        try:
            return await asyncio.shield(recording)
        except asyncio.CancelledError:
            await asyncio.wait([recording], timeout=LAST_WORD)
            recording.cancel()
            raise

    async def _sent(self, task: Task, sending: SubmissionGuard) -> TaskUpdate:
        """Send the task, and return what there is to record about it."""
        try:
            async with self._provider.room(request_size(task)):
                order = await self._order(task)
                fact = await self._provider.create(order, sent=sending.begin)
        except ShuttingDown:
            return self._unsent(task)
        except (NotSent, Throttled) as error:
            return self._later(task, error)
        except Refused as refused:
            fact = Fact(status=Status.FAILED, error=TaskError(code=refused.code, message=refused.message))
        except BlobsExpired as gone:
            fact = Fact(status=Status.FAILED, error=TaskError(code="inputs_gone", message=str(gone)))
        except Exception as error:  # noqa: BLE001 - whatever went wrong: only what was being sent may have left
            return self._after_error(task, sending, error)
        finally:
            self._leased_until.pop((task.id, task.fence), None)
        return TaskUpdate(
            task_id=task.id, fact=fact, source=Source.SUBMIT, fence=task.fence, submission=task.submission
        )

    def _after_error(self, task: Task, sending: SubmissionGuard, error: Exception) -> TaskUpdate:
        unforeseen = None if isinstance(error, ReplyLost | StoreUnavailable) else error
        log.warning(
            "reply lost" if sending.begun else "not sent",
            task=task.id,
            submission=task.submission,
            why=f"{type(error).__name__}: {error}"[:200],
            exc_info=unforeseen,
        )
        if sending.begun:
            return self._lost(task)
        return self._later(task, NotSent(f"it could not be prepared ({type(error).__name__})"))

    def _later(self, task: Task, error: NotSent | Throttled) -> TaskUpdate:
        """Queue again what surely never left."""
        retry_after = error.retry_after if isinstance(error, Throttled) else None
        due_at = next_submission(task.tries, self._clock.now(), self._jitter(), retry_after)
        note = f"waits to be submitted again: {error}"[:200]
        return replace(self._ours(task, Status.QUEUED), tried=True, due_at=due_at, note=note)

    def _unsent(self, task: Task) -> TaskUpdate:
        """Queue at once what a stop kept from leaving."""
        return replace(self._ours(task, Status.QUEUED), due_at=self._clock.now())

    def _lost(self, task: Task) -> TaskUpdate:
        return self._ours(task, Status.IN_DOUBT)

    def _ours(self, task: Task, status: Status) -> TaskUpdate:
        return TaskUpdate(task_id=task.id, fact=Fact(status=status, guessed=True), fence=task.fence, ours_only=True)

    async def _order(self, task: Task) -> ProviderRequest:
        blobs = await self._blobs.load(task.id)
        try:
            params = restore(task.params, blobs)
        except KeyError as missing:
            raise BlobsExpired(f"{missing.args[0]} is not stored any more; submit the task again with it") from missing
        return ProviderRequest(
            model=task.model,
            params=params,
            payload=self._tokens.payload_token(task.id, task.submission),
            meta_data=meta_data(blobs.get("meta_data"), task.id),
            callback_url=self._callback_url(task),
        )

    def _callback_url(self, task: Task) -> str | None:
        if self._terms.public_url is None:
            return None
        token = self._tokens.callback_token(task.id, task.submission, task.deadline_at + TOKEN_GRACE)
        return callback_address(self._terms.public_url, token)


def _code(entry: TaskUpdate) -> str | None:
    """Return the error's code alone: its message may repeat what the caller sent, which no log keeps."""
    return entry.fact.error.code if entry.fact and entry.fact.error else None


def _why_held_back(limit: str, limits: Limits) -> str:
    if limit == "budget":
        return f"waits: the day's BUDGET of {limits.budget:g} dollars is reached"
    return f"waits: MAX_IN_FLIGHT, {limits.max_in_flight} unfinished tasks at the upstream, is reached"
