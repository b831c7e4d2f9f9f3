"""Connects operator events: what looks for them, and what hands them to handlers."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from service.deliveries.handler_api import Handler
from service.deliveries.operator_handlers import OperatorEventQueue
from service.domain.ports.operator_events import OPERATOR_EVENTS
from service.domain.ports.signals import Clock
from service.providers import RateLimitedClient
from service.runtime.config.settings import Settings
from service.runtime.limits import limits_of
from service.runtime.scheduler import PeriodicJob
from service.storage import Store
from service.tasks.operator_watch import OperatorWatch


@dataclass(kw_only=True, slots=True)
class OperatorEventJobs:
    """The jobs of operator events."""

    watch: OperatorWatch
    queue: OperatorEventQueue

    def jobs(self) -> list[PeriodicJob]:
        """Return the job that looks for conditions, and the one that hands events to handlers, if one asks for them."""
        every = timedelta(minutes=1)
        watch = PeriodicJob(name="operator_watch", run=self.watch.check, every=every, repeat=False)
        if not self.queue.needed:
            return [watch]
        run, often = self.queue.hand_over, timedelta(seconds=5)
        return [watch, PeriodicJob(name=OPERATOR_EVENTS, run=run, every=often, topic=OPERATOR_EVENTS)]


def operator_event_jobs(
    settings: Settings, store: Store, handlers: Iterable[Handler], upstream: RateLimitedClient, clock: Clock
) -> OperatorEventJobs:
    """Return the jobs; the parameters are parts of the application."""
    watch = OperatorWatch(
        events=store.operator_events,
        spending=store.tasks,
        stats=store.run_time_stats,
        requests=lambda: upstream.requests,
        clock=clock,
        limits=limits_of(settings),
        callbacks=settings.public_url is not None,
    )
    return OperatorEventJobs(
        watch=watch, queue=OperatorEventQueue(handlers=handlers, events=store.operator_events, clock=clock)
    )
