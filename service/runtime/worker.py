"""The periodic jobs of a process, and their end."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial

from service.callbacks.inbox_worker import InboxWorker
from service.callbacks.refusals import Refusals
from service.deliveries.dispatcher import Dispatcher
from service.deliveries.handler_controls import HandlerControls
from service.deliveries.handler_jobs import TOPIC, JobRunner
from service.deliveries.handler_retention import HandlerRetention
from service.deliveries.missing_handlers import MissingHandlerMonitor
from service.domain.ports.handler_pauses import CONTROLS
from service.domain.ports.provider import RateLimitedProvider
from service.domain.ports.search import SearchIndex
from service.runtime.clock_jump import ClockJumpDetector
from service.runtime.operator_events import OperatorEventJobs
from service.runtime.scheduler import PeriodicJob
from service.runtime.single_pass import SinglePass
from service.tasks.endpoints import EndpointService
from service.tasks.poller import Poller
from service.tasks.progress_polls import ProgressPolls
from service.tasks.secret_resealing import SecretResealing
from service.tasks.submitter import Submitter
from service.tasks.watched_tasks import TaskWatch

INBOX_GRACE = timedelta(seconds=15)
"""Age from which a web process records a callback in the inbox that no worker has recorded."""


@dataclass(kw_only=True, slots=True)
class Worker:
    """The use cases that process due work."""

    inbox_worker: InboxWorker
    refusals: Refusals
    submitter: Submitter
    poller: Poller
    dispatcher: Dispatcher
    provider: RateLimitedProvider
    clock_jumps: ClockJumpDetector
    missing_handlers: MissingHandlerMonitor
    progress: ProgressPolls
    watch: TaskWatch
    handler_jobs: JobRunner
    handler_retention: HandlerRetention
    search_index: SearchIndex
    endpoints: EndpointService
    resealing: SecretResealing
    controls: HandlerControls
    operator_events: OperatorEventJobs
    _single_pass: SinglePass = field(init=False)

    def __post_init__(self) -> None:
        self._single_pass = SinglePass(
            inbox_worker=self.inbox_worker,
            submitter=self.submitter,
            poller=self.poller,
            dispatcher=self.dispatcher,
            handler_jobs=self.handler_jobs,
            provider=self.provider,
        )

    def web_jobs(self) -> list[PeriodicJob]:
        """Return the jobs of a process that only serves HTTP.

        They update the estimates of run times, which answers contain, record callbacks that no worker recorded, and
        store what refused callbacks leave, which tasks are watched, and whether the provider rejects our key: it
        answers cancellations and requests for results here.
        """
        inbox = partial(self.inbox_worker.run_once, INBOX_GRACE)
        return [
            self._estimates_job(),
            self._refusals_job(),
            PeriodicJob(name="inbox", run=inbox, every=timedelta(seconds=5)),
            self._watch_job(),
            self.operator_events.key_job(),
        ]

    def jobs(self) -> list[PeriodicJob]:
        """Return every job with its interval and topic.

        From now on this process also starts deliveries and polls for what it records itself, while slots are free.
        """
        self.controls.open()
        self.dispatcher.open()
        self.inbox_worker.enable_cache()
        self.inbox_worker.slots_free = self.dispatcher.slots.free_for_batch
        self.poller.open()
        return [
            self._estimates_job(),
            self._refusals_job(),
            PeriodicJob(name="inbox", run=self.inbox_worker.run_once, every=timedelta(seconds=0.5), topic="inbox"),
            self._sweep_job(),
            self._controls_job(),
            PeriodicJob(name="submit", run=self.submitter.run_once, every=timedelta(seconds=0.5), topic="submit"),
            PeriodicJob(name="reconcile", run=self.poller.run_once, every=timedelta(seconds=0.5), topic="reconcile"),
            PeriodicJob(name="dispatch", run=self.dispatcher.run_once, every=timedelta(seconds=1), topic="dispatch"),
            PeriodicJob(name="progress", run=self.progress.run_once, every=timedelta(seconds=0.5), topic="watch"),
            self._watch_job(),
            *self._handler_jobs_job(),
            *self.operator_events.jobs(),
            self._search_job(self.search_index.advance_far),
            *self._rare_jobs(),
        ]

    def upkeep_jobs(self) -> list[PeriodicJob]:
        """Return the jobs beside submissions, polls and deliveries, for a process that starts those itself."""
        self.inbox_worker.enable_cache()
        often = [self._sweep_job(), self._estimates_job(), self._refusals_job(), self._watch_job()]
        search = self._search_job(self.search_index.advance)  # one step: a request waits for it
        return [*often, self._controls_job(), *self.operator_events.jobs(), search, *self._rare_jobs()]

    def _sweep_job(self) -> PeriodicJob:
        return PeriodicJob(name="sweep", run=self._sweep, every=timedelta(seconds=5), repeat=False)

    def _controls_job(self) -> PeriodicJob:
        every, run = timedelta(seconds=1), self.controls.refresh
        return PeriodicJob(name="controls", run=run, every=every, topic=CONTROLS, repeat=False)

    def _rare_jobs(self) -> list[PeriodicJob]:
        check = self.missing_handlers.check
        return [
            PeriodicJob(name="missing_handlers", run=check, every=timedelta(minutes=1), repeat=False),
            PeriodicJob(name="prune", run=self._prune, every=timedelta(minutes=10), repeat=False),
            PeriodicJob(name="endpoints", run=self.endpoints.wake, every=timedelta(seconds=10), repeat=False),
            PeriodicJob(name="endpoint_secrets", run=self._seal_again, every=timedelta(seconds=10), repeat=False),
        ]

    def _handler_jobs_job(self) -> list[PeriodicJob]:
        """Return the job that runs the jobs of handlers, where a loaded handler has some."""
        every, run = timedelta(seconds=1), self.handler_jobs.run_once
        return [PeriodicJob(name=TOPIC, run=run, every=every, topic=TOPIC)] if self.handler_jobs.needed else []

    def _watch_job(self) -> PeriodicJob:
        return PeriodicJob(name="watch", run=self.watch.renew, every=timedelta(seconds=2.5), repeat=False)

    def _search_job(self, run: Callable[[], Awaitable[int]]) -> PeriodicJob:
        """Return the job that makes tasks known to the search; it has time, submissions and callbacks do not."""
        return PeriodicJob(name="search", run=run, every=timedelta(seconds=0.5), repeat=False)

    def _estimates_job(self) -> PeriodicJob:
        return PeriodicJob(
            name="estimates", run=self.poller.update_estimates, every=timedelta(seconds=30), repeat=False
        )

    def _refusals_job(self) -> PeriodicJob:
        return PeriodicJob(name="refusals", run=self.refusals.flush, every=timedelta(seconds=5), repeat=False)

    async def _sweep(self) -> int:
        await self.clock_jumps.check()
        return await self.submitter.sweep()

    async def _seal_again(self) -> int:
        """Seal secrets again, and drop those that were replaced long ago; neither while the clock is doubted."""
        return 0 if self.clock_jumps.doubted() else await self.resealing.run()

    async def _prune(self) -> int:
        """Delete what is old; after a jump of the clock everything may only look so."""
        await self.clock_jumps.check()
        if self.clock_jumps.doubted():
            return 0
        parts = (self.poller, self.handler_retention, self.controls, self.operator_events.queue)
        return sum([await part.prune() for part in parts])

    async def reconcile_once(self, *, start_within: timedelta | None = None) -> dict[str, int]:
        """Process everything that is due now and what becomes due by that; return how many of each kind."""
        await self.controls.refresh()
        return await self._single_pass.run(start_within=start_within)

    async def drain(self, seconds: float) -> None:
        """Start nothing more, wait up to `seconds` for running work, and release the leases of the rest."""
        parts = (self._single_pass, self.submitter, self.poller, self.dispatcher, self.handler_jobs)
        await asyncio.gather(*(part.drain(seconds) for part in parts))
